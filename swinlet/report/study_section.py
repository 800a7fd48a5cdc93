"""The section of a study on the page: figures, tables and sentences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swinlet.report.bands import Band
from swinlet.report.drawing import HEIGHT, WIDTH
from swinlet.report.figures import Series, panel
from swinlet.report.forest import Difference, Forest, forest
from swinlet.report.studies import StudyEvidence
from swinlet.report.ticks import Interval, common_limits
from swinlet.study.results import StudyResults, TestSetResults, VariantScores
from swinlet.study.tables import (
    Table,
    cost_table,
    introduction,
    provenance_lines,
    ranking_sentences,
    reading_notes,
    run_table,
    score_table,
    seed_table,
    set_title,
    variant_lines,
)
from swinlet.study.verdict import signed

BETTER, WORSE, UNCLEAR = "--better", "--worse", "--unclear"
"""CSS properties with the colours of differences."""

# Of score_table: what is compared, and what is told beside the seeds' values.
_COMPARED = ["", "rank", "PSNR-Y", "difference", "95 % over seeds", "95 % over images", "of the gap"]
_BESIDE = ["", "seeds", "PSNR-RGB", "SSIM-Y", "sd over seeds"]
_REFERENCE, _VARIANT = "--muted", "--model-0"
_SMALL = 2.5, 1.75  # inches of a panel where there are many
_FEW = 3  # panels, and they are as large as other figures
_FAR = 2  # times the usual height of a curve, and a panel has an axis of its own
_BEGINNING = 1 / 3  # of a run, during which scores rise so much that later ones could not be told apart


@dataclass(frozen=True)
class Panel:
    """The curve of one variant.

    Attributes:
        variant: its name.
        note: what else is to be said of it.
        figure: an ``<svg>`` element.
    """

    variant: str
    note: str
    figure: str


@dataclass(frozen=True)
class Sentence:
    """A verdict, and the colour of its difference."""

    colour: str
    text: str


@dataclass(frozen=True)
class SetSection:
    """A test set.

    Attributes:
        name: of the test set.
        title: its heading.
        figure: differences, the best first; None where there are none.
        verdicts: a sentence for each variant, in the same order.
        ranking: sentences.
        scores: what is compared.
        seeds: single runs.
    """

    name: str
    title: str
    figure: Forest | None
    verdicts: Sequence[Sentence]
    ranking: Sequence[str]
    scores: Table
    seeds: Table


@dataclass(frozen=True)
class StudySection:
    """All of a study that stands on the page; texts but for the figures."""

    title: str
    reference: str
    introduction: str
    missing: Sequence[str]
    problems: Sequence[str]
    sets: Sequence[SetSection]
    scores: Sequence[Panel]
    differences: Sequence[Panel]
    is_large: bool
    curve_notes: Sequence[str]
    variants: Sequence[str]
    costs: Table
    notes: Sequence[str]
    runs: Table
    commands: Sequence[str]
    provenance: Sequence[str]


def study_section(study: StudyEvidence) -> StudySection:
    """Draw the figures and write the sentences."""
    results = study.results
    scores = [name for name in study.scores if name != results.reference] or list(study.scores)
    size = (WIDTH, HEIGHT) if len(scores) <= _FEW else _SMALL
    return StudySection(
        title=study.title,
        reference=results.reference,
        introduction=introduction(results),
        missing=results.missing,
        problems=results.problems,
        sets=[_set_section(testset, results) for testset in results.testsets],
        scores=_score_panels(study, scores, size),
        differences=_difference_panels(study, size),
        is_large=size != _SMALL,
        curve_notes=study.notes,
        variants=list(variant_lines(results)),
        costs=cost_table(results),
        notes=list(reading_notes(results)),
        runs=run_table(results.runs),
        commands=[run.command for run in results.runs],
        provenance=provenance_lines(results),
    )


def _set_section(testset: TestSetResults, results: StudyResults) -> SetSection:
    order = sorted(
        testset.variants, key=lambda scores: -math.inf if scores.difference is None else scores.difference.mean
    )
    best_first = order[::-1]
    table = score_table(testset)
    return SetSection(
        name=testset.name,
        title=set_title(testset, results),
        figure=_difference_figure(testset, best_first, results),
        verdicts=[Sentence(_colour(scores), scores.verdict) for scores in best_first if scores.verdict],
        ranking=ranking_sentences(testset),
        scores=_with_times(_columns(table, _COMPARED), results),
        seeds=_beside(_columns(table, _BESIDE), seed_table(testset, results)),
    )


def _columns(table: Table, headings: Sequence[str]) -> Table:
    places = [table[0].index(heading) for heading in headings]
    return [[row[place] for place in places] for row in table]


def _with_times(table: Table, results: StudyResults) -> Table:
    """With what an iteration of each variant takes."""
    seconds = {variant.name: variant.seconds_per_step for variant in results.variants}
    times = {name: f"{1000 * value:.1f}" for name, value in seconds.items() if value is not None}
    cells = ["ms per iteration", *(times.get(row[0], "-") for row in table[1:])]
    return [[*row, cell] for row, cell in zip(table, cells, strict=True)]


def _beside(table: Table, seeds: Table) -> Table:
    """The second table's columns beside the first one's, of the rows that the second one has."""
    left = {row[0]: row[1:] for row in table}
    return [[row[0], *row[1:], *left[row[0]]] for row in seeds]


def _colour(scores: VariantScores) -> str:
    found = scores.difference
    if found is None or not found.is_clear:
        return UNCLEAR
    return BETTER if found.mean > 0 else WORSE


def _difference_figure(
    testset: TestSetResults, variants: Sequence[VariantScores], results: StudyResults
) -> Forest | None:
    """All differences to the reference."""
    rows: list[Difference] = []
    for scores in variants:
        found = scores.difference
        if found is None:
            continue
        bounds = found.over_seeds
        interval = None if bounds is None else (bounds.low, bounds.high)
        text = signed(found.mean)
        if bounds is not None:
            text += f" ({signed(bounds.low)} to {signed(bounds.high)})"
        text = text.replace("-", "\N{MINUS SIGN}")
        rows.append(Difference(scores.variant, text, _colour(scores), found.values, found.mean, interval))
    if not rows:
        return None
    mark = None if testset.gap is None or testset.gap <= 0 else (f"teacher {signed(testset.gap)}", testset.gap)
    title = f"Difference to {results.reference} on {testset.name}"
    return forest(title, "dB of PSNR-Y, paired by seed", rows, mark)


def _score_panels(study: StudyEvidence, names: Sequence[str], size: tuple[float, float]) -> list[Panel]:
    reference = study.results.reference
    base = study.scores.get(reference)
    shown = {name: [_series(name, study.scores[name], _VARIANT)] for name in names if name != reference}
    if base is not None:
        behind = _series(reference, base, _REFERENCE)
        shown = {name: [behind, *series] for name, series in (shown or {reference: []}).items()}
    bands = {name: [study.scores[name], *([] if base is None else [base])] for name in shown}
    titles = {
        name: f"{name}: PSNR-Y while training, mean and band from the lowest to the highest of "
        f"{_count(study.scores[name])}, {_ends(study.scores[name])}"
        + ("" if base is None or name == reference else f"; {reference}: {_ends(base)}")
        for name in shown
    }
    return _panels(study, titles, shown, bands, size, zero=False)


def _difference_panels(study: StudyEvidence, size: tuple[float, float]) -> list[Panel]:
    titles = {
        name: f"{name}: PSNR-Y minus that of {study.results.reference} while training, mean and band from the lowest "
        f"to the highest of {_count(found)}, {_ends(found)}"
        for name, found in study.differences.items()
    }
    series = {name: [_series(name, found, _VARIANT)] for name, found in study.differences.items()}
    bands = {name: [found] for name, found in study.differences.items()}
    return _panels(study, titles, series, bands, size, zero=True)


def _panels(
    study: StudyEvidence,
    titles: Mapping[str, str],
    series: Mapping[str, Sequence[Series]],
    bands: Mapping[str, Sequence[Band]],
    size: tuple[float, float],
    *,
    zero: bool,
) -> list[Panel]:
    """A panel for each variant, all with the same limits but those that would not be seen then."""
    if not titles:
        return []
    last = max(found.steps[-1] for drawn in bands.values() for found in drawn)
    extents = {name: _extent(drawn, zero=zero) for name, drawn in bands.items()}
    low, high = common_limits(list(extents.values()), _FAR)
    panels: list[Panel] = []
    for name, title in titles.items():
        fits = low <= extents[name][0] and extents[name][1] <= high
        limits = (low, high) if fits else common_limits([extents[name]])
        notes = [] if fits else ["an axis of its own"]
        drawn = bands[name][0].seeds
        if len(drawn) < len(study.results.seeds):
            notes.append(f"{len(drawn)} of {len(study.results.seeds)} seeds")
        figure = panel(title, series[name], ((0, max(last, 1)), limits), size=size, zero=zero)
        panels.append(Panel(name, ", ".join(notes), figure))
    return panels


def _extent(bands: Sequence[Band], *, zero: bool) -> Interval:
    extents = [band.extent(_BEGINNING * band.steps[-1]) for band in bands]
    extents += [(0.0, 0.0)] if zero else []
    return min(low for low, _ in extents), max(high for _, high in extents)


def _series(label: str, band: Band, colour: str) -> Series:
    return Series(label, colour, band.steps, band.mean, band=(band.low, band.high))


def _count(band: Band) -> str:
    return f"{len(band.seeds)} seed{'s' * (len(band.seeds) != 1)}"


def _ends(band: Band) -> str:
    return f"{band.mean[-1]:.2f} dB ({band.low[-1]:.2f} to {band.high[-1]:.2f}) at iteration {band.steps[-1]:,}"
