"""What a run leaves behind beside weights and pictures: train.log, metrics.jsonl, TensorBoard."""

import json
import logging
import os
import time
from contextlib import ExitStack
from io import FileIO
from logging.handlers import MemoryHandler
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import swinlet
from swinlet.errors import CheckpointError
from swinlet.options import Options
from swinlet.utils.console import LOGGER, log_to_file
from swinlet.utils.curves import Curves
from swinlet.utils.files import refusal, write_text
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
        self._metrics: FileIO | None = None
        self._curves: Curves | None = None

    def __enter__(self) -> "RunLog":
        LOGGER.addHandler(self._early)
        LOGGER.setLevel(logging.INFO)
        self._open.callback(LOGGER.removeHandler, self._early)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

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
            self._metrics = self._open.enter_context((folder / METRICS_FILE).open("a+b", buffering=0))
            _end_torn_line(self._metrics)
            self._open.enter_context(log_to_file(folder / "train.log", self._early))
        except OSError as error:
            path = error.filename or folder
            raise CheckpointError(f"path.root: {path}: cannot be written: {refusal(error)}") from error
        self._curves = _open_curves(folder / "tensorboard", start)
        if self._curves is not None:
            self._open.callback(self._curves.close)
        self.record("start", start, version=swinlet.__version__, options=options)

    def record(self, kind: str, step: int, **values: Any) -> None:
        """Append a line to metrics.jsonl. Numbers that JSON lacks (infinite PSNR, NaN losses) become null.

        Raises:
            CheckpointError: the file cannot be written.
        """
        if not self._writes:
            return
        line = {"type": kind, "step": step, "time": round(time.time(), 3), **values}
        assert self._metrics is not None, "open() comes first"
        rest = memoryview(f"{json.dumps(finite(line))}\n".encode())
        try:
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self._metrics.write(rest) :]
        except OSError as error:
            path = self._opt.run_dir / METRICS_FILE
            raise CheckpointError(f"{path}: cannot be written: {refusal(error)}") from error

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
        if self._curves is not None:
            self._curves.scalars(step, values)

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """A picture (H, W, C) for TensorBoard."""
        if self._curves is not None:
            self._curves.picture(step, name, image)


def _end_torn_line(file: FileIO) -> None:
    """Of a run that was killed, or whose disk was full, so that the next record begins a line."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _open_curves(folder: Path, start: int) -> Curves | None:
    try:
        return Curves(folder, start)
    except ImportError:
        LOGGER.info("no TensorBoard curves: pip install 'swinlet[tracking]' adds them")
        return None


def _save_options(folder: Path, options: dict[str, Any]) -> None:
    """One file a start, none overwritten: what the run really used, defaults included."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%y%m%d_%H%M%S")
    names = [f"train_{stamp}.json", *(f"train_{stamp}_{i}.json" for i in range(2, 100))]
    path = next(folder / name for name in names if not (folder / name).exists())
    write_text(path, json.dumps(options, indent=2) + "\n")
