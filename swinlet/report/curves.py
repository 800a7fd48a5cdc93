"""Figures of a report: convergence, efficiency."""

from collections.abc import Mapping, Sequence

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
SETS = {"test": "test set", "val": "validation set"}


def score_figures(runs: Sequence[Run], colours: Mapping[str, str]) -> list[str]:
    """PSNR and SSIM over iterations, for each set and metric that a run recorded."""
    figures: list[str] = []
    for subset, where in SETS.items():
        for metric, (heading, unit) in SCORES.items():
            series = [one for run in runs for one in _scores(run, subset, metric, colours[run.label], len(runs) == 1)]
            if series:
                figures.append(curves(f"{heading}, {where}", "iteration", unit, series))
    return figures


def _scores(run: Run, subset: str, metric: str, colour: str, alone: bool) -> list[Series]:
    """The weights to deploy; of a run that is alone, the raw ones as well."""
    found = {w: c for w in ("E", "", "G") if (c := run.history.scores.get((subset, w, metric))) is not None}
    names = {"E": "EMA", "": "", "G": "raw"}
    kept = found if alone else dict(list(found.items())[:1])
    return [
        _series(
            f"{title_of(run)}{f', {names[w]}' if names[w] else ''}", colour, curve, dashed=w == "G" and len(kept) > 1
        )
        for w, curve in kept.items()
    ]


def loss_figures(runs: Sequence[Run], colours: Mapping[str, str]) -> list[str]:
    """Each loss term, and the learning rate."""
    names = dict.fromkeys([*LOSSES, *(name for run in runs for name in run.history.losses)])
    figures: list[str] = []
    for name in names:
        series = [
            _series(title_of(run), colours[run.label], run.history.losses[name])
            for run in runs
            if name in run.history.losses
        ]
        if series:
            figures.append(curves(LOSSES.get(name, name), "iteration", "weighted loss", series, log_y=True))
    rates = [
        _series(title_of(run), colours[run.label], run.history.learning_rate)
        for run in runs
        if run.history.learning_rate.steps
    ]
    return [*figures, curves("Learning rate", "iteration", "", rates)] if rates else figures


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
