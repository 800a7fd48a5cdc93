"""How long a network takes for an image, on this device."""

from collections.abc import Callable, Sequence

import torch

from swinlet.evaluation.results import Latency
from swinlet.inference import Restorer
from swinlet.utils.timing import median_seconds


def measure_latency(restorers: Sequence[Restorer], size: int) -> list[Latency]:
    """Median time for one image of ``size`` x ``size`` LR pixels, with each restorer's own options."""
    seconds, runs = median_seconds([_call(restorer, size) for restorer in restorers])
    return [Latency(1000 * time, runs, size) for time in seconds]


def _call(restorer: Restorer, size: int) -> Callable[[], None]:
    """Restoring an image of noise, from start to end."""
    channels, device = restorer.network.in_chans, restorer.options.device
    image = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    _wait_for(device)

    def call() -> None:
        restorer.restore(image)
        _wait_for(device)

    return call


def _wait_for(device: torch.device) -> None:
    """GPUs work on after the call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
