"""What a run leaves behind beside weights and pictures: train.log, metrics.jsonl, TensorBoard."""

import json
import logging
import time
from contextlib import ExitStack
from logging.handlers import MemoryHandler
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

import swinlet
from swinlet.errors import CheckpointError
from swinlet.options import Options
from swinlet.utils.console import LOGGER, log_to_file
from swinlet.utils.finite import finite

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """The log files of one run; a context manager.

    What is logged before ``open`` is kept, so that a run whose options or images are refused writes nothing, and
    train.log still tells the whole story.

    ``metrics.jsonl`` holds one JSON object a line, each with ``type``, ``step`` and ``time`` (seconds since 1970). A
    run that was stopped and resumed appends: a ``start`` record tells from which step, and for a step that occurs
    twice the later record counts.

    Args:
        opt: of the run.
        writes: False in all processes but the main one: the log takes everything, and writes nothing.
    """

    def __init__(self, opt: Options, *, writes: bool = True) -> None:
        self._opt, self._writes = opt, writes
        self._early = MemoryHandler(capacity=1000, flushLevel=logging.CRITICAL + 1)
        self._open = ExitStack()
        self._metrics: TextIO | None = None
        self._board: Any = None

    def __enter__(self) -> "RunLog":
        LOGGER.addHandler(self._early)
        LOGGER.setLevel(logging.INFO)
        self._open.callback(LOGGER.removeHandler, self._early)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def open(self, start: int) -> None:
        """Create the files in ``opt.run_dir``; ``start`` is the last step already done.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        if not self._writes:
            return
        folder = self._opt.run_dir
        options = self._opt.model_dump(mode="json", by_alias=True)
        try:
            _save_options(folder / "options", options)
            self._metrics = self._open.enter_context((folder / METRICS_FILE).open("a", encoding="utf-8"))
            self._open.enter_context(log_to_file(folder / "train.log", self._early))
        except OSError as error:
            raise CheckpointError(f"path.root: cannot write to {folder}: {error}") from error
        self._board = _open_tensorboard(folder / "tensorboard", start)
        if self._board is not None:
            self._open.callback(self._board.close)
        self.record("start", start, version=swinlet.__version__, options=options)

    def record(self, kind: str, step: int, **values: Any) -> None:
        """Append a line to metrics.jsonl. Numbers that JSON lacks (infinite PSNR, NaN losses) become null."""
        if not self._writes:
            return
        line = {"type": kind, "step": step, "time": round(time.time(), 3), **values}
        assert self._metrics is not None, "open() comes first"
        self._metrics.write(json.dumps(finite(line)) + "\n")
        self._metrics.flush()

    def has_tests(self, step: int, sets: set[str]) -> bool:
        """Whether metrics.jsonl tells of a test of each of these sets at this step."""
        found: set[str] = set()
        for line in (self._opt.run_dir / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record: Any = json.loads(line)
            except (ValueError, RecursionError):  # torn when the run was killed
                continue
            if isinstance(record, dict) and (record.get("type"), record.get("step")) == ("test", step):  # pyright: ignore[reportUnknownMemberType]
                found.add(cast("dict[str, str]", record).get("set", "test"))
        return found.issuperset(sets)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Curves for TensorBoard."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """A picture (H, W, C) for TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, image, step, dataformats="HWC")


def _open_tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        LOGGER.info("no TensorBoard curves: pip install 'swinlet[tracking]' adds them")
        return None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)


def _save_options(folder: Path, options: dict[str, Any]) -> None:
    """One file a start, none overwritten: what the run really used, defaults included."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%y%m%d_%H%M%S")
    names = [f"train_{stamp}.json", *(f"train_{stamp}_{i}.json" for i in range(2, 100))]
    path = next(folder / name for name in names if not (folder / name).exists())
    path.write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")
