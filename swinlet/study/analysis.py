"""From scores of single images to differences, intervals and ranks; pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from swinlet.statistics import compare
from swinlet.study.results import (
    Baseline,
    Difference,
    GapShare,
    Interval,
    Rank,
    Ranking,
    SeedScore,
    TestSetResults,
    VariantScores,
)
from swinlet.study.student_t import seeds_needed, t_interval
from swinlet.study.verdict import verdict

Images = Mapping[str, Mapping[str, float | None]]
"""Image -> metric -> value; None: infinite."""


@dataclass(frozen=True)
class SetData:
    """Scores on one test set.

    Attributes:
        name, folder, identity, low_resolution: of the test set.
        bicubic: label -> scores.
        teacher: None where there is none.
        runs: variant -> seed -> scores, variants and seeds in the order of the study.
    """

    name: str
    folder: str
    identity: str
    low_resolution: str
    bicubic: Mapping[str, Images]
    teacher: Images | None
    runs: Mapping[str, Mapping[int, Images]]


def mean(images: Images, metric: str) -> float | None:
    """Over the images; None where one has no finite value, or there is none."""
    values = [scores[metric] for scores in images.values()]
    finite = [value for value in values if value is not None]
    return fmean(finite) if finite and len(finite) == len(values) else None


def analyse(data: SetData, reference: str) -> TestSetResults:
    """All differences to the reference, and the ranking."""
    teacher = None if data.teacher is None else _baseline("teacher", data.teacher)
    top = None if teacher is None else teacher.psnr_y
    variants = [_variant(name, data, reference, top) for name in data.runs]
    base = next(variant.psnr_y for variant in variants if variant.variant == reference)
    return TestSetResults(
        name=data.name,
        folder=data.folder,
        identity=data.identity,
        images=len(next(iter(data.bicubic.values()))),
        low_resolution=data.low_resolution,
        baselines=tuple(_baseline(label, images) for label, images in data.bicubic.items()),
        teacher=teacher,
        gap=None if top is None or base is None else top - base,
        variants=tuple(variants),
        ranking=rank(data.runs),
    )


def _baseline(label: str, images: Images) -> Baseline:
    return Baseline(
        label=label, psnr_y=mean(images, "psnr_y"), psnr_rgb=mean(images, "psnr_rgb"), ssim_y=mean(images, "ssim_y")
    )


def _variant(name: str, data: SetData, reference: str, top: float | None) -> VariantScores:
    runs = data.runs[name]
    seeds = tuple(
        SeedScore(
            seed=seed,
            psnr_y=mean(images, "psnr_y"),
            psnr_rgb=mean(images, "psnr_rgb"),
            ssim_y=mean(images, "ssim_y"),
        )
        for seed, images in runs.items()
    )
    scores = _finite([score.psnr_y for score in seeds])
    is_reference = name == reference
    found = None if is_reference else difference(reference, data.runs[reference], runs, top)
    return VariantScores(
        variant=name,
        seeds=seeds,
        psnr_y=fmean(scores) if scores else None,
        psnr_rgb=_mean_or_none([score.psnr_rgb for score in seeds]),
        ssim_y=_mean_or_none([score.ssim_y for score in seeds]),
        deviation=stdev(scores) if scores and len(scores) > 1 else None,
        difference=found,
        verdict="" if is_reference else verdict(name, reference, data.name, found, has_teacher=top is not None),
    )


def _finite(values: Sequence[float | None]) -> list[float]:
    """The values; none of them where one is missing: a mean over the others would be of something else."""
    finite = [value for value in values if value is not None]
    return finite if len(finite) == len(values) else []


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    finite = _finite(values)
    return fmean(finite) if finite else None


def difference(
    against: str, others: Mapping[int, Images], runs: Mapping[int, Images], top: float | None = None
) -> Difference | None:
    """A variant against another one.

    Args:
        against: the other one's name.
        others, runs: seed -> scores of its runs, and of the variant's.
        top: mean PSNR-Y of the teacher, for the share of its gap.

    Returns:
        None where no seed is shared, or a score is infinite.
    """
    seeds = [seed for seed in runs if seed in others]
    ours = _finite([mean(runs[seed], "psnr_y") for seed in seeds])
    theirs = _finite([mean(others[seed], "psnr_y") for seed in seeds])
    if not ours or not theirs:
        return None
    values = [one - other for one, other in zip(ours, theirs, strict=True)]
    middle, bounds = fmean(values), t_interval(values)
    deviation = stdev(values) if len(values) > 1 else None
    images = compare(against, "", *(_over_seeds(side, seeds) for side in (others, runs)))
    over_images = None
    if images.low is not None and images.high is not None:
        over_images = Interval(low=images.low, high=images.high)
    return Difference(
        against=against,
        seeds=tuple(seeds),
        values=tuple(values),
        mean=middle,
        deviation=deviation,
        over_seeds=None if bounds is None else Interval(low=bounds[0], high=bounds[1]),
        over_images=over_images,
        images=images.images,
        share=None if top is None else _share(values, [top - score for score in theirs]),
        seeds_needed=None if deviation is None else seeds_needed(middle, deviation),
    )


def _over_seeds(runs: Mapping[int, Images], seeds: Sequence[int]) -> dict[str, float]:
    """PSNR-Y of each image, mean over seeds."""
    names = runs[seeds[0]]
    return {name: fmean(_of(runs[seed], name) for seed in seeds) for name in names}


def _of(images: Images, name: str) -> float:
    value = images[name]["psnr_y"]
    return math.inf if value is None else value


def _share(values: Sequence[float], gaps: Sequence[float]) -> GapShare | None:
    """Seed by seed: where the other variant is bad by luck, the difference and the gap are both large."""
    if min(gaps) <= 0:
        return None
    shares = [value / gap for value, gap in zip(values, gaps, strict=True)]
    low, high = t_interval(shares) or (None, None)
    return GapShare(gap=fmean(gaps), share=fmean(shares), low=low, high=high)


def rank(runs: Mapping[str, Mapping[int, Images]]) -> Ranking | None:
    """Order the variants that have runs, over the seeds that all of them share. None where there is no such seed, or a
    score is infinite."""
    present = {name: seeds for name, seeds in runs.items() if seeds}
    if not present:
        return None
    shared = [seed for seed in next(iter(present.values())) if all(seed in seeds for seeds in present.values())]
    scores = {name: _finite([mean(seeds[seed], "psnr_y") for seed in shared]) for name, seeds in present.items()}
    if not all(scores.values()):
        return None
    ranks = (
        Rank(
            variant=name,
            best=1 + sum(_is_clearly_better(other, own) for other in scores.values()),
            worst=len(scores) - sum(_is_clearly_better(own, other) for other in scores.values()),
        )
        for name, own in scores.items()
    )
    return Ranking(seeds=tuple(shared), ranks=tuple(sorted(ranks, key=lambda rank: -fmean(scores[rank.variant]))))


def _is_clearly_better(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    bounds = t_interval([one - other for one, other in zip(ours, theirs, strict=True)])
    return bounds is not None and bounds[0] > 0
