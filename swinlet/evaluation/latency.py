"""How long a network takes for an image, on this device."""

import time
from collections.abc import Sequence
from statistics import median

import torch

from swinlet.evaluation.results import Latency
from swinlet.inference import Restorer

SECONDS = 10.0
"""About how long the timed rounds may take together; one is timed however slow the networks are."""
MAX_RUNS = 20


def measure_latency(restorers: Sequence[Restorer], size: int) -> list[Latency]:
    """Median time for one image of ``size`` x ``size`` LR pixels, with each restorer's own options.

    Machines are noisy: the networks take turns, after one round that is not counted.
    """
    rounds = [_timed(restorers, size)]
    wanted = min(MAX_RUNS, max(1, int(SECONDS / max(sum(rounds[0]), 1e-9))))
    rounds += [_timed(restorers, size) for _ in range(wanted)]
    return [Latency(1000 * median(times), wanted, size) for times in zip(*rounds[1:], strict=True)]


def _timed(restorers: Sequence[Restorer], size: int) -> list[float]:
    """Seconds that each restorer takes for an image of noise."""
    seconds: list[float] = []
    for restorer in restorers:
        channels = restorer.network.in_chans
        image = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0))
        image = image.to(restorer.options.device)
        _wait_for(restorer.options.device)
        begin = time.perf_counter()
        restorer.restore(image)
        _wait_for(restorer.options.device)
        seconds.append(time.perf_counter() - begin)
    return seconds


def _wait_for(device: torch.device) -> None:
    """GPUs work on after the call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
