"""Losses between two tensors, by the names of the option file; always in float32, whatever the tensors are."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from swinlet.utils.device import autocast

Loss = Callable[[Tensor, Tensor], Tensor]

SUMS = frozenset({"l2sum"})
"""Losses that grow with the number of samples; all others are means over them."""

_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for images in [0, 1]


def charbonnier(eps: float) -> Loss:
    """mean(sqrt((a - b)**2 + eps)): a smooth L1 (Lai et al., LapSRN, CVPR 2017)."""
    return lambda a, b: torch.sqrt((a - b) ** 2 + eps).mean()


def ssim_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - SSIM (Wang et al. 2004) of images (N, C, H, W) in [0, 1]; 11x11 Gaussian window inside the image,
    smaller in images that it does not fit in."""
    channels = a.shape[1]
    window = min(_SSIM_WINDOW, *a.shape[2:])
    offset = torch.arange(window, device=a.device, dtype=a.dtype) - (window - 1) / 2
    line = torch.exp(-(offset**2) / (2 * _SSIM_SIGMA**2))
    line = line / line.sum()
    kernel = torch.outer(line, line).expand(channels, 1, -1, -1)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    structure = (2 * covariance + _C2) / (var_a + var_b + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return 1 - (luminance * structure).mean()


def select_loss(name: str, charbonnier_eps: float = 1e-9) -> Loss:
    """The loss of an option value: l1, l2 (means), l2sum, charbonnier or ssim.

    Under autocast, too, it is computed in float32: means of many and small differences of large numbers are lost in
    bf16. Tensors that are float32 are not copied.
    """
    table: dict[str, Loss] = {
        "l1": F.l1_loss,
        "l2": F.mse_loss,
        "l2sum": lambda a, b: F.mse_loss(a, b, reduction="sum"),
        "charbonnier": charbonnier(charbonnier_eps),
        "ssim": ssim_loss,
    }
    return _in_float32(table[name])


def _in_float32(loss: Loss) -> Loss:
    def computed(a: Tensor, b: Tensor) -> Tensor:
        with autocast(a.device, "fp32"):
            return loss(a.float(), b.float())

    return computed
