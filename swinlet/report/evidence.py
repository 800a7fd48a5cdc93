"""Pictures that show what scores hide: details, maps of errors, token maps. All colours are the same in every run."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from swinlet.errors import DataError
from swinlet.evaluation.detail import Crop
from swinlet.metrics import luma

Array = NDArray[np.uint8]
FloatArray = NDArray[np.floating[Any]]

# Blue and vermilion of Okabe and Ito, which colour-blind people tell apart, too.
BETTER = (0, 114, 178)
WORSE = (213, 94, 0)
NEUTRAL = (245, 245, 245)

_DARK_TO_BRIGHT: Array = colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
_RAMPS = np.linspace(WORSE, NEUTRAL, 128), np.linspace(NEUTRAL, BETTER, 128)[1:]
_WORSE_TO_BETTER: Array = np.rint(np.concatenate(_RAMPS)).astype(np.uint8)  # 255 colours, NEUTRAL in the middle
_FLAT = 1e-6  # a component that varies less than this, relative to the largest feature, is rounding noise


def parse_crop(text: str) -> tuple[str, Crop]:
    """Image name and detail of e.g. "baby:120,80,64": left, top and side. Names may contain ":" and "/".

    Raises:
        DataError: the text has another form.
    """
    match = re.fullmatch(r"(.+):\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*", text)
    if match is None or int(match[4]) == 0:
        raise DataError(
            f"crop {text!r}: wanted is NAME:LEFT,TOP,SIDE, e.g. baby:120,80,64, in pixels of the high-resolution "
            "image, with SIDE at least 1"
        )
    return match[1], Crop(int(match[2]), int(match[3]), int(match[4]))


def check_inside(crop: Crop, height: int, width: int) -> Crop:
    """The crop itself, checked against the size of an image.

    Raises:
        DataError: it does not fit inside.
    """
    if crop.left < 0 or crop.top < 0 or crop.left + crop.side > width or crop.top + crop.side > height:
        raise DataError(
            f"crop {crop.left},{crop.top},{crop.side} does not fit into the image, which has {width}x{height} pixels: "
            f"LEFT + SIDE may be at most {width}, TOP + SIDE at most {height}"
        )
    return crop


def error_map(estimate: Array, truth: Array, limit: float) -> Array:
    """Picture of the error: black where there is none, bright yellow where it is ``limit`` or more.

    Args:
        estimate, truth: uint8 (H, W, C) of one size.
        limit: largest absolute difference of luma that is told apart, in 8-bit steps; positive.

    Returns:
        uint8 (H, W, 3) RGB, in a perceptually uniform colour map.
    """
    return _dark_to_bright(np.abs(luma(estimate) - luma(truth)), limit)


def improvement_map(before: Array, after: Array, truth: Array, limit: float) -> Array:
    """Picture of |error before| - |error after|: BETTER (blue) where after is nearer to the truth, else WORSE.

    Args:
        before, after, truth: uint8 (H, W, C) of one size.
        limit: difference of luma errors, in 8-bit steps, that gets the full colour; positive.

    Returns:
        uint8 (H, W, 3) RGB, NEUTRAL where both errors are equal.
    """
    target = luma(truth)
    gain = (np.abs(luma(before) - target) - np.abs(luma(after) - target)) / limit
    return _WORSE_TO_BETTER[np.rint(np.clip(gain, -1, 1) * 127).astype(np.intp) + 127]


def common_limit(estimates: Sequence[Array], truth: Array) -> float:
    """One scale for all maps of one image: the 99.5th percentile of the luma errors, at least 1.

    Args:
        estimates: at least one uint8 (H, W, C).
        truth: uint8 of the same size.
    """
    target = luma(truth)
    errors = np.stack([np.abs(luma(estimate) - target) for estimate in estimates])
    return max(float(np.percentile(errors, 99.5)), 1.0)


@dataclass(frozen=True, eq=False)
class FeaturePictures:
    """Pictures of token maps, uint8 (H, W, 3) RGB; None is what only feature distillation has.

    Attributes:
        student, translated: in one common basis, so that equal features have equal colours.
        teacher: in its own basis.
        distance: mean absolute difference over channels of student and translated, colours as in ``error_map``.
        limit: the distance that gets the brightest colour.
        mean_difference: mean of the distance, i.e. the feature loss L1 before its weight.
    """

    student: Array
    translated: Array | None
    teacher: Array
    distance: Array | None
    limit: float | None
    mean_difference: float | None


def feature_pictures(
    student: FloatArray, translated: FloatArray | None, teacher: FloatArray, size: tuple[int, int]
) -> FeaturePictures:
    """Show token maps by their first three principal components, as red, green and blue.

    Student and translated teacher are shown in the basis of the translated teacher, both less *its* mean: a constant
    difference is seen, too. Each component is scaled so that its 1st to 99th percentile fill the range of a colour;
    components that hardly vary are gray.

    Args:
        student: float (H*W, C).
        translated: teacher's features in the student's channels, float (H*W, C). None: without feature distillation
            the student is shown in its own basis, and no distance.
        teacher: float (H*W, C_teacher).
        size: (H, W) of the token grid.

    What is infinite or not a number counts as 0.
    """
    student, teacher = _clean(student), _clean(teacher)
    teacher_picture = _Basis(teacher).picture(teacher, size)
    if translated is None:
        return FeaturePictures(_Basis(student).picture(student, size), None, teacher_picture, None, None, None)
    translated = _clean(translated)
    basis = _Basis(translated)
    distance = np.abs(student - translated).mean(axis=1).reshape(size)
    limit = float(np.percentile(distance, 99.5)) or float(distance.max()) or 1.0  # never 0, which would divide by it
    return FeaturePictures(
        student=basis.picture(student, size),
        translated=basis.picture(translated, size),
        teacher=teacher_picture,
        distance=_dark_to_bright(distance, limit),
        limit=limit,
        mean_difference=float(distance.mean()),
    )


class _Basis:
    """The first three principal components of features (N, C), and the range of each."""

    def __init__(self, features: NDArray[np.float64]) -> None:
        self._mean = features.mean(axis=0)
        centred = features - self._mean
        axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :3]  # eigh sorts upwards
        values = centred @ axes
        # The sign of a component is arbitrary. The token that stands out most gets the bright end: unlike a rule
        # about channels, this gives one picture to features that differ by a rotation of the channels.
        outstanding = values[np.abs(values).argmax(axis=0), np.arange(values.shape[1])]
        signs = np.where(outstanding < 0, -1.0, 1.0)
        self._axes = axes * signs
        self._low, high = np.percentile(values * signs, [1, 99], axis=0)
        self._range = high - self._low
        self._flat = self._range <= _FLAT * np.abs(features).max()

    def picture(self, features: NDArray[np.float64], size: tuple[int, int]) -> Array:
        """uint8 (H, W, 3); gray where features have no third component, or it does not vary."""
        values = (features - self._mean) @ self._axes
        shares = (values - self._low) / np.where(self._flat, 1.0, self._range)
        colours = np.full((len(values), 3), 0.5)
        colours[:, : values.shape[1]] = np.where(self._flat, 0.5, np.clip(shares, 0, 1))
        return np.rint(255 * colours).astype(np.uint8).reshape(*size, 3)


def enlarged(image: Array, factor: int) -> Array:
    """Every pixel of uint8 (H, W, C) as a square of ``factor`` x ``factor`` pixels; factor at least 1."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def png_data_uri(image: Array) -> str:
    """A picture, uint8 (H, W, 3) RGB, as "data:image/png;base64,...", to put into a page; nothing is lost."""
    stream = io.BytesIO()
    _small(image).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _small(image: Array) -> Image.Image:
    """With a palette where 256 colours are enough, as in every map of errors: less than half the bytes."""
    red, green, blue = (image[..., c].astype(np.uint32) for c in range(3))
    colours, indices = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    if len(colours) > 256:
        return Image.fromarray(image)
    picture = Image.fromarray(indices.reshape(image.shape[:2]).astype(np.uint8))
    picture.putpalette(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8).tobytes())
    return picture


def _clean(features: FloatArray) -> NDArray[np.float64]:
    return np.where(np.isfinite(features), features, 0).astype(np.float64)


def _dark_to_bright(values: NDArray[np.float64], limit: float) -> Array:
    return _DARK_TO_BRIGHT[np.rint(np.clip(values / limit, 0, 1) * 255).astype(np.intp)]
