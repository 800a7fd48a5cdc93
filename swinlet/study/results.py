"""What a study has found, as ``results.json`` holds it.

Differences are always variant minus reference, in dB of PSNR-Y, paired by seed.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from swinlet.errors import DataError
from swinlet.utils.files import MAX_RECORD, read_regular
from swinlet.utils.names import printable

FORMAT = 1
JSON_FILE, MARKDOWN_FILE = "results.json", "results.md"  # in the study's folder

MAX_DECIBELS = 1e6  # no picture reaches it; it keeps files of strangers drawable
Decibels = Annotated[float, Field(ge=-MAX_DECIBELS, le=MAX_DECIBELS)]
"""A PSNR or a difference."""
Share = Annotated[float, Field(ge=-1e300, le=1e300)]
"""Of the teacher's gap, which may be tiny; as per cent it is a number still."""


class Record(BaseModel):
    """A part of the results; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(Record):
    """A 95 % interval in dB."""

    low: Decibels
    high: Decibels

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign is clear."""
        return self.low > 0 or self.high < 0


class SeedScore(Record):
    """One run on one test set: means over its images, PSNR in dB; null: infinite."""

    seed: int
    psnr_y: Decibels | None
    psnr_rgb: Decibels | None
    ssim_y: float | None


class GapShare(Record):
    """A difference as a share of the teacher's lead over the reference; 1 is as good as the teacher.

    Attributes:
        gap: the lead in dB, over the same seeds; greater than 0.
        share: difference over gap, mean over the seeds.
        low, high: Student's t interval of that mean; null with one seed.
    """

    gap: Decibels
    share: Share
    low: Share | None
    high: Share | None


class Difference(Record):
    """A variant against another one on one test set, over the seeds that both have.

    Attributes:
        against: the other variant.
        seeds: which were paired.
        values: the difference of each.
        mean: over seeds.
        deviation: standard deviation over seeds; null with one.
        over_seeds: Student's t interval of the mean; null with one seed.
        over_images: bootstrap interval over images of the mean over seeds; null with one image.
        images: how many were compared.
        share: of the teacher's gap; null without a teacher, or with one that is not better than the other variant with
            each seed.
        seeds_needed: to show a difference of this size with this spread four times in five; null: more than 1000, or
            one seed.
    """

    against: str
    seeds: tuple[int, ...]
    values: tuple[Decibels, ...]
    mean: Decibels
    deviation: float | None
    over_seeds: Interval | None
    over_images: Interval | None
    images: int
    share: GapShare | None
    seeds_needed: int | None

    @model_validator(mode="after")
    def _has_a_value_for_each_seed(self) -> Self:
        if not self.seeds or len(self.seeds) != len(self.values):
            raise ValueError("seeds and values are not equally many")
        return self

    @property
    def is_clear(self) -> bool:
        """Whether the interval over seeds excludes zero."""
        return self.over_seeds is not None and self.over_seeds.excludes_zero


class VariantScores(Record):
    """A variant on one test set.

    Attributes:
        variant: its name.
        seeds: a score for each finished run.
        psnr_y, psnr_rgb, ssim_y: means over seeds; null without a finished run.
        deviation: of PSNR-Y over seeds; null with fewer than two.
        difference: to the reference; null for the reference itself, and without a shared seed.
        verdict: the difference in words; "" for the reference itself.
    """

    variant: str
    seeds: tuple[SeedScore, ...]
    psnr_y: Decibels | None
    psnr_rgb: Decibels | None
    ssim_y: float | None
    deviation: float | None
    difference: Difference | None
    verdict: str


class Baseline(Record):
    """What was not trained here: bicubic interpolation, the teacher."""

    label: str
    psnr_y: Decibels | None
    psnr_rgb: Decibels | None
    ssim_y: float | None


class Rank(Record):
    """Which places a variant may have.

    Attributes:
        variant: its name.
        best: one more than the number of variants that are better, their paired interval clear of zero.
        worst: the number of all, less those that are worse in the same way.
    """

    variant: str
    best: Annotated[int, Field(ge=1)]
    worst: Annotated[int, Field(ge=1)]


class Ranking(Record):
    """An order by mean PSNR-Y.

    Attributes:
        seeds: those that all ranked variants have; nothing else counts.
        ranks: best mean first.
    """

    seeds: tuple[int, ...]
    ranks: tuple[Rank, ...]


class TestSetResults(Record):
    """All about one test set.

    Attributes:
        name, folder: of the test set.
        identity: changes with its images.
        images: how many were scored.
        low_resolution: where LR comes from.
        baselines: bicubic, one or two ways.
        teacher: null where the study names none.
        gap: the teacher's mean PSNR-Y minus that of the reference over all its seeds; null where one is missing.
        variants: in the order of the study file.
        ranking: null where no seed is shared by all variants that have runs.
    """

    __test__ = False  # not for pytest

    name: str
    folder: str
    identity: str
    images: int
    low_resolution: str
    baselines: tuple[Baseline, ...]
    teacher: Baseline | None
    gap: Decibels | None
    variants: tuple[VariantScores, ...]
    ranking: Ranking | None


class RunRecord(Record):
    """One run.

    Attributes:
        variant, seed: which.
        state: "missing": not finished, or not scored.
        step, total_iter: iterations done, and to do (null: not decided yet).
        folder: of the run; metrics.jsonl in it has its curves, scores.json its scores image by image.
        options_file, command: what trained it.
        options_sha256, log_sha256, weights_sha256: checksums of that file, of train.log and of the scored weights; null
            where there are none.
        weights: the file that was scored.
        seconds_per_step: median; null where it has logged nothing.
        hosts: machines that it was trained on.
    """

    variant: str
    seed: int
    state: Literal["scored", "missing"]
    step: int
    total_iter: int | None
    folder: str
    options_file: str
    options_sha256: str | None
    log_sha256: str | None
    weights: str | None
    weights_sha256: str | None
    command: str
    seconds_per_step: float | None
    hosts: tuple[str, ...]


class VariantRecord(Record):
    """What a variant is, and what a step of it costs.

    Attributes:
        name: in the study file.
        folder: of its runs.
        changes: to the base, as ``key: value``.
        total_iter: of its runs; null: not decided yet.
        equal_time: the variant whose time it has; null for others.
        has_own_first_weights: variants of one seed start from the same weights, but this one does not.
        has_untrained_teacher: it learns from random weights.
        seconds_per_step: median over its runs; the machine's noise is in it.
        cost: over that of the reference.
    """

    name: str
    folder: str
    changes: tuple[str, ...]
    total_iter: int | None
    equal_time: str | None
    has_own_first_weights: bool
    has_untrained_teacher: bool
    seconds_per_step: float | None
    cost: float | None


class StudyResults(Record):
    """All that is known of a study when it is written.

    Attributes:
        format: of this file.
        study, study_sha256: the study file.
        base, base_sha256: its option file.
        out: its folder.
        reference: the variant that others are compared with.
        seeds: of the study.
        weights: "E" or "G", of the last iteration.
        scale: of all runs.
        teacher, teacher_sha256: the weights that scored as the teacher; null where none is named.
        variants, runs: in the order of the study.
        testsets: in the order of the study file.
        comparisons: how many intervals were looked at, for verdicts; ranks look at all pairs.
        missing: runs that are not in the numbers, and why.
        problems: what else could not be done.
        provenance: versions, device, settings, command line.
    """

    format: Literal[1] = FORMAT
    study: str
    study_sha256: str
    base: str
    base_sha256: str
    out: str
    reference: str
    seeds: tuple[int, ...]
    weights: Literal["E", "G"]
    scale: int
    teacher: str | None
    teacher_sha256: str | None
    variants: tuple[VariantRecord, ...]
    runs: tuple[RunRecord, ...]
    testsets: tuple[TestSetResults, ...]
    comparisons: Annotated[int, Field(ge=0, le=10**9)]
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        known = [variant.name for variant in self.variants]
        named = [scores.variant for testset in self.testsets for scores in testset.variants]
        named += [self.reference, *(run.variant for run in self.runs)]
        if len(set(known)) < len(known) or not set(named) <= set(known) or not "".join(known).isprintable():
            raise ValueError("names of variants do not agree, or cannot be shown")
        return self


def read_results(path: Path) -> StudyResults:
    """Read ``results.json``.

    Args:
        path: the file, or the study's folder.

    Raises:
        DataError: it is missing, damaged, or of another version.
    """
    file = path / JSON_FILE if os.path.isdir(path) else path
    try:
        return StudyResults.model_validate_json(read_regular(file, MAX_RECORD))
    except OSError as error:
        reason = error.strerror or str(error)
    except ValidationError as error:
        reason = _reason(error)
    raise DataError(
        f"{file}: no results of a study: {reason}: name a study's out folder, or write them with swinlet study "
        "--results-only"
    )


def _reason(error: ValidationError) -> str:
    """Why a file holds no results, in a few words."""
    faults = error.errors(include_url=False, include_context=False)
    first = faults[0]
    for fault in faults:
        if fault["type"] == "json_invalid":
            return "it is torn, or not JSON"
        if fault["loc"] == ("format",) and fault["type"] == "literal_error":
            return f"its format is {printable(str(fault['input']))[:20]}, this swinlet reads {FORMAT}"
    where = ".".join(map(str, first["loc"]))[:100] or "all of it"
    return f"{error.error_count()} values are not as expected, the first is {where!r}"
