"""Square details of pictures, and where estimates of one image differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swinlet.metrics import luma

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Crop:
    """A square detail, in pixels of the high-resolution image."""

    left: int
    top: int
    side: int

    def of(self, image: Array) -> Array:
        """The detail (side, side, C) of an image (H, W, C); a view."""
        return image[self.top : self.top + self.side, self.left : self.left + self.side]


def most_different(images: Sequence[Array], side: int, shave: int = 0) -> Crop:
    """Where estimates of one image differ most from each other: the square detail with the largest sum of squares.

    Summed are the squared differences of luma from its mean over the estimates. Of several equal squares the one in
    their middle is taken, so that a small difference lies in the middle of the detail, and equal estimates give the
    middle of the image.

    Args:
        images: at least one uint8 (H, W, C), all of one size.
        side: of the detail in pixels, at least 1; reduced where the image is smaller.
        shave: pixels at each side that the detail must not touch.

    Raises:
        ValueError: the sizes differ, or nothing is left after shaving.
    """
    height, width = images[0].shape[:2]
    side = min(side, height - 2 * shave, width - 2 * shave)
    if side < 1:
        raise ValueError(f"nothing left of a {width}x{height} image after shaving {shave} pixels")
    spread = _spread(images)[shave : height - shave, shave : width - shave]
    integral = np.zeros((spread.shape[0] + 1, spread.shape[1] + 1), dtype=np.int64)
    # In whole numbers sums are exact: equal squares are found equal, on every machine.
    integral[1:, 1:] = np.rint(spread * 1024).astype(np.int64).cumsum(axis=0).cumsum(axis=1)
    sums = integral[side:, side:] - integral[:-side, side:] - integral[side:, :-side] + integral[:-side, :-side]
    rows, columns = np.nonzero(sums == sums.max())
    nearest = int(np.argmin((rows - np.median(rows)) ** 2 + (columns - np.median(columns)) ** 2))
    return Crop(int(columns[nearest]) + shave, int(rows[nearest]) + shave, side)


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
