"""One picture, enlarged by several methods, timed and scored."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from swinlet.errors import DataError
from swinlet.metrics import SSIM_WINDOW, GroundTruth, shave_of
from swinlet.upscale.upscaler import Upscaler
from swinlet.utils.picture import Picture, Pixels
from swinlet.utils.resize import bicubic_downscale, bicubic_upscale

Array = NDArray[np.uint8]

ORIGINAL = "original"
"""The label of the ground truth."""

SIDES = (1024, 512, 256, 128)
"""Of the parts that the page offers, in pixels."""


@dataclass(frozen=True)
class Method:
    """A way to enlarge.

    Attributes:
        label: to show it under.
        upscaler: the network; None: MATLAB's bicubic interpolation.
        parameters: of the network.
    """

    label: str
    upscaler: Upscaler | None = None
    parameters: int | None = None


BICUBIC = Method("bicubic")


@dataclass(frozen=True)
class Part:
    """A square of a picture.

    Attributes:
        side: in pixels; where the picture is smaller, all of it.
        centre: (x, y) in [0, 1] of width and height; the square is moved inside.
    """

    side: int
    centre: tuple[float, float] = (0.5, 0.5)

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of the square in a picture."""
        rows, columns = min(self.side, height), min(self.side, width)
        top = round(self.centre[1] * height - rows / 2)
        left = round(self.centre[0] * width - columns / 2)
        return min(max(top, 0), height - rows), min(max(left, 0), width - columns), rows, columns


@dataclass(frozen=True)
class Material:
    """What is enlarged, and what it should become.

    Attributes:
        low: the picture to enlarge, (h, w).
        truth: (h * scale, w * scale); None: not known.
    """

    low: Picture
    truth: Picture | None = None


@dataclass(frozen=True)
class Result:
    """What a method made of a picture.

    Attributes:
        method: whose.
        picture: (h * scale, w * scale).
        seconds: that it took.
        scores: ``metrics.METRICS`` -> value; None: no ground truth.
    """

    method: Method
    picture: Picture
    seconds: float
    scores: dict[str, float] | None


def prepare(
    picture: Picture,
    *,
    scale: int,
    max_pixels: int,
    truth: Picture | None = None,
    is_original: bool = False,
    part: Part | None = None,
) -> Material:
    """Cut and shrink what was given.

    Args:
        picture: to enlarge, or what the enlargements should become.
        scale: of the networks.
        max_pixels: of the picture that is enlarged.
        truth: of a picture to enlarge; may have up to ``scale - 1`` pixels more than fit, which are left out.
        is_original: shrink the picture by MATLAB's bicubic first, in 8 bits, and take it for the truth itself.
        part: of ``picture`` to take; None: all.

    Raises:
        DataError: too many pixels, too small, or a truth of another size.
    """
    if is_original:
        truth = cropped(picture, part)
        if min(truth.size) < scale:
            raise DataError(f"the picture has {_size(truth)} pixels: too small to be shrunk by {scale}")
        truth = _multiple_of(truth, scale)
        _check_pixels((truth.size[0] // scale, truth.size[1] // scale), max_pixels, scale, is_original)
        truth = eight_bits(truth)
        return Material(_planes_by(truth, lambda plane: bicubic_downscale(plane, scale)), truth)
    low = cropped(picture, part)
    _check_pixels(low.size, max_pixels, scale, is_original)
    if truth is None:
        return Material(low)
    wanted = picture.size[0] * scale, picture.size[1] * scale
    if any(not 0 <= side - other < scale for side, other in zip(truth.size, wanted, strict=True)):
        raise DataError(
            f"the original has {_size(truth)} pixels: to score x{scale} enlargements of a picture of {_size(picture)} "
            f"it has to have {wanted[1]}x{wanted[0]}"
        )
    top, left, rows, columns = _box(picture, part)
    return Material(low, _cut(truth, top * scale, left * scale, rows * scale, columns * scale))


def compare(material: Material, methods: Sequence[Method], scale: int) -> Iterator[Result]:
    """Enlarge a picture by each method, in turn.

    Scores are those of ``swinlet evaluate`` for 8-bit RGB (where bicubic is its "bicubic of LR"); deeper pictures are
    rounded to 8 bits for them, alpha is left out, gray counts as RGB.

    Raises:
        DataError: the result would hold no numbers, or the ground truth is too small to be scored.
        MachineError: the result does not fit into the memory.
    """
    truth = None
    if material.truth is not None:
        smallest = 2 * shave_of(scale) + SSIM_WINDOW
        if min(material.truth.size) < smallest:
            raise DataError(f"the original has {_size(material.truth)} pixels: scores need at least {smallest} a side")
        truth = GroundTruth(rgb(material.truth), shave_of(scale))
    for method in methods:
        start = time.perf_counter()
        picture = enlarge(material.low, method, scale)
        seconds = time.perf_counter() - start
        yield Result(method, picture, seconds, None if truth is None else truth.score(rgb(picture)))


def enlarge(low: Picture, method: Method, scale: int) -> Picture:
    """The picture that a method makes; bicubic's has 8 bits."""
    if method.upscaler is not None:
        return method.upscaler.upscale_picture(low)
    return _planes_by(eight_bits(low), lambda plane: bicubic_upscale(plane, scale))


def cropped(picture: Picture, part: Part | None) -> Picture:
    """A part of a picture; None: all of it."""
    return picture if part is None else _cut(picture, *_box(picture, part))


def eight_bits(picture: Picture) -> Picture:
    """The picture in 8 bits, rounded."""
    alpha = None if picture.alpha is None else _eight_bits(picture.alpha)
    return replace(picture, colour=_eight_bits(picture.colour), alpha=alpha)


def rgb(picture: Picture) -> Array:
    """Its colours, uint8 (h, w, 3)."""
    colour = _eight_bits(picture.colour)
    return np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour


def over_gray(picture: Picture) -> Picture:
    """The picture in 8 bits without alpha, laid over a middle gray: as one of two that lie upon each other."""
    if picture.alpha is None:
        return eight_bits(picture)
    share = picture.alpha[:, :, None].astype(np.float32) / np.iinfo(picture.alpha.dtype).max
    colour = _eight_bits(picture.colour) * share + 128 * (1 - share)
    return replace(picture, colour=(colour + 0.5).astype(np.uint8), alpha=None)


def _eight_bits(pixels: Pixels) -> Array:
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    return np.floor(pixels / 257 + 0.5).astype(np.uint8)


def _planes_by(picture: Picture, resized: Callable[[Array], Array]) -> Picture:
    """The picture with colour and alpha resized by a function; of 8 bits."""
    alpha = None if picture.alpha is None else resized(picture.alpha.view(np.uint8))
    return replace(picture, colour=resized(picture.colour.view(np.uint8)), alpha=alpha)


def _box(picture: Picture, part: Part | None) -> tuple[int, int, int, int]:
    return (0, 0, *picture.size) if part is None else part.box(*picture.size)


def _cut(picture: Picture, top: int, left: int, height: int, width: int) -> Picture:
    place = slice(top, top + height), slice(left, left + width)
    alpha = None if picture.alpha is None else np.ascontiguousarray(picture.alpha[place])
    return replace(picture, colour=np.ascontiguousarray(picture.colour[place]), alpha=alpha)


def _multiple_of(picture: Picture, scale: int) -> Picture:
    height, width = picture.size
    return _cut(picture, 0, 0, height - height % scale, width - width % scale)


def _check_pixels(size: tuple[int, int], max_pixels: int, scale: int, is_original: bool) -> None:
    if size[0] * size[1] <= max_pixels:
        return
    after, divisor = (f" after shrinking by {scale}", scale) if is_original else ("", 1)
    fitting = [side for side in SIDES if min(size[0], side // divisor) * min(size[1], side // divisor) <= max_pixels]
    advice = f"choose a part of at most {fitting[0]} pixels a side, or " if fitting else ""
    raise DataError(
        f"{size[1]}x{size[0]} pixels{after} are more than the {max_pixels:,} that are enlarged at once: {advice}start "
        "swinlet web with a larger --max-pixels"
    )


def _size(picture: Picture) -> str:
    return f"{picture.size[1]}x{picture.size[0]}"
