"""Scores of runs, teacher and bicubic, kept in files, and made anew where what they were made of has changed."""

import hashlib
import json
import logging
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from swinlet.errors import CheckpointError, DataError
from swinlet.evaluation.models import Contender, NamedFile, open_contenders
from swinlet.evaluation.scoring import score_testset
from swinlet.evaluation.testsets import OpenTestSet, open_testset
from swinlet.find_weights import find_weights
from swinlet.inference import RestoreOptions
from swinlet.metrics import Scores
from swinlet.study.spec import Study
from swinlet.utils.console import ProgressBar
from swinlet.utils.device import inference_device
from swinlet.utils.files import MAX_RECORD, read_regular, sha256_of, write_text
from swinlet.utils.names import distinct

LOGGER = logging.getLogger("swinlet")

FORMAT = 1
SCORES_FILE = "scores.json"  # in a run's folder
BICUBIC_FILE, TEACHER_FILE = "bicubic.json", "teacher.json"  # in the study's


class SetScores(BaseModel):
    """Scores on one test set.

    Attributes:
        name, folder: of the test set.
        identity: changes with its images.
        low_resolution: where LR comes from, for people.
        rows: label -> image -> ``METRICS`` -> value; null: infinite.
        problems: what is wrong with images that are missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    folder: str
    identity: str
    low_resolution: str
    rows: dict[str, dict[str, dict[str, float | None]]]
    problems: tuple[str, ...]


class ScoresFile(BaseModel):
    """What a scores file holds.

    Attributes:
        weights: the file that was scored; "" for bicubic.
        sha256: of it.
        sets: one for each test set; those of the study first, in its order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    weights: str
    sha256: str
    sets: tuple[SetScores, ...]


@dataclass(frozen=True)
class KnownTestSet:
    """A test set and what tells whether it has changed."""

    testset: OpenTestSet
    identity: str


def open_testsets(study: Study) -> tuple[list[KnownTestSet], list[str]]:
    """The test sets, and what is wrong with others."""
    found: list[KnownTestSet] = []
    problems: list[str] = []
    options = study.options
    for folder in study.testsets:
        try:
            testset = open_testset(folder, options.scale, options.n_channels, f"{study.path}: testsets:")
            name = distinct(testset.name, [other.testset.name for other in found])
            found.append(KnownTestSet(replace(testset, name=name), _identity(testset)))
        except DataError as error:
            problems.append(str(error))
    return found, problems


def _identity(testset: OpenTestSet) -> str:
    """Checksum of names, sizes and contents of the images."""
    files = [
        [
            name,
            *([file.path, file.size, file.sha256] if file is not None else [] for file in testset.dataset.sources(i)),
        ]
        for i, name in enumerate(testset.dataset.names)
    ]
    return hashlib.sha256(json.dumps([testset.scale, testset.is_gray, files]).encode()).hexdigest()


class Scorer:
    """Scores on a study's test sets.

    Args:
        study: the study.
        download: let a ``hf://`` teacher be fetched.

    Attributes:
        testsets: those that can be used.
        problems: what is wrong with others, and with the teacher.
    """

    def __init__(self, study: Study, *, download: bool = False) -> None:
        self._study = study
        self.testsets, self.problems = open_testsets(study)
        self._key = f"{study.path}: teacher"
        self._teacher: Path | None = None
        if study.teacher is not None:
            try:
                path = find_weights(study.teacher, self._key, download=download, tell=self.problems.append)
                if not path.is_file():
                    raise CheckpointError(f"{self._key}: {path}: no such file")
                if not (study.out / TEACHER_FILE).exists():  # before hours of training, rather than after
                    self._open(NamedFile(str(path), origin=self._key))
                self._teacher = path
            except (CheckpointError, DataError) as error:
                self.problems.append(str(error))

    @cached_property
    def restore(self) -> RestoreOptions:
        """How: on the device that the runs are trained on, in fp32."""
        on_cpu = self._study.options.gpu_ids in (None, ())
        return RestoreOptions(inference_device("cpu" if on_cpu else "auto"))

    def run(self, name: str, weights: Path, folder: Path) -> ScoresFile:
        """Of a run's weights, kept in its folder.

        Raises:
            SwinletError: they cannot be opened.
        """
        return self._scores(folder / SCORES_FILE, NamedFile(str(weights), name, name), weights)

    def teacher(self) -> ScoresFile | None:
        """Of the study's teacher; None where it has none, or its file is not there.

        Raises:
            SwinletError: it cannot be opened.
        """
        path = self._teacher
        if path is None:
            return None
        return self._scores(self._study.out / TEACHER_FILE, NamedFile(str(path), origin=self._key), path)

    def bicubic(self) -> ScoresFile:
        """Of bicubic interpolation."""
        return self._scores(self._study.out / BICUBIC_FILE, None, None)

    def _scores(self, file: Path, named: NamedFile | None, weights: Path | None) -> ScoresFile:
        """What the file holds of the study's test sets; what it lacks, or was made of something else, is scored, and
        the file written anew, with what it holds of others."""
        digest = "" if weights is None else sha256_of(weights)
        before = _read(file)
        kept = {} if before is None or before.sha256 != digest else {scores.identity: scores for scores in before.sets}
        missing = [known for known in self.testsets if known.identity not in kept]
        if missing:
            what = "bicubic" if named is None else named.label or "the teacher"
            LOGGER.info("scoring %s on %s", what, ", ".join(known.testset.name for known in missing))
            contender = None if named is None else self._open(named)
            kept |= {known.identity: self._score(known, contender) for known in missing}
        sets = [
            kept[known.identity].model_copy(update={"name": known.testset.name, "folder": str(known.testset.folder)})
            for known in self.testsets
        ]
        scores = ScoresFile(weights="" if weights is None else str(weights), sha256=digest, sets=tuple(sets))
        if missing:
            wanted = {known.identity for known in self.testsets}
            others = [other for identity, other in kept.items() if identity not in wanted]
            content = scores.model_copy(update={"sets": (*sets, *others)})
            write_text(file, content.model_dump_json(indent=1) + "\n", shared=True)
        return scores

    def _open(self, named: NamedFile) -> Contender:
        is_teacher = named.label is None
        contenders, problems = open_contenders(
            [] if is_teacher else [named],
            named if is_teacher else None,
            scale=self._study.options.scale,
            net_types={},
            options=self.restore,
        )
        if not contenders:
            raise DataError("\n".join(problems))
        return contenders[0]

    def _score(self, known: KnownTestSet, contender: Contender | None) -> SetScores:
        testset = known.testset
        with ProgressBar() as bar:
            bar.start(len(testset.dataset))
            contenders = [] if contender is None else [contender]
            result, problems = score_testset(
                testset, contenders, testset.scale, baselines=contender is None, advance=bar.advance
            )
        values = [value for row in result.rows for scores in row.images.values() for value in scores.values()]
        if any(map(math.isnan, values)):  # an image could not be restored
            raise DataError("\n".join(problems))
        return SetScores(
            name=testset.name,
            folder=str(testset.folder),
            identity=known.identity,
            low_resolution=result.low_resolution,
            rows={row.label: _values(row) for row in result.rows},
            problems=tuple(problems),
        )


def _values(row: Scores) -> dict[str, dict[str, float | None]]:
    return {
        image: {metric: value if math.isfinite(value) else None for metric, value in scores.items()}
        for image, scores in row.images.items()
    }


def _read(file: Path) -> ScoresFile | None:
    """None: it is not there, or of another version, or damaged; all that costs is to score again."""
    try:
        return ScoresFile.model_validate_json(read_regular(file, MAX_RECORD))
    except (OSError, ValidationError):
        return None
