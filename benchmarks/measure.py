"""Timing: contestants take turns, so that a machine whose speed drifts drifts for all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Call = Callable[[], object]

LONG_ROUND = 25.0
"""Seconds from which a round counts without one before it: a warm-up is little beside calls that long."""
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Rounds:
    """Seconds of every contestant in every round.

    Attributes:
        warmed_up: whether a round was run before those.
    """

    seconds: dict[str, list[float]]
    warmed_up: bool

    def time(self, name: str) -> Spread:
        """Seconds of a contestant."""
        return spread(self.seconds[name])

    def ratio(self, base: str, name: str) -> Spread:
        """How many times as fast as ``base``: of the ratios within each round."""
        pairs = zip(self.seconds[base], self.seconds[name], strict=True)
        return spread([slow / fast for slow, fast in pairs])


class Clock(Protocol):
    """How long a call takes."""

    warm_ups: int

    def seconds(self, call: Call) -> float:
        """Run it and tell."""
        ...


class WallClock:
    """For the CPU."""

    warm_ups = 0

    def seconds(self, call: Call) -> float:
        """Run it and tell."""
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin


class EventClock:
    """For a GPU: from its own events, so that the call is over when the time is taken."""

    warm_ups = 3

    def seconds(self, call: Call) -> float:
        """Run it and tell."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000


def clock_for(device: torch.device) -> Clock:
    """The one that suits the device."""
    return EventClock() if device.type == "cuda" else WallClock()


def interleave(calls: Mapping[str, Call], clock: Clock, budget: float, most: int) -> Rounds:
    """Time the calls in turn, round by round.

    Args:
        calls: by name.
        budget: about how many seconds the rounds may take together; three are run whatever they take, but where the
            first takes over ``LONG_ROUND`` it is the only one.
        most: rounds at most.
    """
    for call in calls.values():
        for _ in range(clock.warm_ups):
            call()
    first = _round(calls, clock)
    if sum(first) > LONG_ROUND:
        return _gathered(calls, [first], warmed_up=False)
    wanted = min(most, max(FEWEST_ROUNDS, int(budget / sum(first))))
    return _gathered(calls, [_round(calls, clock) for _ in range(wanted)], warmed_up=True)


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of one value or more."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def _round(calls: Mapping[str, Call], clock: Clock) -> list[float]:
    return [clock.seconds(call) for call in calls.values()]


def _gathered(calls: Mapping[str, Call], rounds: list[list[float]], warmed_up: bool) -> Rounds:
    return Rounds(dict(zip(calls, map(list, zip(*rounds, strict=True)), strict=True)), warmed_up)
