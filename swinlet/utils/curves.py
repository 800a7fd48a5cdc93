"""Curves and pictures for TensorBoard."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOGGER = logging.getLogger("swinlet")
_COUNT = itertools.count()


class Curves:
    """A file of events, written as they come; where that fails, a warning says so, and the run goes on without.

    TensorBoard's own writer has a thread, which ends with a traceback when the disk is full, and then raises for
    whoever writes next.

    Args:
        folder: of the file; made where it is missing.
        start: the last step already done; what an earlier file has of later ones is hidden.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        events: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")  # made while it is imported
        self._event, self._summary = events.Event, summary
        self._records: Any = None
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(_COUNT)}"
        self._path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._records = RecordWriter(self._path.open("wb"))
        except OSError as error:
            self._give_up(error)
        self._write(file_version="brain.Event:2")
        if start:
            self._write(step=start + 1, session_log=events.SessionLog(status=events.SessionLog.START))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One point of each curve."""
        for name, value in values.items():
            self._write(step=step, summary=self._summary.scalar(name, value))

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """A picture (H, W, C)."""
        self._write(step=step, summary=self._summary.image(name, image, dataformats="HWC"))

    def close(self) -> None:
        """No more is coming."""
        if self._records is not None:
            with contextlib.suppress(OSError):  # told of before
                self._records.close()

    def _write(self, **values: Any) -> None:
        if self._records is not None:
            try:
                self._records.write(self._event(wall_time=time.time(), **values).SerializeToString())
                self._records.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        LOGGER.warning("no more TensorBoard curves: %s: %s", self._path, error.strerror or error)
        self.close()
        self._records = None
