"""Bicubic resizing of 8-bit images, equal to MATLAB's ``imresize(image, scale, 'bicubic')`` bit for bit.

Super-resolution benchmarks are defined by this function. It differs from the bicubic of Pillow, OpenCV and
torch: the kernel is the cubic convolution of R. Keys (1981) with a = -0.5, widened by 1/scale when shrinking
(antialiasing), borders are mirrored with the edge pixel repeated, and since MATLAB keeps 8-bit images in 8
bits between its two passes, the result of *each* pass is rounded (half away from zero) and clipped.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from swinlet.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.floating[Any]]  # always float64 at run time
    Taps = tuple[npt.NDArray[np.intp], Floats]


def imresize(image: Image, scale: Fraction | float | None = None, *, size: tuple[int, int] | None = None) -> Image:
    """Resize like MATLAB's ``imresize`` with the bicubic kernel.

    Args:
        image: uint8, (H, W) or (H, W, C), H and W at least 1.
        scale: positive factor for both sides; the result has ceil(H * scale) x ceil(W * scale) pixels.
            ``Fraction(1, 3)`` says exactly what the float 1/3 only nearly says.
        size: (height, width) of the result, instead of ``scale``; each side then has its own factor.

    Returns:
        uint8, (H', W') or (H', W', C), contiguous. The side that shrinks most is resized first, as in MATLAB;
        with equal factors that is the height.

    Raises:
        TypeError: the image is not uint8.
        ValueError: the image is empty or has another number of dimensions, not exactly one of ``scale`` and
            ``size`` is given, or it is not positive.
    """
    if (scale is None) == (size is None):
        raise ValueError("imresize needs either a scale or a size")
    _check_image(image)
    height, width = image.shape[:2]
    if scale is not None:
        if not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"imresize needs a positive scale, not {scale}")
        factors = (Fraction(scale), Fraction(scale))
        rows, columns = math.ceil(height * scale), math.ceil(width * scale)
    else:
        assert size is not None
        rows, columns = size
        if rows < 1 or columns < 1:
            raise ValueError(f"imresize needs a positive size, not {rows}x{columns}")
        factors = (Fraction(rows, height), Fraction(columns, width))
    row_taps = _taps(height, factors[0], 0, rows)
    column_taps = _taps(width, factors[1], 0, columns)
    if factors[1] < factors[0]:
        return _resize_rows(_resize_columns(image, column_taps), row_taps)
    return _resize_columns(_resize_rows(image, row_taps), column_taps)


def _check_image(image: Image) -> None:
    if image.dtype != np.uint8:
        raise TypeError(f"resizing is defined for uint8 images, not {image.dtype}")
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"resizing needs an image of shape (H, W) or (H, W, C), not {image.shape}")


def _cubic(x: Floats) -> Floats:
    """The cubic convolution kernel with a = -0.5, zero outside [-2, 2]."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _taps(length: int, factor: Fraction, first: int, count: int) -> Taps:
    """Which input pixels make the output pixels first ... first + count - 1 of one side, and their weights.

    Returns:
        Indices into the input (mirrored at its borders) and weights that sum to 1, both (count, taps).
    """
    step = float(1 / factor)
    stretch = max(step, 1.0)  # antialiasing: the kernel covers `step` times as many pixels when shrinking
    centre = (np.arange(first, first + count) + 0.5) * step - 0.5
    taps = math.ceil(4 * stretch) + 2
    indices: npt.NDArray[np.intp] = np.floor(centre - 2 * stretch).astype(np.intp)[:, None] + np.arange(taps)
    weights = _cubic((centre[:, None] - indices) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = indices % (2 * length)
    return np.where(mirrored < length, mirrored, 2 * length - 1 - mirrored), weights


def downscale_matrix(length: int, scale: int) -> Floats:
    """The weights of one pass of ``bicubic_downscale`` over a side of ``length`` pixels, (length // scale, length)."""
    count = length // scale
    indices, weights = _taps(count * scale, Fraction(1, scale), 0, count)
    matrix = np.zeros((count, length))
    np.add.at(matrix, (np.arange(count)[:, None], indices), weights)
    return matrix


def _resize_rows(image: Image, taps: Taps) -> Image:
    """One pass along the first axis: (H, ...) to (count, ...), rounded and clipped to 8 bits."""
    return round_to_uint8(_weigh_rows(image, taps))


def _weigh_rows(image: Image | Floats, taps: Taps) -> Floats:
    """One pass along the first axis: (H, ...) to (count, ...), neither rounded nor clipped."""
    indices, weights = taps
    pixels = np.reshape(image, (image.shape[0], -1))
    # Tap by tap rather than by a matrix product: the order of summation, and so every last bit, does not
    # depend on how many pixels are computed at once. bicubic_downscale_crop relies on it.
    total = np.zeros((indices.shape[0], pixels.shape[1]))
    for tap in range(indices.shape[1]):
        total += weights[:, tap, None] * pixels[indices[:, tap]]
    return np.reshape(total, (indices.shape[0], *image.shape[1:]))


def round_to_uint8(values: Floats) -> Image:
    """Round half up, and clip, as MATLAB's ``uint8``."""
    return np.floor(values + 0.5).clip(0, 255).astype(np.uint8)


def _resize_columns(image: Image, taps: Taps) -> Image:
    turned = np.ascontiguousarray(np.swapaxes(image, 0, 1))
    return np.ascontiguousarray(np.swapaxes(_resize_rows(turned, taps), 0, 1))


def bicubic_downscale(image: Image, scale: int) -> Image:
    """Make the low-resolution image of a benchmark: ``imresize`` by 1/scale.

    The image is first cropped at the bottom and right to a multiple of ``scale``. Shrinking the whole image
    and keeping the first floor(H / scale) x floor(W / scale) pixels would differ along the cropped borders.
    The crop reproduces every published LR file of Set5 and every LR file of Set14 (57 files at scales 2, 3
    and 4); without it, 20 of them come out different.

    Args:
        image: uint8, (H, W) or (H, W, C).
        scale: integer of at least 1.

    Returns:
        uint8, (H // scale, W // scale) or (H // scale, W // scale, C), contiguous.

    Raises:
        DataError: a side is smaller than ``scale``.
        TypeError, ValueError: as in :func:`imresize`.
    """
    rows, columns = _downscaled_size(image, scale)
    return imresize(image[: rows * scale, : columns * scale], Fraction(1, scale))


def bicubic_downscale_crop(image: Image, scale: int, top: int, left: int, height: int, width: int) -> Image:
    """``bicubic_downscale(image, scale)[top : top + height, left : left + width]``, without the rest's cost.

    Args:
        image: uint8, (H, W) or (H, W, C).
        scale: integer of at least 1.
        top, left, height, width: the window in the low-resolution image, which has to lie inside it.

    Returns:
        uint8, (height, width) or (height, width, C), contiguous; equal to the crop of the whole in every bit.

    Raises:
        DataError: a side of the image is smaller than ``scale``.
        ValueError: the window is empty or not inside the low-resolution image; else as in :func:`imresize`.
    """
    rows, columns = _downscaled_size(image, scale)
    if not (0 <= top < top + height <= rows and 0 <= left < left + width <= columns):
        window = f"[{top}:{top + height}, {left}:{left + width}]"
        raise ValueError(f"window {window} is not inside the low-resolution image of {rows}x{columns} pixels")
    row_taps = _taps(rows * scale, Fraction(1, scale), top, height)
    indices, weights = _taps(columns * scale, Fraction(1, scale), left, width)
    first, last = int(indices.min()), int(indices.max())
    strip = _resize_rows(image[:, first : last + 1], row_taps)
    return _resize_columns(strip, (indices - first, weights))


def bicubic_upscale(image: Image, scale: int) -> Image:
    """Enlarge with ``imresize`` by ``scale``: the baseline that every network has to beat.

    Args:
        image: uint8, (H, W) or (H, W, C).
        scale: integer of at least 1.

    Returns:
        uint8, (H * scale, W * scale) or (H * scale, W * scale, C), contiguous.

    Raises:
        TypeError, ValueError: as in :func:`imresize`.
    """
    return imresize(image, Fraction(scale))


def bicubic_round_trip(plane: Image, scale: int) -> Image:
    """Shrink one channel by ``scale`` and enlarge it again without rounding in between.

    What the tables of papers call bicubic, since SRCNN (Dong et al., 2014): a channel is made floating-point first,
    so that MATLAB's ``imresize`` has nothing to round before the end.

    Args:
        plane: uint8 (H, W), H and W multiples of ``scale``.
        scale: integer of at least 1.

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: a side is no multiple of ``scale``.
    """
    if plane.shape[0] % scale or plane.shape[1] % scale:
        raise ValueError(f"the sides of an image of shape {plane.shape} are not multiples of {scale}")
    values: Floats = plane.astype(np.float64)
    for factor in (Fraction(1, scale), Fraction(scale)):
        for _ in range(2):  # the height, then, turned, the width
            count = round(values.shape[0] * factor)
            values = _weigh_rows(values, _taps(values.shape[0], factor, 0, count)).T
    return round_to_uint8(values)


def _downscaled_size(image: Image, scale: int) -> tuple[int, int]:
    _check_image(image)
    if scale < 1:
        raise ValueError(f"the scale to shrink by has to be at least 1, not {scale}")
    height, width = image.shape[:2]
    if min(height, width) < scale:
        size = f"{width}x{height} pixels"
        raise DataError(f"an image of {size} cannot be shrunk by {scale}: use a larger image")
    return height // scale, width // scale
