"""The page of a report: HTML from a template, self-contained."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from swinlet.evaluation.results import BICUBIC, INPUT, PUBLISHED_BICUBIC, TEACHER, Evaluation, TestSetResult
from swinlet.evaluation.tables import comparison_notes, comparison_sentences, image_table, notes, score_table, title
from swinlet.report.curves import COLOURS, SMOOTHED_FROM, efficiency_figures, loss_figures, score_figures, title_of
from swinlet.report.features import FeatureEvidence
from swinlet.report.pictures import ImageEvidence
from swinlet.report.runs import Run, options_table
from swinlet.report.studies import StudyEvidence
from swinlet.report.study_section import study_section


@dataclass(frozen=True)
class Report:
    """All that stands on the page.

    Attributes:
        evaluation: None where nothing was scored.
        problems: what is missing.
        notes: what a reader has to know besides.
    """

    runs: Sequence[Run]
    studies: Sequence[StudyEvidence]
    evaluation: Evaluation | None
    images: Sequence[ImageEvidence]
    features: Sequence[FeatureEvidence]
    notes: Sequence[str]
    problems: Sequence[str]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class _ScoreSection:
    title: str
    table: list[list[str]]
    figures: list[str]
    images: list[list[str]]


def render(report: Report) -> str:
    """The page: no file and no network beside it."""
    environment = Environment(
        loader=PackageLoader("swinlet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    colours = colours_of(report.runs)
    titles = {run.label: title_of(run) for run in report.runs}
    evaluation = report.evaluation
    return environment.get_template("report.html").render(
        report=report,
        colours=colours,
        titles=titles,
        headings=[*titles.values(), *(f"Study {study.title}" for study in report.studies)],
        studies=[study_section(study) for study in report.studies],
        score_figures=score_figures(report.runs, colours),
        smoothed=any(len(c.steps) >= SMOOTHED_FROM for run in report.runs for c in run.history.losses.values()),
        loss_figures=loss_figures(report.runs, colours),
        scores=[] if evaluation is None else [_scores(result, evaluation, colours) for result in evaluation.sets],
        comparisons=[] if evaluation is None else comparison_sentences(evaluation),
        comparison_notes=[] if evaluation is None else comparison_notes(evaluation),
        score_notes=[] if evaluation is None else notes(evaluation),
        cards=[] if evaluation is None else evaluation.models,
        options=options_table(report.runs),
        generated=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        style=environment.get_template("report.css").render(),
    )


def colours_of(runs: Sequence[Run]) -> dict[str, str]:
    """The CSS property with the colour of each run, the teacher and bicubic interpolation, on the whole page.

    Those of the runs are --model-0 to --model-7 in the style sheet.
    """
    colours = {run.label: f"--model-{i % COLOURS}" for i, run in enumerate(runs)}
    bicubic = dict.fromkeys([PUBLISHED_BICUBIC, BICUBIC, INPUT], "--bicubic")
    return {**bicubic, TEACHER: "--teacher", "HR": "--muted", **colours}


def _scores(result: TestSetResult, evaluation: Evaluation, colours: Mapping[str, str]) -> _ScoreSection:
    return _ScoreSection(
        title(result, evaluation),
        score_table(result, evaluation),
        efficiency_figures(result, evaluation, colours),
        image_table(result),
    )
