"""Scoring test sets: each image is read once, and every contender restores it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swinlet.errors import DataError
from swinlet.evaluation.models import Contender
from swinlet.evaluation.results import BICUBIC, COMPARED, INPUT, PUBLISHED_BICUBIC, TestSetResult
from swinlet.evaluation.testsets import OpenTestSet
from swinlet.metrics import METRICS, SSIM_WINDOW, GroundTruth, Scores, luma, shave_of
from swinlet.statistics import compare
from swinlet.utils.memory import is_out_of_memory
from swinlet.utils.resize import bicubic_downscale, bicubic_round_trip, bicubic_upscale, round_to_uint8

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One test image: low and high resolution, uint8 (h, w, C) and (h * scale, w * scale, C).

    Attributes:
        path: of the HR file.
        is_gray: whether that file is gray, however many channels it is read as.
    """

    name: str
    low: Image
    truth: Image
    path: Path
    is_gray: bool


Observer = Callable[[Picture, Mapping[str, Image]], None]


def pictures(testset: OpenTestSet, problems: list[str]) -> Iterator[Picture]:
    """The images of a test set; those that cannot be read any more or scored are reported and left out."""
    dataset = testset.dataset
    for i, name in enumerate(dataset.names):
        try:
            item, gray = dataset[i], dataset.is_gray(i)
        except DataError as error:
            problems.append(str(error))
            continue
        low, truth = (item[key].permute(1, 2, 0).numpy() for key in ("L", "H"))
        path = Path(item["H_path"])
        if item["L_path"] != item["H_path"]:  # named by HR, so that results with and without LR files match
            name = path.relative_to(dataset.root_H).with_suffix("").as_posix()
        if min(truth.shape[:2]) < 2 * shave_of(testset.scale) + SSIM_WINDOW:
            problems.append(f"{path}: too small for SSIM, whose window is {SSIM_WINDOW} pixels wide: left out")
            continue
        yield Picture(name, low, truth, path, gray)


def score_testset(
    testset: OpenTestSet,
    contenders: Sequence[Contender],
    scale: int,
    *,
    baselines: bool = True,
    observe: Observer | None = None,
    advance: Callable[[str], None] = lambda _: None,
) -> tuple[TestSetResult, list[str]]:
    """Score bicubic interpolation and all contenders on all images.

    Args:
        testset: the images.
        contenders: the networks.
        scale: of all.
        baselines: score bicubic interpolation, which takes as long as a small network.
        observe: is handed each test image and what was made of it: label -> uint8 (H, W, C).
        advance: is told before each picture what is about to be done.

    Returns:
        The scores, and what is wrong with images that are therefore missing from every row.
    """
    problems = list(testset.dataset.skipped)
    published, bicubic = Scores(PUBLISHED_BICUBIC), Scores(BICUBIC if scale > 1 else INPUT)
    rows = [Scores(contender.card.label) for contender in contenders]
    for picture in pictures(testset, problems):
        truth = GroundTruth(picture.truth, shave_of(scale))
        restored: dict[str, Image] = {}
        if baselines:
            restored[bicubic.label] = bicubic_upscale(picture.low, scale)
            bicubic.images[picture.name] = truth.score(restored[bicubic.label])
            y_scores = _published_scores(picture, scale)
            if y_scores is not None:
                published.images[picture.name] = bicubic.images[picture.name] | y_scores
        for contender, scores in zip(contenders, rows, strict=True):
            advance(f"{testset.name} {picture.name}: {scores.label}")
            try:
                restored[scores.label] = contender.restorer(picture.low)
            except (DataError, MemoryError, RuntimeError) as error:
                problems.append(_why_not_restored(error, f"{scores.label} on {testset.name}, {picture.name}"))
                scores.images[picture.name] = dict.fromkeys(METRICS, math.nan)  # no mean over fewer images
                continue
            scores.images[picture.name] = truth.score(restored[scores.label])
        if observe is not None:
            observe(picture, restored)
    complete = bool(published.images) and published.images.keys() == bicubic.images.keys()
    without_network = [*([published] if complete else []), *([bicubic] if baselines else [])]
    result = TestSetResult(testset.name, str(testset.folder), testset.low_resolution, [*without_network, *rows])
    others = len(bicubic.images) - len(published.images)
    if others and scale > 1 and not testset.is_gray:
        result.low_resolution += f", not MATLAB's bicubic of HR in {others} of {len(bicubic.images)}"
    students = [
        row
        for row, contender in zip(rows, contenders, strict=True)
        if contender.card.role == "student" and not all(math.isnan(value) for value in _values(row).values())
    ]
    for a, b in combinations(students, 2):
        try:
            result.comparisons.append(compare(a.label, b.label, _values(a), _values(b)))
        except ValueError as error:  # all differences infinite
            problems.append(f"{testset.name}: {error}")
    return result, problems


def _why_not_restored(error: Exception, what: str) -> str:
    """A problem for people; anything but wrong weights and lack of memory is a fault of this program."""
    if isinstance(error, DataError):
        return f"{what}: {error}"
    if is_out_of_memory(error):
        return f"{what}: out of memory: use --tile"
    raise error


def _values(scores: Scores) -> dict[str, float]:
    return {name: values[COMPARED] for name, values in scores.images.items()}


def _published_scores(picture: Picture, scale: int) -> dict[str, float] | None:
    """Y scores of bicubic interpolation as papers have them; None where LR is something else than bicubic.

    The Y channel of the HR image (a gray file is its own), in 8 bits, is shrunk and enlarged without rounding in
    between. So the tables of SRCNN (Dong et al., 2014) and its successors come out to the last digit.
    """
    if scale == 1 or picture.truth.shape[2] == 1:
        return None
    if not np.array_equal(bicubic_downscale(picture.truth, scale), picture.low):
        return None
    plane = picture.truth[..., 0] if picture.is_gray else round_to_uint8(luma(picture.truth))
    scores = GroundTruth(plane[..., None], shave_of(scale)).score(bicubic_round_trip(plane, scale)[..., None])
    return {metric: scores[metric] for metric in ("psnr_y", "ssim_y")}
