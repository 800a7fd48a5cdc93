"""Colours under transparent pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def spread_colour(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Give transparent pixels the colours of their visible neighbourhood.

    What is stored there is often black or white, which a network that looks at neighbours would draw into the edges of
    what is visible. Each transparent pixel gets the mean, weighted by alpha, of the smallest square of a pyramid
    (sides 2, 4, 8, ...) that holds anything visible.

    Args:
        colour: (h, w, C).
        alpha: (h, w), 0 is transparent.

    Returns:
        As ``colour``, of its dtype; unchanged where alpha is above 0.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return colour
    weight = alpha.astype(np.float32)[:, :, None]
    filled = _filled(colour * weight, weight)
    if colour.dtype.kind == "u":
        filled = np.rint(filled)
    return np.where(hidden[:, :, None], filled.astype(colour.dtype), colour)


def _filled(total: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted means, and those of a coarser level where the weight is 0."""
    if (weight > 0).all():
        return total / weight
    coarse = _filled(_halved(total), _halved(weight))
    coarse = coarse.repeat(2, axis=0).repeat(2, axis=1)[: total.shape[0], : total.shape[1]]
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), coarse)


def _halved(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of 2x2 pixels."""
    height, width = image.shape[:2]
    image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)))
    return image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]
