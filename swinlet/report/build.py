"""A report: runs, their scores and evidence, and studies, gathered and put into one page."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from swinlet.errors import CheckpointError, DataError, OptionError
from swinlet.evaluation.detail import Crop
from swinlet.evaluation.evaluate import measure, provenance, score_testsets
from swinlet.evaluation.models import Contender, NamedFile, open_contenders
from swinlet.evaluation.results import TEACHER, Evaluation
from swinlet.evaluation.scoring import Image, Picture
from swinlet.evaluation.testsets import OpenTestSet, folders_as_testset, open_testset
from swinlet.inference import RestoreOptions
from swinlet.models.network_swinir import SwinIR
from swinlet.report.evidence import check_inside
from swinlet.report.features import FeatureEvidence, feature_evidence
from swinlet.report.page import Report, render
from swinlet.report.pictures import ImageEvidence, image_evidence
from swinlet.report.runs import Run, open_runs
from swinlet.report.studies import is_study, open_studies
from swinlet.utils.console import ProgressBar
from swinlet.utils.files import sha256_of
from swinlet.utils.names import distinct


@dataclass(frozen=True)
class ReportRequest:
    """What to report on, and how.

    Attributes:
        runs: label (None: A, B, C, ...) and path of each; studies among them.
        restore: device and precision for restoring the test images.
        teacher: weight file, as ``NamedFile.word``; None: that of the runs' options.
        download: let an ``hf://`` teacher be fetched.
        testsets: folders as for ``swinlet evaluate``; none: the test sets of the runs' options.
        net_types: as for ``swinlet evaluate``.
        crops: image name -> the detail to show.
        crop_side: of the details that are found, in HR pixels.
        latency_size: as for ``swinlet evaluate``.
        curves_only: no scores, no pictures.
    """

    runs: tuple[tuple[str | None, Path], ...]
    restore: RestoreOptions
    teacher: str | None = None
    download: bool = False
    testsets: tuple[Path, ...] = ()
    net_types: Mapping[str | None, str] = field(default_factory=dict[str | None, str])
    crops: Mapping[str, Crop] = field(default_factory=dict[str, Crop])
    crop_side: int = 64
    latency_size: int = 128
    curves_only: bool = False


def build_report(request: ReportRequest, bar: ProgressBar) -> tuple[str, list[str]]:
    """The page as HTML, and what is missing on it.

    Raises:
        DataError: no run and no study can be read.
    """
    origin = provenance(request.restore, time.time())
    studies, problems = open_studies([(label, path) for label, path in request.runs if is_study(path)])
    runs, faults = open_runs([(label, path) for label, path in request.runs if not is_study(path)])
    problems += faults
    if not runs and not studies:
        raise DataError("\n".join(problems))
    problems += [f"{run.path}: {problem}" for run in runs for problem in run.problems]
    scored = [] if request.curves_only else [run for run in runs if run.weights is not None]
    evidence = _Evidence(request, scored)
    if not request.curves_only:
        missing = [run.label for run in runs if run.weights is None and run.path.is_dir()]
        evidence.notes += [f"{label} has no weights: no scores and no pictures of it." for label in missing]
    if scored:
        evidence.gather(bar, origin)
    problems += evidence.problems
    report = Report(
        runs=runs,
        studies=studies,
        evaluation=evidence.evaluation,
        images=evidence.images,
        features=evidence.features,
        notes=evidence.notes,
        problems=problems,
        provenance=origin,
    )
    return render(report), problems


class _Evidence:
    """Scores and pictures of the runs that have weights."""

    def __init__(self, request: ReportRequest, runs: Sequence[Run]) -> None:
        self._request = request
        self._runs = runs
        self.evaluation: Evaluation | None = None
        self.images: list[ImageEvidence] = []
        self.features: list[FeatureEvidence] = []
        self.notes: list[str] = []
        self.problems: list[str] = []
        self._unused_crops = set(request.crops)
        self._first_low: tuple[str, Image] | None = None

    def gather(self, bar: ProgressBar, origin: dict[str, Any]) -> None:
        """Restore and score all test images, then look inside the networks."""
        request = self._request
        contenders, faults = open_contenders(
            [
                NamedFile(str(run.weights), run.label, f"run {run.label}")
                for run in self._runs
                if run.weights is not None
            ],
            self._teacher(),
            scale=None,
            net_types=request.net_types,
            options=request.restore,
            download=request.download,
        )
        self.problems += faults
        if not contenders:
            return
        scale = contenders[0].network.upscale
        testsets = self._testsets(contenders[0])
        students = [contender.card.label for contender in contenders if contender.card.role == "student"]

        def observe(testset: OpenTestSet, picture: Picture, restored: Mapping[str, Image]) -> None:
            self._show(testset, picture, restored, students, scale)

        sets, faults = score_testsets(testsets, contenders, scale, bar, observe)
        self.problems += faults
        self.problems += [f"--crop {name}: no test image has this name" for name in sorted(self._unused_crops)]
        if sets:
            self.problems += measure(contenders, request.latency_size, bar)
            cards = [contender.card for contender in contenders]
            self.evaluation = Evaluation(scale, sets, cards, [], origin)
        self._look_inside({contender.card.label: contender for contender in contenders})

    def _teacher(self) -> NamedFile | None:
        """The one asked for, or the first that a run learned from."""
        if self._request.teacher is not None:
            return NamedFile(self._request.teacher, origin="--teacher")
        taught = [(run, path) for run in self._runs if (path := _teacher_of(run)) is not None]
        if not taught:
            return None
        first, path = taught[0]
        others = [f"{run.label} ({other})" for run, other in taught if not _same_file(path, other)]
        if others:
            self.notes.append(f"Shown is the teacher {path}; another one taught {', '.join(others)}.")
        return NamedFile(str(path), origin=f"run {first.label}: path.pretrained_netTeacher (or name it with --teacher)")

    def _testsets(self, first: Contender) -> list[OpenTestSet]:
        scale, n_channels = first.network.upscale, first.network.in_chans
        if self._request.testsets:
            folders = dict.fromkeys(self._request.testsets)
            return self._opened([partial(open_testset, folder, scale, n_channels) for folder in folders])
        sections: dict[tuple[Path, Path | None], str] = {}
        for run in self._runs:
            section = None if run.options is None else run.options.datasets.test
            if section is not None:
                sections.setdefault((section.dataroot_H, section.dataroot_L), run.label)
        if not sections and not any(run.problems for run in self._runs):
            self.problems.append("no run names a test set: name one with --testset")
        return self._opened(
            [
                partial(folders_as_testset, *folders, scale, n_channels, f"run {label}: datasets.test")
                for folders, label in sections.items()
            ]
        )

    def _opened(self, openers: Sequence[Callable[[], OpenTestSet]]) -> list[OpenTestSet]:
        found: list[OpenTestSet] = []
        for opener in openers:
            try:
                testset = opener()
            except DataError as error:
                hint = "" if self._request.testsets else " (or name a test set with --testset)"
                self.problems.append(f"{error}{hint}")
                continue
            found.append(replace(testset, name=distinct(testset.name, [other.name for other in found])))
        return found

    def _show(
        self,
        testset: OpenTestSet,
        picture: Picture,
        restored: Mapping[str, Image],
        students: Sequence[str],
        scale: int,
    ) -> None:
        if self._first_low is None:
            self._first_low = picture.name, picture.low
        name = next((name for name in (picture.name, picture.path.stem) if name in self._request.crops), None)
        chosen = None
        if name is not None:
            self._unused_crops.discard(name)
            try:
                chosen = check_inside(self._request.crops[name], *picture.truth.shape[:2])
            except DataError as error:
                self.problems.append(f"--crop {name}: {error}")
        self.images.append(
            image_evidence(
                testset.name,
                picture,
                restored,
                students=[label for label in students if label in restored],
                scale=scale,
                side=self._request.crop_side,
                chosen=chosen,
            )
        )

    def _look_inside(self, contenders: Mapping[str, Contender]) -> None:
        teacher = contenders.get(TEACHER)
        if teacher is None or self._first_low is None:
            return
        for run in self._runs:
            student = contenders.get(run.label)
            if student is None:
                continue
            if run.options is not None and run.options.features_are_stored:
                self.notes.append(f"{run.label}: no token maps, as the teacher's are those that were stored.")
                continue
            own = _teacher_of(run)
            if run.translator is not None and own is not None and not _same_file(own, Path(teacher.card.path)):
                self.notes.append(f"{run.label}: no token maps, as another teacher taught it.")
                continue
            if run.options is not None and run.options.train.feature_taps is not None:
                self.notes.append(f"{run.label}: no token maps, as the teacher's are those of train.feature_taps.")
                continue
            if not isinstance(student.network, SwinIR) or not isinstance(teacher.network, SwinIR):
                self.notes.append(f"{run.label}: no token maps, as the teacher is a {teacher.card.net_type}.")
                continue
            try:
                self.features.append(feature_evidence(run, student.network, teacher.network, *self._first_low))
            except (OptionError, CheckpointError) as error:
                self.problems.append(f"{run.path}: {error}")


def _teacher_of(run: Run) -> Path | None:
    """The one teacher of a run; None where there are several, or none."""
    teachers = () if run.options is None else run.options.path.teachers
    return teachers[0] if len(teachers) == 1 else None


def _same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same content; a file that is not there any more may be any."""
    try:
        return os.path.realpath(one) == os.path.realpath(other) or sha256_of(one) == sha256_of(other)
    except OSError:
        return True
