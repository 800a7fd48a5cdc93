"""Square details of pictures, and where estimates of one image differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swinlet.metrics import luma

Array = NDArray[np.uint8]

_AROUND = 9  # pixels, side of the square in which texture is measured
_BLANK = 6.0  # standard deviation of luma, in levels, that counts half
_FAR_BELOW = 1.0  # dB


@dataclass(frozen=True)
class Crop:
    """A square detail, in pixels of the high-resolution image."""

    left: int
    top: int
    side: int

    def of(self, image: Array) -> Array:
        """The detail (side, side, C) of an image (H, W, C); a view."""
        return image[self.top : self.top + self.side, self.left : self.left + self.side]


def most_different(images: Sequence[Array], side: int, shave: int = 0, picture: Array | None = None) -> Crop:
    """Where estimates of one image differ most from each other: the square detail with the largest sum of squares.

    Summed are the squared differences of luma from its mean over the estimates, weighed by the texture of the picture:
    on a blank wall there is nothing to see, however large the difference. Of several equal squares the one in their
    middle is taken, so that a small difference lies in the middle of the detail, and equal estimates give the middle of
    the image.

    Args:
        images: at least one uint8 (H, W, C), all of one size. A single one differs nowhere: its texture decides.
        side: of the detail in pixels, at least 1; reduced where the image is smaller.
        shave: pixels at each side that the detail must not touch.
        picture: uint8 (H, W, C), what is shown, for its texture; None: differences alone decide.

    Raises:
        ValueError: the sizes differ, or nothing is left after shaving.
    """
    height, width = images[0].shape[:2]
    side = min(side, height - 2 * shave, width - 2 * shave)
    if side < 1:
        raise ValueError(f"nothing left of a {width}x{height} image after shaving {shave} pixels")
    spread = _spread(images) if len(images) > 1 or picture is None else np.ones((height, width))
    if picture is not None:
        spread = spread * _texture(picture)
    spread = spread[shave : height - shave, shave : width - shave]
    # In whole numbers sums are exact: equal squares are found equal, on every machine.
    sums = _box_sums(np.rint(spread * 1024).astype(np.int64), side)
    rows, columns = np.nonzero(sums == sums.max())
    nearest = int(np.argmin((rows - np.median(rows)) ** 2 + (columns - np.median(columns)) ** 2))
    return Crop(int(columns[nearest]) + shave, int(rows[nearest]) + shave, side)


def worth_choosing(psnr: Mapping[str, float], baseline: float) -> list[str]:
    """The models that may choose the detail: those not far below the baseline, bicubic interpolation.

    Args:
        psnr: of each model, in dB.
        baseline: in dB.
    """
    return [label for label, value in psnr.items() if value >= baseline - _FAR_BELOW]


def _texture(picture: Array) -> NDArray[np.float64]:
    """Weight of each pixel, in [0, 1): rises with the standard deviation of luma around it."""
    luma_16 = np.rint(luma(picture) * 16).astype(np.int64)
    padded = np.pad(luma_16, _AROUND // 2, mode="edge")
    n = _AROUND**2
    variance = (_box_sums(padded**2, _AROUND) * n - _box_sums(padded, _AROUND) ** 2) / (16 * n) ** 2
    return variance / (variance + _BLANK**2)


def _box_sums(values: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Sums over all squares of a side."""
    integral = np.zeros((values.shape[0] + 1, values.shape[1] + 1), dtype=np.int64)
    integral[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    return integral[side:, side:] - integral[:-side, side:] - integral[side:, :-side] + integral[:-side, :-side]


def _spread(images: Sequence[Array]) -> NDArray[np.float64]:
    """Sum of the squared differences of luma from its mean over the images; exactly 0 where all are equal."""
    first = luma(images[0])
    total, squares = np.zeros_like(first), np.zeros_like(first)
    for image in images[1:]:
        if image.shape != images[0].shape:
            raise ValueError(f"images of different size: {image.shape} and {images[0].shape}")
        difference = luma(image) - first
        total += difference
        squares += difference**2
    return squares - total**2 / len(images)
