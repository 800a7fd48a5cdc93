"""Visual evidence: for each test image the detail where models differ most, errors, and who improved where."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from swinlet.evaluation.detail import Crop, most_different, worth_choosing
from swinlet.evaluation.results import BICUBIC, INPUT
from swinlet.evaluation.scoring import Picture
from swinlet.metrics import GroundTruth, luma, shave_of
from swinlet.report.evidence import (
    common_limit,
    enlarged,
    error_map,
    improvement_map,
    png_data_uri,
)

Image = NDArray[np.uint8]

OVERVIEW_SIDE = 420  # pixels of the largest side
DETAIL_SIDE = 384


@dataclass(frozen=True)
class Tile:
    """One column: a detail as somebody restored it.

    Attributes:
        label: whose; "HR" for the ground truth, which has neither errors nor scores.
        detail, errors: pictures as data URIs.
        detail_psnr, image_psnr: PSNR-Y in dB of the detail, and of the whole image.
    """

    label: str
    detail: str
    errors: str | None = None
    detail_psnr: float | None = None
    image_psnr: float | None = None


@dataclass(frozen=True)
class Improvement:
    """Where one model is nearer to the truth than another: pictures of the detail and of the whole image.

    ``limit`` is the gain in luma error, in steps of 255, that has the full colour.
    """

    before: str
    after: str
    detail: str
    whole: str
    limit: float


@dataclass(frozen=True)
class ImageEvidence:
    """What is shown of one test image.

    Attributes:
        testset, name: of the image.
        crop: the detail.
        how: why this detail.
        limit: luma error with the brightest colour.
        overview: the image with the detail marked, as a data URI.
    """

    testset: str
    name: str
    crop: Crop
    how: str
    limit: float
    overview: str
    tiles: list[Tile]
    improvements: list[Improvement]


def image_evidence(
    testset: str,
    picture: Picture,
    restored: Mapping[str, Image],
    *,
    students: Sequence[str],
    scale: int,
    side: int,
    chosen: Crop | None,
) -> ImageEvidence:
    """Evidence of one image.

    Args:
        testset: its set.
        picture: the image.
        restored: label -> what was made of it, uint8 (H, W, C), bicubic first.
        students: labels of the students among them.
        scale: of all.
        side: of the detail in HR pixels.
        chosen: the detail, inside the image, if it is not to be found.
    """
    truth = picture.truth
    rivals = list(students) if len(students) > 1 else [label for label in restored if label not in (BICUBIC, INPUT)]
    rivals = rivals if len(rivals) > 1 else list(restored)
    whole = GroundTruth(truth, shave_of(scale))
    crop, how = (
        (chosen, "chosen by hand") if chosen is not None else _found(restored, rivals, whole, truth, side, scale)
    )
    detail = crop.of(truth)
    limit = common_limit([crop.of(image) for image in restored.values()], detail)
    part = GroundTruth(detail, 0)
    tiles = [Tile("HR", _big(detail))]
    for label, image in restored.items():
        estimate = crop.of(image)
        errors = _big(error_map(estimate, detail, limit))
        tiles.append(Tile(shown(label), _big(estimate), errors, part.psnr_y(estimate), whole.psnr_y(image)))
    improvements = _improvements(picture, restored, _steps(list(restored), students), crop)
    overview = _overview(truth, crop)
    return ImageEvidence(testset, picture.name, crop, how, limit, overview, tiles, improvements)


def _found(
    restored: Mapping[str, Image], rivals: Sequence[str], whole: GroundTruth, truth: Image, side: int, scale: int
) -> tuple[Crop, str]:
    """The detail that tells most of the rivals, and how it was found."""
    baseline = whole.psnr_y(next(iter(restored.values())))
    rivals = worth_choosing({label: whole.psnr_y(restored[label]) for label in rivals}, baseline)
    if len(rivals) > 1:
        compared, how = [restored[label] for label in rivals], f"{_listed([shown(label) for label in rivals])} differ"
    elif rivals:
        compared, how = [restored[rivals[0]], truth], f"{shown(rivals[0])} errs"
    else:  # all are far below bicubic interpolation
        return most_different([truth], side, shave_of(scale), truth), "where there is most texture"
    return most_different(compared, side, shave_of(scale), truth), f"where {how} most, weighed by texture"


def _steps(labels: Sequence[str], students: Sequence[str]) -> list[tuple[str, str]]:
    """Each later student against the first; a single one against bicubic interpolation."""
    if len(students) > 1:
        return [(students[0], after) for after in students[1:]]
    return [(labels[0], students[0])] if students else []


def _improvements(
    picture: Picture, restored: Mapping[str, Image], steps: Sequence[tuple[str, str]], crop: Crop
) -> list[Improvement]:
    """Maps of each step from one model to another, all on one scale."""
    truth = picture.truth
    target = luma(truth)
    errors = {label: np.abs(luma(restored[label]) - target) for step in steps for label in step}
    gains = [np.abs(errors[before] - errors[after]) for before, after in steps]
    limit = max([float(np.percentile(gain, 99)) for gain in gains] + [1.0])
    return [
        Improvement(
            shown(before),
            shown(after),
            _big(improvement_map(crop.of(restored[before]), crop.of(restored[after]), crop.of(truth), limit)),
            png_data_uri(improvement_map(restored[before], restored[after], truth, limit)),
            limit,
        )
        for before, after in steps
    ]


def shown(label: str) -> str:
    """Under a picture, bicubic interpolation is nothing but that."""
    return "bicubic" if label == BICUBIC else label


def _listed(labels: Sequence[str]) -> str:
    return f"{', '.join(labels[:-1])} and {labels[-1]}"


def _big(image: Image) -> str:
    """A detail whose pixels are seen: enlarged by a whole factor, to about ``DETAIL_SIDE``; browsers then shrink it."""
    return png_data_uri(enlarged(_rgb(image), max(1, DETAIL_SIDE // image.shape[0])))


def _rgb(image: Image) -> Image:
    return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)


def _overview(image: Image, crop: Crop) -> str:
    """The whole image, small, with the detail framed in white and black: seen on any ground."""
    picture = PillowImage.fromarray(_rgb(image))
    ratio = min(1.0, OVERVIEW_SIDE / max(picture.size))
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    picture = picture.resize(size, PillowImage.Resampling.LANCZOS)
    left, top, side = (round(value * ratio) for value in (crop.left, crop.top, crop.side))
    draw = ImageDraw.Draw(picture)
    for distance, width, colour in ((5, 2, "black"), (3, 4, "white")):  # about half as wide on the page
        box = (left - distance, top - distance, left + side + distance, top + side + distance)
        draw.rectangle(box, outline=colour, width=width)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
