"""What a run leaves behind beside weights and pictures: train.log, metrics.jsonl, TensorBoard."""

import json
import logging
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import swinlet
from swinlet.options import Options
from swinlet.utils.console import LOGGER, log_to_file


class RunLog:
    """The open log files of one run; a context manager.

    ``metrics.jsonl`` holds one JSON object a line, each with ``type``, ``step`` and ``time`` (seconds since 1970).
    A run that was stopped and resumed appends: a ``start`` record tells from which step, and for a step that occurs
    twice the later record counts.

    Args:
        opt: the options of the run; files go to ``opt.run_dir``, options to ``options/``.
        start: the last step already done.
    """

    def __init__(self, opt: Options, start: int) -> None:
        folder = opt.run_dir
        self._file_handler = log_to_file(folder / "train.log")
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = _open_tensorboard(folder / "tensorboard", start)
        options = opt.model_dump(mode="json", by_alias=True)
        _save_options(folder / "options", options)
        self.record("start", start, version=swinlet.__version__, options=options)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.close()
        if self._board is not None:
            self._board.close()
        LOGGER.removeHandler(self._file_handler)
        self._file_handler.close()

    def record(self, kind: str, step: int, **values: Any) -> None:
        """Append a line to metrics.jsonl. Numbers that JSON lacks (infinite PSNR, NaN losses) become null."""
        line = {"type": kind, "step": step, "time": round(time.time(), 3), **values}
        self._metrics.write(json.dumps(_finite(line)) + "\n")
        self._metrics.flush()

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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return None if isinstance(value, float) and not math.isfinite(value) else value
