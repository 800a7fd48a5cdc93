"""PSNR and SSIM in the conventions of the field: the estimate in 8 bits, ``scale`` pixels of border left out."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[np.float64]

METRICS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
"""What ``GroundTruth.score`` computes. For gray images, "rgb" means their one channel."""

_LUMA = (65.481, 128.553, 24.966)  # of R, G, B in [0, 1]

SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass
class Scores:
    """Scores of one set of weights, or of another way to restore, on the images of one test set.

    Attributes:
        label: whose.
        images: image name -> ``METRICS`` -> value.
    """

    label: str
    images: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    def mean(self, metric: str) -> float:
        """Mean over the images of their values; NaN without images."""
        return fmean(scores[metric] for scores in self.images.values()) if self.images else math.nan

    def means(self) -> dict[str, float]:
        """``mean`` of all ``METRICS``."""
        return {metric: self.mean(metric) for metric in METRICS}


def luma(image: Image) -> Plane:
    """Y of ITU-R BT.601 in [16, 235], not rounded, as MATLAB's ``rgb2ycbcr`` computes it before rounding.

    Args:
        image: uint8 (H, W, 3) RGB, or (H, W, 1), which is returned unchanged.
    """
    if image.shape[2] == 1:
        return image[..., 0].astype(np.float64)
    red, green, blue = (image[..., c] * (_LUMA[c] / 255.0) for c in range(3))
    return red + green + blue + 16.0


def shave_of(scale: int) -> int:
    """Pixels that scores leave out at each side: the scale, but none for denoising (scale 1)."""
    return scale if scale > 1 else 0


class GroundTruth:
    """An image that estimates are scored against; what depends on it alone is computed once.

    PSNR has peak 255. SSIM (Wang et al., 2004) has an 11x11 Gaussian window of sigma 1.5, population covariance and
    K = (0.01, 0.03), and is averaged over the positions where the window lies inside the shaved image. Scores of RGB
    are PSNR of the error over all channels, and the mean of the channels' SSIM.

    Args:
        truth: uint8 (H, W, C), C 1 or 3.
        shave: pixels left out at each side, by convention the scale.

    Raises:
        ValueError: nothing is left after shaving.
    """

    def __init__(self, truth: Image, shave: int) -> None:
        height, width = truth.shape[:2]
        if min(height, width) <= 2 * shave:
            raise ValueError(f"nothing left of a {width}x{height} image after shaving {shave} pixels")
        self._shape = truth.shape
        self._inside = (slice(shave, height - shave), slice(shave, width - shave))
        self._channels = [_Reference(plane) for plane in _channels(truth[self._inside])]
        self._luma = self._channels[0] if truth.shape[2] == 1 else _Reference(luma(truth[self._inside]))

    def score(self, estimate: Image) -> dict[str, float]:
        """All of ``METRICS``: PSNR in dB (infinite for equal images), SSIM (NaN where the window does not fit).

        Args:
            estimate: uint8, of the ground truth's shape.

        Raises:
            ValueError: another shape.
        """
        inside = self._crop(estimate)
        y, channels = luma(inside), list(zip(self._channels, _channels(inside), strict=True))
        return {
            "psnr_y": _decibels(self._luma.squared_error(y)),
            "ssim_y": self._luma.ssim(y),
            "psnr_rgb": _decibels(fmean(truth.squared_error(plane) for truth, plane in channels)),
            "ssim_rgb": fmean(truth.ssim(plane) for truth, plane in channels),
        }

    def psnr_y(self, estimate: Image) -> float:
        """PSNR of the luma alone (PSNR-Y), as in ``score``."""
        return _decibels(self._luma.squared_error(luma(self._crop(estimate))))

    def _crop(self, estimate: Image) -> Image:
        if estimate.shape != self._shape:
            raise ValueError(f"images of different size: {estimate.shape} and {self._shape}")
        return estimate[self._inside]


def _channels(image: Image) -> list[Plane]:
    return [image[..., c].astype(np.float64) for c in range(image.shape[2])]


def _decibels(squared_error: float) -> float:
    return 10 * math.log10(255.0**2 / squared_error) if squared_error else math.inf


class _Reference:
    """One channel of a ground truth, with its local mean and variance kept between estimates."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    @cached_property
    def _moments(self) -> tuple[Plane, Plane]:
        mean = _windowed(self._plane)
        return mean, _windowed(self._plane**2) - mean**2

    def squared_error(self, estimate: Plane) -> float:
        return float(np.mean((estimate - self._plane) ** 2))

    def ssim(self, estimate: Plane) -> float:
        if min(self._plane.shape) < SSIM_WINDOW:
            return math.nan
        mean, variance = self._moments
        other_mean = _windowed(estimate)
        other_variance = _windowed(estimate**2) - other_mean**2
        covariance = _windowed(estimate * self._plane) - other_mean * mean
        luminance = (2 * mean * other_mean + _C1) / (mean**2 + other_mean**2 + _C1)
        structure = (2 * covariance + _C2) / (variance + other_variance + _C2)
        return float(np.mean(luminance * structure))


def _gaussian() -> Plane:
    x = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-(x**2) / (2 * _SSIM_SIGMA**2))
    return weights / weights.sum()


_WEIGHTS = _gaussian()


def _windowed(plane: Plane) -> Plane:
    """Gaussian mean at each position where the window fits: (H, W) -> (H - 10, W - 10)."""
    return _along_rows(_along_rows(plane).T).T


def _along_rows(plane: Plane) -> Plane:
    """The symmetric window along the first axis, tap pair by tap pair."""
    last, count = SSIM_WINDOW - 1, plane.shape[0] - SSIM_WINDOW + 1
    total = _WEIGHTS[last // 2] * plane[last // 2 : last // 2 + count]
    for tap in range(last // 2):
        total += _WEIGHTS[tap] * (plane[tap : tap + count] + plane[last - tap : last - tap + count])
    return total
