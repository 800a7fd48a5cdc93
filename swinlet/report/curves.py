"""Figures of a report: convergence, efficiency."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from swinlet.evaluation.results import Evaluation, TestSetResult
from swinlet.report.figures import Point, Series, curves, scatter
from swinlet.report.history import Curve
from swinlet.report.runs import Run

SCORES = {
    "psnr_y": ("PSNR-Y", "dB"),
    "psnr_rgb": ("PSNR-RGB", "dB"),
    "ssim_y": ("SSIM-Y", ""),
}
LOSSES = {
    "l_g_L1": "Pixel loss (l_g_L1)",
    "l_g_distill": "Response loss (l_g_distill)",
    "l_g_feature": "Feature loss (l_g_feature)",
    "G_loss": "Sum of the losses (G_loss)",
}
COLOURS = 8
"""How many runs have a colour of their own; those beyond are dashed."""

SMOOTHED_FROM = 60
"""Losses with as many values are smoothed, over a ``WINDOWS``-th of the run."""
WINDOWS = 25

SETS = {"test": "test set", "val": "validation set"}


def score_figures(runs: Sequence[Run], colours: Mapping[str, str]) -> list[str]:
    """PSNR and SSIM over iterations, for each set and metric that a run recorded."""
    figures: list[str] = []
    alone = len(runs) == 1
    for subset, where in SETS.items():
        for metric, (heading, unit) in SCORES.items():
            series = [one for i, run in enumerate(runs) for one in _scores(run, subset, metric, colours, i, alone)]
            if series:
                figures.append(curves(f"{heading}, {where}", "iteration", unit, series, legend=not alone))
    return figures


def _scores(
    run: Run, subset: str, metric: str, colours: Mapping[str, str], place: int, alone: bool
) -> Iterator[Series]:
    """The weights to deploy; of a run that is alone, the raw ones as well."""
    found = {w: c for w in ("E", "", "G") if (c := run.history.scores.get((subset, w, metric))) is not None}
    names = {"E": ", EMA", "": "", "G": ", raw"}
    for i, (weights, curve) in enumerate(found.items()):
        if alone or i == 0:
            dashed = (weights == "G" and len(found) > 1 and alone) or place >= COLOURS
            yield _series(f"{title_of(run)}{names[weights]}", colours[run.label], curve, dashed=dashed)


def loss_figures(runs: Sequence[Run], colours: Mapping[str, str]) -> list[str]:
    """Each loss term, smoothed where there are many values, and the learning rate."""
    legend = len(runs) > 1
    names = dict.fromkeys([*LOSSES, *(name for run in runs for name in run.history.losses)])
    figures: list[str] = []
    for name in names:
        series: list[Series] = []
        for i, run in enumerate(runs):
            if name in run.history.losses:
                series += _smoothed(title_of(run), colours[run.label], run.history.losses[name], dashed=i >= COLOURS)
        if series:
            title = LOSSES.get(name, name)
            figures.append(curves(title, "iteration", "loss, log scale", series, log_y=True, legend=legend))
    rates = [
        _series(title_of(run), colours[run.label], run.history.learning_rate, dashed=i >= COLOURS)
        for i, run in enumerate(runs)
        if run.history.learning_rate.steps
    ]
    return [*figures, curves("Learning rate", "iteration", "", rates, legend=legend)] if rates else figures


def _smoothed(label: str, colour: str, curve: Curve, *, dashed: bool) -> list[Series]:
    """The curve itself or, if it is long, its running mean with the curve behind."""
    count = len(curve.steps)
    if count < SMOOTHED_FROM:
        return [_series(label, colour, curve, dashed=dashed)]
    half = count // WINDOWS // 2
    sums = np.concatenate([[0.0], np.cumsum(curve.values)])
    low = np.maximum(np.arange(count) - half, 0)
    high = np.minimum(np.arange(count) + half + 1, count)
    means = (sums[high] - sums[low]) / (high - low)
    raw = Series(label, colour, curve.steps, curve.values, faint=True)
    return [raw, Series(label, colour, curve.steps, means.tolist(), dashed=dashed)]


def _series(label: str, colour: str, curve: Curve, *, dashed: bool = False) -> Series:
    return Series(label, colour, curve.steps, curve.values, dashed=dashed)


def title_of(run: Run) -> str:
    """Label and name of a run."""
    return run.label if run.label == run.name else f"{run.label}: {run.name}"


def efficiency_figures(result: TestSetResult, evaluation: Evaluation, colours: Mapping[str, str]) -> list[str]:
    """PSNR-Y against parameters and against latency."""
    cards = [(row, card) for row in result.rows if (card := evaluation.card(row.label)) is not None]
    if not cards:
        return []
    heading = f"PSNR-Y on {result.name} against "
    parameters = [Point(card.label, colours[card.label], card.parameters, row.mean("psnr_y")) for row, card in cards]
    figures = [scatter(f"{heading}parameters", "parameters", "dB", parameters, log_x=True)]
    times = [
        Point(card.label, colours[card.label], card.latency.milliseconds, row.mean("psnr_y"))
        for row, card in cards
        if card.latency is not None
    ]
    if times:
        figures.append(scatter(f"{heading}latency", "ms for one LR image", "dB", times, log_x=True))
    return figures
