"""Controls that train as long as another variant by the clock: how many iterations that is."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swinlet.errors import DataError
from swinlet.study.plan import Run, progress_of
from swinlet.study.spec import Study, Variant
from swinlet.study.speed import seconds_per_step
from swinlet.utils.files import MAX_RECORD, read_regular, write_text

LOGGER = logging.getLogger("swinlet")

FILE = "equal_time.json"


class Decision(BaseModel):
    """Iterations of a control, decided once.

    Attributes:
        total_iter: what was decided, base_iter times ratio.
        base_iter: iterations of the other variants.
        ratio: seconds over reference_seconds.
        seconds: median for one iteration of the variant whose time is taken.
        reference_seconds: the same of the reference, whose iterations the control's are like.
        measured: the two runs' folders.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    total_iter: int = Field(gt=0)
    base_iter: int
    ratio: float
    seconds: float
    reference_seconds: float
    measured: tuple[str, str]


class EqualTime:
    """The decisions of a study, kept in its folder.

    Args:
        study: the study.
        runs: all of it.
    """

    def __init__(self, study: Study, runs: Sequence[Run]) -> None:
        self._study, self._runs = study, runs
        self._file = study.out / FILE

    def total_iter(self, variant: Variant) -> int | None:
        """Iterations of a variant's runs; None: not decided yet."""
        if variant.equal_time is None:
            return variant.options.train.total_iter
        decision = self.decisions().get(variant.name)
        return None if decision is None else decision.total_iter

    def needed(self, variant: Variant) -> tuple[Run, Run]:
        """The runs from which a control's iterations are decided: of the variant whose time it takes, and of the
        reference, with the first seed."""
        names = (variant.equal_time, self._study.reference)
        of_first = {run.variant.name: run for run in self._runs if run.seed == self._study.seeds[0]}
        one, other = (of_first[name] for name in names if name is not None)
        return one, other

    def decisions(self) -> dict[str, Decision]:
        """By the name of the control.

        Raises:
            DataError: the file that holds them is damaged.
        """
        if not self._file.is_file():
            return {}
        try:
            content = json.loads(read_regular(self._file, MAX_RECORD))
            return {str(name): Decision.model_validate(decision) for name, decision in content.items()}
        except (OSError, ValueError, AttributeError, RecursionError, ValidationError) as error:
            raise DataError(
                f"{self._file}: not readable ({error}): remove it; iterations are then decided anew, and runs that "
                "were trained with other ones are refused"
            ) from error

    def decide(self) -> None:
        """Decide for all controls whose runs are finished, and for which nothing is decided."""
        open_ones = [v for v in self._study.variants if v.equal_time is not None and self.total_iter(v) is None]
        found = {variant.name: decision for variant in open_ones if (decision := self._measure(variant)) is not None}
        if not found:
            return
        # Other shards may decide at once: from the same logs, so that it does not matter whose decision stays.
        decisions = {**found, **self.decisions()}
        content = {name: decision.model_dump(mode="json") for name, decision in decisions.items()}
        write_text(self._file, json.dumps(content, indent=1) + "\n", shared=True)
        for name in found:
            decision = decisions[name]
            LOGGER.info(
                "%s: %d iterations take the time of %d of %s (%.4g s instead of %.4g s for each)",
                *(name, decision.total_iter, decision.base_iter, self._study.variant(name).equal_time),
                *(decision.seconds, decision.reference_seconds),
            )

    def _measure(self, variant: Variant) -> Decision | None:
        """None: the runs it needs are not finished."""
        runs = self.needed(variant)
        if not all(progress_of(run, run.variant.options.train.total_iter).is_finished for run in runs):
            return None
        seconds, reference_seconds = (_seconds(run.folder) for run in runs)
        base, ratio = variant.options.train.total_iter, seconds / reference_seconds
        return Decision(
            total_iter=max(1, round(base * ratio)),
            base_iter=base,
            ratio=ratio,
            seconds=seconds,
            reference_seconds=reference_seconds,
            measured=(str(runs[0].folder), str(runs[1].folder)),
        )


def _seconds(folder: Path) -> float:
    seconds = seconds_per_step(folder)
    if seconds is None:
        raise DataError(
            f"{folder}: finished, but its metrics.jsonl tells no speed: remove this folder to train the run anew"
        )
    return seconds
