"""Ctrl-C, SIGTERM and SIGHUP as a request to finish the current iteration, save and leave."""

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from swinlet.utils.console import LOGGER

_PASSED_ON = 10.0
"""Seconds: torchrun passes a Ctrl-C on to processes that have it from the terminal already; Python may notice late."""


@dataclass
class StopRequest:
    """Number of the signal that asked to stop, 0 until then, and when it came."""

    number: int = 0
    clock: float = 0.0


@contextmanager
def cleaning_up() -> Generator[None, None, None]:
    """Make SIGTERM and SIGHUP, where they would end the process at once, leave the block as an exception does."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
    numbers = [number for name in names if signal.getsignal(number := signal.Signals[name]) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        numbers = []
    for number in numbers:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def stop_signals() -> Generator[StopRequest, None, None]:
    """Catch SIGINT, SIGTERM and, unless nohup ignores it, SIGHUP; a second SIGINT interrupts at once."""
    stop = StopRequest()
    same_request = _PASSED_ON if "LOCAL_RANK" in os.environ else 0.0

    def handle(number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if stop.number and number == signal.SIGINT and now - stop.clock > same_request:
            raise KeyboardInterrupt
        if not stop.number:
            stop.number, stop.clock = number, now
            LOGGER.info("%s: finishing this iteration, then saving", signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield stop
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)  # the terminal is gone
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
