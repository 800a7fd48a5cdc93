"""Timing on machines that are noisy."""

import time
from collections.abc import Callable, Sequence
from statistics import median

SECONDS = 10.0
MAX_RUNS = 20


def median_seconds(calls: Sequence[Callable[[], object]], seconds: float = SECONDS) -> tuple[list[float], int]:
    """The median time of each call, and of how many: they take turns, after one round that is not counted.

    Args:
        calls: what is timed.
        seconds: about how long the timed rounds may take together; one is timed however slow the calls are.
    """
    first = _timed(calls)
    wanted = min(MAX_RUNS, max(1, int(seconds / max(sum(first), 1e-9))))
    rounds = [_timed(calls) for _ in range(wanted)]
    return [median(times) for times in zip(*rounds, strict=True)], wanted


def _timed(calls: Sequence[Callable[[], object]]) -> list[float]:
    seconds: list[float] = []
    for call in calls:
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds
