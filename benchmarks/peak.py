"""What matrix products reach at best on this machine."""

from functools import partial

import torch

from benchmarks.measure import Clock

_SHAPES = {
    "cpu": [(1024, 1024, 1024), (2048, 2048, 2048), (4096, 512, 2048)],
    "cuda": [(4096, 4096, 4096), (8192, 8192, 8192), (16384, 1024, 8192)],
}
_RUNS = 5
_SLOW = 1.0  # seconds; larger products are not tried then, nor this one again


def matmul_peak(device: torch.device, dtype: torch.dtype, clock: Clock) -> float:
    """The most GFLOP/s that ``torch.mm`` reached over a few shapes and runs."""
    best = 0.0
    for rows, inner, columns in _SHAPES[device.type]:
        a = torch.rand(rows, inner, device=device, dtype=dtype)
        b = torch.rand(inner, columns, device=device, dtype=dtype)
        out = torch.empty(rows, columns, device=device, dtype=dtype)
        product = partial(torch.mm, a, b, out=out)
        times = [clock.seconds(product)]
        if times[0] < _SLOW:
            times += [clock.seconds(product) for _ in range(_RUNS)]
        best = max(best, 2e-9 * rows * inner * columns / min(times))
        if times[0] >= _SLOW:
            break  # as bf16 is without instructions for it
    return best
