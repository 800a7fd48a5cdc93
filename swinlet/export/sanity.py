"""Whether a network that is exported restores pictures at all: an export is right, however bad its network."""

import numpy as np
import torch
from numpy.typing import NDArray

from swinlet.inference import RestoreOptions, Restorer
from swinlet.metrics import GroundTruth, shave_of
from swinlet.models.network_swinir import SwinIR
from swinlet.utils.resize import bicubic_downscale, bicubic_upscale

_SIDE = 192  # a multiple of all scales
_FAR_BELOW = 2.0  # dB: a start from bilinear interpolation is within


def untrained(network: SwinIR) -> str | None:
    """What to say of a network that restores a test picture far worse than bicubic interpolation; None: it does not.

    Networks of scale 1 have no such rival, and are not looked at.
    """
    scale = network.upscale
    if scale == 1:
        return None
    picture = drawing(network.in_chans)
    low = bicubic_downscale(picture, scale)
    truth = GroundTruth(picture, shave_of(scale))
    device = next(network.parameters()).device
    restored = Restorer(network, RestoreOptions(device)).restore(_tensor(low, device))[0]
    estimate = restored.nan_to_num().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    ours, bicubic = truth.psnr_y(estimate), truth.psnr_y(bicubic_upscale(low, scale))
    if ours >= bicubic - _FAR_BELOW:
        return None
    return (
        f"the weights look untrained: on a test picture the network has {ours:.1f} dB (PSNR-Y), bicubic interpolation "
        f"{bicubic:.1f} dB"
    )


def drawing(channels: int) -> NDArray[np.uint8]:
    """A picture with edges, lines and soft gradients, uint8 (192, 192, channels); always the same."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    picture = np.stack([0.3 + 0.4 * rows, 0.5 + 0.2 * columns, 0.7 - 0.4 * rows * columns], axis=2)
    rng = np.random.default_rng(0)
    for _ in range(24):
        y, x, radius, colour = rng.random(), rng.random(), rng.uniform(0.03, 0.15), rng.random(3)
        picture[np.hypot(rows - y, columns - x) < radius] = colour
    stripes = (columns * 24 % 1 < 0.5) & (rows > 0.75)
    picture[stripes] *= 0.4
    pixels = np.rint(picture * 255).clip(0, 255).astype(np.uint8)
    return pixels if channels == 3 else pixels[:, :, 1:2]


def _tensor(image: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None].to(device).float() / 255
