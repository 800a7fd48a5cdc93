"""The studies that a report is about: their results, and the curves of their runs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from swinlet.errors import DataError
from swinlet.report.bands import Band, band, paired_band
from swinlet.report.history import LOG_FILE, Curve, History, read_history
from swinlet.study.results import JSON_FILE, MAX_DECIBELS, RunRecord, StudyResults, read_results
from swinlet.utils.names import distinct, printable
from swinlet.utils.run_log import METRICS_FILE

_LISTED = 6
"""Runs that a note names one by one."""


@dataclass(frozen=True)
class StudyEvidence:
    """A study, or what is left of it.

    Attributes:
        title: as given, or the name of the study file.
        results: what it has found; all texts can be shown.
        scores: variant -> PSNR-Y of the tests while its runs were trained; empty where no run has two tests.
        differences: variant -> its PSNR-Y minus the reference's, by seed.
        notes: what is missing in these.
    """

    title: str
    results: StudyResults
    scores: Mapping[str, Band]
    differences: Mapping[str, Band]
    notes: Sequence[str]


def is_study(path: Path) -> bool:
    """Whether a path names a study rather than a run: its results, or a folder that has them, or runs of variants."""
    if os.path.isdir(path):
        return not _has_log(path) and ((path / JSON_FILE).exists() or (path / "runs").is_dir())
    return path.suffix.lower() == ".json"


def open_studies(words: Sequence[tuple[str | None, Path]]) -> tuple[list[StudyEvidence], list[str]]:
    """Open studies; those whose results cannot be read become problems.

    Args:
        words: label, where one was given, and path of each.
    """
    studies: list[StudyEvidence] = []
    problems: list[str] = []
    for label, path in words:
        try:
            found = read_results(path)
        except DataError as error:
            problems.append(str(error))
            continue
        shown = StudyResults.model_validate(_shown(found.model_dump()))
        title = printable(label or Path(shown.study).stem) or "study"
        title = distinct(title, [study.title for study in studies])
        studies.append(_with_curves(title, found, shown, path if path.is_dir() else path.parent))
    return studies, problems


def _shown(value: Any) -> Any:
    """All texts of a tree without what cannot be shown."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        tree = cast("dict[str, Any]", value)
        return {_shown(key): _shown(content) for key, content in tree.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(content) for content in cast("Sequence[Any]", value)]
    return value


def _with_curves(title: str, found: StudyResults, shown: StudyResults, folder: Path) -> StudyEvidence:
    curves: dict[str, dict[int, Curve]] = {}
    incomplete: dict[str, dict[int, Curve]] = {}
    absent: list[str] = []
    notes: list[str] = []
    for run in found.runs:
        place = _folder_of(run, found, folder)
        name = f"{run.variant}, seed {run.seed}"
        if place is None:
            if run.step:
                absent.append(name)
            continue
        try:
            history = read_history(place)
        except DataError as error:
            notes.append(printable(f"No curve of {name}: {error}"))
            continue
        if history.unread:
            notes.append(f"Lines of {name} that could not be read, and are not in its curve: {history.unread}.")
        curve = _scores(run, found, history)
        if curve is None:
            absent.append(name)
        else:
            (curves if run.state == "scored" else incomplete).setdefault(run.variant, {})[run.seed] = curve
    drawn = incomplete | curves
    if any(len(curve.steps) > 1 for by_seed in drawn.values() for curve in by_seed.values()):
        notes += _notes(found, curves, incomplete, absent)
    else:
        if drawn or absent:
            notes.append(_no_curves(drawn))
        drawn = {}  # single tests: figures of dots would show less than the tables
    order = [variant.name for variant in found.variants if variant.name in drawn]
    return StudyEvidence(
        title=title,
        results=shown,
        scores={name: scores for name in order if (scores := band(drawn[name])) is not None},
        differences=_differences(found, drawn, order),
        notes=notes,
    )


def _folder_of(run: RunRecord, results: StudyResults, folder: Path) -> Path | None:
    """Where a run's curves are: beside the results, which may have moved, or where it was trained."""
    places = [Path(run.folder)]
    if places[0].is_relative_to(results.out):
        places.insert(0, folder / places[0].relative_to(results.out))
    return next((place for place in places if _has_log(place)), None)


def _has_log(folder: Path) -> bool:
    """Also of paths that the system refuses: too long, a zero in them."""
    return any(os.path.isfile(folder / name) for name in (METRICS_FILE, LOG_FILE))


def _scores(run: RunRecord, results: StudyResults, history: History) -> Curve | None:
    """PSNR-Y of the weights that are scored; of the student's own where the run has no moving average."""
    scores = history.scores
    scored = results.weights if run.weights is None else Path(run.weights).stem[-1:]
    found = next((curve for kind in (scored, "G") if (curve := scores.get(("test", kind, "psnr_y"))) is not None), None)
    steps, values = ((), ()) if found is None else (found.steps, found.values)
    shown = {step: value for step, value in zip(steps, values, strict=True) if abs(value) <= MAX_DECIBELS}
    return Curve(tuple(shown), tuple(shown.values())) if shown else None


def _differences(
    results: StudyResults, curves: Mapping[str, Mapping[int, Curve]], order: Sequence[str]
) -> dict[str, Band]:
    """Of those variants that train as many iterations as the reference: others are elsewhere in their schedule."""
    length = {variant.name: variant.total_iter for variant in results.variants}
    base = curves.get(results.reference, {})
    return {
        name: found
        for name in order
        if name != results.reference and length[name] == length[results.reference]
        if (found := paired_band(curves[name], base)) is not None
    }


def _no_curves(drawn: Mapping[str, object]) -> str:
    why = (
        "no run has more than one test in its metrics.jsonl, and a curve needs two (train.checkpoint_test is the "
        "number of iterations between tests)"
        if drawn
        else "no run has its metrics.jsonl any more, or no tests in it"
    )
    return f"No curves: {why}. Scores are those of the results."


def _notes(
    results: StudyResults,
    curves: Mapping[str, Mapping[int, Curve]],
    incomplete: Mapping[str, Mapping[int, Curve]],
    absent: Sequence[str],
) -> Iterator[str]:
    if absent:
        yield f"Not in the curves, as there is no metrics.jsonl any more, or no tests in it: {_listed(absent)}."
    passed = [f"{name}, seed {seed}" for name in incomplete if name in curves for seed in incomplete[name]]
    if passed:
        yield f"Not in the curves, as they are not complete: {_listed(passed)}."
    going = [f"{name}, seed {seed}" for name in incomplete if name not in curves for seed in incomplete[name]]
    if going:
        yield f"In the curves as far as they are: {_listed(going)}."
    others = [variant.name for variant in results.variants if variant.equal_time is not None]
    if others:
        yield (
            "Trained for another number of iterations, so that no iteration of theirs is to be compared with one of "
            f"{results.reference}: {', '.join(others)}."
        )


def _listed(names: Sequence[str]) -> str:
    shown = "; ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown}; and {len(names) - _LISTED} more"
