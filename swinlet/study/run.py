"""A study from its file to its results."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from swinlet.errors import CheckpointError, OptionError, SwinletError
from swinlet.options import Options
from swinlet.study.equal_time import EqualTime
from swinlet.study.gather import gather
from swinlet.study.plan import PlannedRun, Run, Shard, plan_runs, progress_of, refuse_changed_options, write_options
from swinlet.study.results import JSON_FILE, MARKDOWN_FILE, StudyResults
from swinlet.study.scores import Scorer
from swinlet.study.spec import Study, Variant
from swinlet.study.tables import as_markdown
from swinlet.study.training import Outcome, train_run
from swinlet.study.untrained import UntrainedTeacher, untrained_teacher
from swinlet.utils.files import write_text

LOGGER = logging.getLogger("swinlet")


class Launcher(Protocol):
    """How runs are trained.

    Attributes:
        at_once: how many it takes together; None: all.
    """

    at_once: int | None

    def __call__(self, runs: Sequence[tuple[Run, int]]) -> list[Outcome]:
        """Train runs, each with its iterations."""
        ...


class OneByOne:
    """Here, one run after the other."""

    at_once: int | None = 1

    def __call__(self, runs: Sequence[tuple[Run, int]]) -> list[Outcome]:
        """See ``Launcher``."""
        return [train_run(run, total_iter) for run, total_iter in runs]


class StudyRunner:
    """One call of ``swinlet study``. Options of all runs are checked when it is made; nothing is written.

    Args:
        study: the study.
        shard: its part of the runs.

    Raises:
        OptionError: options have changed since runs were trained with them.
        CheckpointError: a teacher that is to be made untrained cannot be read.
        DataError: what was decided of equal time cannot be read.
    """

    def __init__(self, study: Study, shard: Shard) -> None:
        self.study, self.shard = study, shard
        self.runs = plan_runs(study)
        self.equal_time = EqualTime(study, self.runs)
        self._teachers = {
            variant.name: self._untrained(variant) for variant in study.variants if variant.untrained_teacher
        }
        known = [(run, total) for run in self.runs if (total := self.equal_time.total_iter(run.variant)) is not None]
        refuse_changed_options([(run, self._options(run, total)) for run, total in known])

    def plan(self) -> list[PlannedRun]:
        """All runs and how far they are.

        Raises:
            OptionError: files that they read are not there.
        """
        self._refuse_missing_files()
        self._refuse_bad_folder()
        return [self._planned(run) for run in self.runs]

    def train(self, launch: Launcher) -> tuple[list[Outcome], list[PlannedRun]]:
        """Train what is left of the shard, in order, what has to wait for other runs as soon as they are finished.

        Returns:
            What became of the runs that were trained, and the runs that still have to wait.

        Raises:
            OptionError: files that they read are not there; nothing was trained.
            StudyStoppedError: by a signal.
        """
        self._refuse_missing_files()
        try:
            self.study.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{self.study.path}: out: {self.study.out} cannot be made: {error.strerror}") from error
        outcomes: list[Outcome] = []
        pending = [run for run in self.runs if self.shard.has(run) and not self._planned(run).progress.is_finished]
        count = len(pending)
        while True:
            self.equal_time.decide()
            totals = [(run, self.equal_time.total_iter(run.variant)) for run in pending]
            ready = [(run, total) for run, total in totals if total is not None][: launch.at_once]
            if not ready:
                return [self._seen_again(outcome) for outcome in outcomes], [self._planned(run) for run in pending]
            for run, total in ready:
                self._prepare(run, total)
                pending.remove(run)
            names = "; ".join(run.name for run, _ in ready)
            LOGGER.info("run %d of %d: %s", count - len(pending) - len(ready) + 1, count, names)
            outcomes += launch(ready)

    def results(self, scorer: Scorer) -> StudyResults:
        """Score whatever is complete, and write results.json and results.md."""
        folder = self.study.results
        while True:
            before = _changed(folder / JSON_FILE)
            results = gather(self.study, self.runs, self.equal_time, scorer)
            if _changed(folder / JSON_FILE) == before:
                break  # else another shard has written meanwhile, and may have seen more: its scores are kept in files
        folder.mkdir(parents=True, exist_ok=True)
        content = {JSON_FILE: results.model_dump_json(indent=1) + "\n", MARKDOWN_FILE: as_markdown(results)}
        for name, text in content.items():
            write_text(folder / name, text, shared=True)  # shards may do so at once
        LOGGER.info("written: %s", " and ".join(str(folder / name) for name in content))
        return results

    def _untrained(self, variant: Variant) -> UntrainedTeacher:
        try:
            return untrained_teacher(variant.options, self.study.out)
        except SwinletError as error:
            where = f"{self.study.path}: variants.{variant.name}.untrained_teacher"
            raise CheckpointError(f"{where}: its architecture is that of the teacher: {error}") from error

    def _seen_again(self, outcome: Outcome) -> Outcome:
        """What others were at work on may be finished in the end."""
        if outcome.state == "locked" and self._planned(outcome.run).progress.is_finished:
            return Outcome(outcome.run, "finished")
        return outcome

    def _planned(self, run: Run) -> PlannedRun:
        total = self.equal_time.total_iter(run.variant)
        waits: list[Run] = []
        if total is None:
            needed = self.equal_time.needed(run.variant)
            waits = [one for one in needed if not progress_of(one, one.variant.options.train.total_iter).is_finished]
        return PlannedRun(run, progress_of(run, total), tuple(waits), self.shard.has(run))

    def _options(self, run: Run, total_iter: int) -> Options:
        teacher = self._teachers.get(run.variant.name)
        return run.options(total_iter, None if teacher is None else teacher.path)

    def _prepare(self, run: Run, total_iter: int) -> None:
        """Write what the training reads."""
        teacher = self._teachers.get(run.variant.name)
        if teacher is not None:
            teacher.write()
        write_options(run, self._options(run, total_iter))

    def _refuse_bad_folder(self) -> None:
        """As far as that can be told without making it."""
        out = self.study.out
        there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            why = "cannot be written" if there.is_dir() else "is not a folder"
            raise OptionError(f"{self.study.path}: out: {there} {why}: name another folder")

    def _refuse_missing_files(self) -> None:
        """Before hours of training, rather than when it is a variant's turn."""
        faults = [
            f"{self.study.path}: variants.{variant.name}: {key}: {path} does not exist"
            for variant in self.study.variants
            for key, path in _named_files(variant.options)
            if not path.exists()
        ]
        if faults:
            raise OptionError("\n".join(faults))


def _changed(file: Path) -> int | None:
    """When a file was written, in nanoseconds; None: it is not there."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _named_files(options: Options) -> list[tuple[str, Path]]:
    """Key and path of the weights and images that a run reads."""
    weights = ("pretrained_netG", "pretrained_netE", "pretrained_netP", "pretrained_optimizerG")
    found = [(f"path.{key}", getattr(options.path, key)) for key in weights]
    found += [("path.pretrained_netTeacher", path) for path in options.path.teachers]
    for phase, section in options.datasets:
        keys = ("dataroot", "dataroot_H", "dataroot_L", "dataroot_T")
        found += [(f"datasets.{phase}.{key}", getattr(section, key, None)) for key in keys]
    return [(key, path) for key, path in found if path is not None]
