"""PSNR in the conventions of the field: the estimate rounded to 8 bits, ``scale`` pixels of border left out."""

import math

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_LUMA = (65.481, 128.553, 24.966)  # of R, G, B in [0, 1]


def luma(image: Image) -> NDArray[np.float64]:
    """Y of ITU-R BT.601 in [16, 235], not rounded, as MATLAB's ``rgb2ycbcr`` computes it before rounding.

    Args:
        image: uint8 (H, W, 3) RGB, or (H, W, 1), which is returned unchanged.
    """
    if image.shape[2] == 1:
        return image[..., 0].astype(np.float64)
    red, green, blue = (image[..., c] * (_LUMA[c] / 255.0) for c in range(3))
    return red + green + blue + 16.0


def psnr(estimate: Image, truth: Image, shave: int) -> float:
    """Peak signal-to-noise ratio in dB over all channels, peak 255; infinite for equal images.

    Args:
        estimate, truth: uint8 (H, W, C) of one size.
        shave: pixels left out at each side, by convention the scale.

    Raises:
        ValueError: the sizes differ, or nothing is left after shaving.
    """
    return _psnr(estimate.astype(np.float64), truth.astype(np.float64), shave)


def psnr_y(estimate: Image, truth: Image, shave: int) -> float:
    """``psnr`` of the luma alone (PSNR-Y)."""
    return _psnr(luma(estimate), luma(truth), shave)


def _psnr(estimate: NDArray[np.float64], truth: NDArray[np.float64], shave: int) -> float:
    if estimate.shape != truth.shape:
        raise ValueError(f"images of different size: {estimate.shape} and {truth.shape}")
    height, width = truth.shape[:2]
    if min(height, width) <= 2 * shave:
        raise ValueError(f"nothing left of a {width}x{height} image after shaving {shave} pixels")
    inside = (slice(shave, height - shave), slice(shave, width - shave))
    error = float(np.mean((estimate[inside] - truth[inside]) ** 2))
    return 10 * math.log10(255.0**2 / error) if error else math.inf
