"""What was taught: the student's token maps beside those of the teacher, and of the teacher translated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swinlet.distillation.stages import paired_stages
from swinlet.errors import OptionError
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.report.evidence import feature_pictures, png_data_uri
from swinlet.report.runs import Run
from swinlet.utils.image_io import to_tensor
from swinlet.weights import load_into, read_weights

SIDE = 96  # LR pixels of the part of the image that is shown


@dataclass(frozen=True)
class StagePictures:
    """One pair of stages, as data URIs; None what only feature distillation has.

    Attributes:
        student_stage, teacher_stage: counted from 0.
        distance: mean absolute difference over channels of student and translated teacher; ``limit`` is its brightest.
        mean_difference: its mean: the feature loss before its weight.
    """

    student_stage: int
    teacher_stage: int
    student: str
    teacher: str
    translated: str | None
    distance: str | None
    limit: float | None
    mean_difference: float | None


@dataclass(frozen=True)
class FeatureEvidence:
    """The token maps of one run on one image."""

    label: str
    image: str
    stages: list[StagePictures]


def feature_evidence(run: Run, student: SwinIR, teacher: SwinIR, name: str, low: NDArray[np.uint8]) -> FeatureEvidence:
    """Token maps of the middle of an LR image.

    Args:
        run: whose options name the pairs of stages; with feature distillation, its translator is read.
        student, teacher: of the run, on one device.
        name: of the image.
        low: uint8 (h, w, C).

    Raises:
        OptionError, CheckpointError: the token maps cannot be paired, or the translator cannot be read.
    """
    pairs = _pairs(run, student, teacher)
    translator = _read_translator(run, pairs, student, teacher) if _translates(run) else None
    image = _middle(low, student.window_size)
    device = next(student.parameters()).device
    batch = to_tensor(image)[None].to(device).float() / 255
    with torch.inference_mode():
        ours = student(batch, return_features=True)[1]
        theirs = [teacher(batch, return_features=True)[1][t] for _, t in pairs]
        translated = [None] * len(pairs) if translator is None else translator.to(device)(theirs)
    window = student.window_size
    size = (-(-image.shape[0] // window) * window, -(-image.shape[1] // window) * window)
    stages = [
        _stage(pair, ours[pair[0]], taught, target, size)
        for pair, taught, target in zip(pairs, theirs, translated, strict=True)
    ]
    return FeatureEvidence(run.label, name, stages)


def _stage(
    pair: tuple[int, int], student: Tensor, teacher: Tensor, translated: Tensor | None, size: tuple[int, int]
) -> StagePictures:
    target = None if translated is None else _array(translated)
    found = feature_pictures(_array(student), target, _array(teacher), size)
    return StagePictures(
        *pair,
        student=png_data_uri(found.student),
        teacher=png_data_uri(found.teacher),
        translated=None if found.translated is None else png_data_uri(found.translated),
        distance=None if found.distance is None else png_data_uri(found.distance),
        limit=found.limit,
        mean_difference=found.mean_difference,
    )


def _translates(run: Run) -> bool:
    """Whether the run's netP takes the teacher's features to the student's: that of feature_norm goes the other way."""
    kinds = ("feature",) if run.options is None else run.options.train.distillation_types
    return run.translator is not None and "feature" in kinds


def _pairs(run: Run, student: SwinIR, teacher: SwinIR) -> Sequence[tuple[int, int]]:
    if run.options is not None:
        by_depth = not {"feature_norm", "fakd"}.isdisjoint(run.options.train.distillation_types)
        return paired_stages(run.options.train, student, teacher, by_depth=by_depth)
    if student.window_size != teacher.window_size:
        raise OptionError(
            f"{run.label}: its windows are {student.window_size}, the teacher's {teacher.window_size} wide: "
            "their token maps cannot be compared"
        )
    return [(i, i) for i in range(min(len(student.config["depths"]), len(teacher.config["depths"])))]


def _read_translator(run: Run, pairs: Sequence[tuple[int, int]], student: SwinIR, teacher: SwinIR) -> Translator:
    assert run.translator is not None
    width = student.config["embed_dim"]
    translator = Translator([(teacher.feature_widths[t], width) for _, t in pairs])
    key = f"{run.label}: translator"
    load_into(translator, read_weights(run.translator, key), strict=True, source=f"{key}: {run.translator}")
    return translator.requires_grad_(False)


def _middle(image: NDArray[np.uint8], window: int) -> NDArray[np.uint8]:
    """At most ``SIDE`` pixels square, in whole windows where the image has as many."""
    spans: list[slice] = []
    for length in image.shape[:2]:
        size = min(SIDE, length)
        size = max(size // window * window, min(length, window))
        start = (length - size) // 2
        spans.append(slice(start, start + size))
    return image[spans[0], spans[1]]


def _array(tokens: Tensor) -> NDArray[np.float32]:
    return tokens[0].float().cpu().numpy()
