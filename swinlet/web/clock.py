"""One computation at a time, which ends when its time is over or nobody wants it any more."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import nn

from swinlet.errors import DataError

MAX_SECONDS = 300.0
"""Of one method."""


class StoppedError(DataError):
    """Raised within a computation that was stopped, or takes too long."""


class Clock:
    """Watches the computations of networks.

    Args:
        max_seconds: that one may take.
    """

    def __init__(self, max_seconds: float = MAX_SECONDS) -> None:
        self.max_seconds = max_seconds
        self._turn = threading.Lock()
        self._deadline = 0.0
        self._owner: str | None = None
        self._is_stopped = self._is_over = False

    def watch(self, network: object) -> None:
        """Look at the clock before each layer of a network."""
        if isinstance(network, nn.Module):
            for module in network.modules():
                module.register_forward_pre_hook(self._check)

    @contextmanager
    def turn(self, owner: str) -> Generator[None, None, None]:
        """Compute in the block, when others have finished.

        Raises:
            StoppedError: in a network that is watched: the time is over, or ``stop`` was called.
        """
        with self._turn:
            self._owner, self._is_stopped = owner, self._is_over
            self._deadline = time.monotonic() + self.max_seconds
            try:
                self._check()
                yield
            finally:
                self._owner = None

    def stop(self, owner: str) -> None:
        """End the computation that is going on, if it is this owner's."""
        if owner == self._owner:
            self._is_stopped = True

    def end(self) -> None:
        """End what is going on; nothing begins any more."""
        self._is_over = self._is_stopped = True

    def wait(self) -> None:
        """Until nothing is going on."""
        with self._turn:
            pass

    def _check(self, *_: Any) -> None:
        if self._owner is None:  # not on behalf of the page
            return
        if self._is_stopped or self._is_over:
            raise StoppedError("stopped")
        if time.monotonic() > self._deadline:
            raise StoppedError(f"not finished after {self.max_seconds:.0f} seconds: choose a smaller part")
