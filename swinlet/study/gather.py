"""From the folder of a study to its results: what is complete is scored, what is not is named."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from swinlet.checkpoint import SealedSet
from swinlet.errors import SwinletError
from swinlet.evaluation.evaluate import provenance
from swinlet.study.analysis import Images, SetData, analyse
from swinlet.study.equal_time import EqualTime
from swinlet.study.plan import Progress, Run, progress_of
from swinlet.study.results import RunRecord, StudyResults, TestSetResults, VariantRecord
from swinlet.study.scores import Scorer, ScoresFile
from swinlet.study.spec import Study, Variant
from swinlet.study.speed import seconds_per_step
from swinlet.study.training import starts_file
from swinlet.utils.files import sha256_of

Scored = Mapping[tuple[str, int], ScoresFile]
"""Scores by variant and seed."""


def gather(study: Study, runs: Sequence[Run], equal_time: EqualTime, scorer: Scorer) -> StudyResults:
    """Score every finished run, and compare.

    Args:
        study: the study.
        runs: all of it.
        equal_time: iterations of the controls.
        scorer: for its test sets.
    """
    begin = time.time()
    problems: list[str] = []
    missing: list[str] = []
    scored: dict[tuple[str, int], ScoresFile] = {}
    records: list[RunRecord] = []
    for run in runs:
        progress = progress_of(run, equal_time.total_iter(run.variant))
        weights = _weights(progress, study)
        scores = None
        if weights is None:
            missing.append(f"{run.name}: {progress.state}")
        else:
            try:
                scores = scored[run.variant.name, run.seed] = scorer.run(run.name, weights, run.folder)
            except SwinletError as error:
                missing.append(f"{run.name}: not scored")
                problems.append(str(error))
        records.append(_run_record(run, progress, scores))
    baselines = _baselines(scorer, problems)
    testsets = [
        _testset(study, i, scored, baselines, problems) for i in range(len(scorer.testsets)) if baselines["bicubic"]
    ]
    variants = _variant_records(study, runs, records, equal_time)
    teacher = baselines["teacher"]
    return StudyResults(
        study=" --try ".join([str(study.path), *study.tried]),
        study_sha256=study.sha256,
        base=str(study.base),
        base_sha256=study.base_sha256,
        out=str(study.out),
        reference=study.reference,
        seeds=study.seeds,
        weights=study.weights,
        scale=study.options.scale,
        teacher=None if teacher is None else teacher.weights,
        teacher_sha256=None if teacher is None else teacher.sha256,
        variants=variants,
        runs=tuple(records),
        testsets=tuple(testsets),
        comparisons=sum(_comparisons(testset) for testset in testsets),
        missing=tuple(missing),
        problems=tuple(dict.fromkeys([*scorer.problems, *problems])),
        provenance=provenance(scorer.restore, begin),
    )


def _weights(progress: Progress, study: Study) -> Path | None:
    """The weights to score of a run that is finished; never the best, which would be chosen by a test set."""
    sealed: SealedSet | None = progress.sealed
    if not progress.is_finished or sealed is None:
        return None
    return sealed.files[study.weights]


def _run_record(run: Run, progress: Progress, scores: ScoresFile | None) -> RunRecord:
    return RunRecord(
        variant=run.variant.name,
        seed=run.seed,
        state="missing" if scores is None else "scored",
        step=progress.step,
        total_iter=progress.total_iter,
        folder=str(run.folder),
        options_file=str(run.option_file),
        options_sha256=_sha256(run.option_file),
        log_sha256=_sha256(run.folder / "train.log"),
        weights=None if scores is None else scores.weights,
        weights_sha256=None if scores is None else scores.sha256,
        command=run.shown_command,
        seconds_per_step=seconds_per_step(run.folder),
        hosts=tuple(dict.fromkeys(_hosts(starts_file(run)))),
    )


def _sha256(file: Path) -> str | None:
    return sha256_of(file) if file.is_file() else None


def _hosts(file: Path) -> Iterator[str]:
    """Machines that a run was started on."""
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record: Any = json.loads(line)
            yield str(record["host"])
        except (ValueError, KeyError, TypeError):  # torn when the study was killed
            continue


def _baselines(scorer: Scorer, problems: list[str]) -> dict[str, ScoresFile | None]:
    """Scores of bicubic and of the teacher; None where there are none."""
    found: dict[str, ScoresFile | None] = {}
    for name, score in (("bicubic", scorer.bicubic), ("teacher", scorer.teacher)):
        found[name] = None
        try:
            found[name] = score()
        except SwinletError as error:
            problems.append(str(error))
    return found


def _testset(
    study: Study, index: int, scored: Scored, baselines: Mapping[str, ScoresFile | None], problems: list[str]
) -> TestSetResults:
    """The results on one test set, over the images that have been scored for all."""
    bicubic, teacher = (
        None if (file := baselines[name]) is None else file.sets[index] for name in ("bicubic", "teacher")
    )
    assert bicubic is not None, "without it nothing can be scored"
    sets = {key: scores.sets[index] for key, scores in scored.items()}
    everything = [bicubic, *([] if teacher is None else [teacher]), *sets.values()]
    problems += dict.fromkeys(problem for scores in everything for problem in scores.problems)
    rows = [row for scores in everything for row in scores.rows.values()]
    names = [name for name in rows[0] if all(name in row for row in rows)]
    if any(len(row) > len(names) for row in rows):
        problems.append(f"{bicubic.name}: images that could not be scored for all are left out")

    def common(images: Images) -> Images:
        return {name: images[name] for name in names}

    runs: dict[str, dict[int, Images]] = {variant.name: {} for variant in study.variants}
    for (name, seed), scores in sets.items():
        (row,) = scores.rows.values()
        runs[name][seed] = common(row)
    return analyse(
        SetData(
            name=bicubic.name,
            folder=bicubic.folder,
            identity=bicubic.identity,
            low_resolution=bicubic.low_resolution,
            bicubic={label: common(row) for label, row in bicubic.rows.items()},
            teacher=None if teacher is None else common(next(iter(teacher.rows.values()))),
            runs=runs,
        ),
        study.reference,
    )


def _comparisons(testset: TestSetResults) -> int:
    """Intervals over seeds that were looked at for verdicts."""
    found = [scores.difference for scores in testset.variants]
    return sum(difference is not None and difference.over_seeds is not None for difference in found)


def _variant_records(
    study: Study, runs: Sequence[Run], records: Sequence[RunRecord], equal_time: EqualTime
) -> tuple[VariantRecord, ...]:
    seconds = {
        variant.name: [
            record.seconds_per_step
            for record in records
            if record.variant == variant.name and record.state == "scored" and record.seconds_per_step is not None
        ]
        for variant in study.variants
    }
    medians = {name: median(values) if values else None for name, values in seconds.items()}
    base = medians[study.reference]
    folders = {run.variant.name: run.root for run in runs}
    return tuple(
        VariantRecord(
            name=variant.name,
            folder=str(folders[variant.name]),
            changes=tuple(f"{path}: {json.dumps(value)}" for path, value in variant.changes),
            total_iter=equal_time.total_iter(variant),
            equal_time=variant.equal_time,
            has_own_first_weights=_has_own_first_weights(variant, study),
            has_untrained_teacher=variant.untrained_teacher,
            seconds_per_step=own,
            cost=None if own is None or base is None else own / base,
        )
        for variant in study.variants
        for own in [medians[variant.name]]
    )


def _has_own_first_weights(variant: Variant, study: Study) -> bool:
    """Whether it begins elsewhere than the reference: another network, or other weights that it starts from."""
    ours, theirs = variant.options, study.options
    starts = ("pretrained_netG", "pretrained_netE")
    return ours.netG != theirs.netG or any(getattr(ours.path, key) != getattr(theirs.path, key) for key in starts)
