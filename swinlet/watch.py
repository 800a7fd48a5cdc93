"""The watch over losses: steps that were skipped because theirs was no number, and losses that leap."""

import logging
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from swinlet.data.dataset_sr import DatasetSR
from swinlet.errors import TrainingError
from swinlet.models.model_plain import ModelPlain
from swinlet.options import Options
from swinlet.utils.run_log import RunLog
from swinlet.validation import ADVICE

LOGGER = logging.getLogger("swinlet")

READ_EVERY = 100
"""Iterations after which a GPU is waited for at the latest, to see how they went."""

SCALE_HALVINGS = 16
"""Overflows in a row that fp16 needs at most to find its loss scale: from 65,536 down to 1."""

SPIKE_WINDOW, SPIKE_WARM_UP = 100, 50  # iterations
SPIKE_FACTOR, SPIKE_DEVIATIONS = 2.0, 6.0
_SHOWN = 3  # names of samples in a line of the log


@dataclass(frozen=True)
class _Step:
    """One iteration: values by name, still on the device."""

    number: int
    names: Sequence[str]
    values: Tensor


class Watch:
    """Reads how iterations went, counts and logs those that were skipped, logs spikes.

    Where reading is free each iteration is read at once; otherwise with the next line of the log, and every
    ``READ_EVERY`` iterations at the latest. Nothing but the time of the message depends on that.

    Args:
        opt, model, log: of the run.
        train_set: knows the files of an iteration's samples.
        saved: what the manifest that the run goes on from says under "skipped"; empty for a fresh start. How many
            steps were skipped one after the other is stored, so that a resumed run stops where an uninterrupted one
            does. The losses that spikes are compared with are not: they are gathered anew.
    """

    def __init__(
        self, opt: Options, model: ModelPlain, log: RunLog, train_set: DatasetSR, saved: Mapping[str, int]
    ) -> None:
        assert opt.datasets.train is not None, "there is a training set"
        self._train_set = train_set
        self._batch = opt.datasets.train.dataloader_batch_size
        self._limit = opt.train.max_skipped_steps + (SCALE_HALVINGS if opt.train.precision == "fp16" else 0)
        self._model, self._log = model, log
        self._unread: list[_Step] = []
        self._spikes = Spikes()
        self.skipped, self.in_a_row = saved.get("total", 0), saved.get("in_a_row", 0)

    @property
    def record(self) -> dict[str, int]:
        """For the manifest; of the iterations that have been read."""
        return {"total": self.skipped, "in_a_row": self.in_a_row}

    def note(self, step: int) -> None:
        """An iteration is done.

        Raises:
            TrainingError: see ``read``.
        """
        names, values = self._model.outcome()
        self._unread.append(_Step(step, names, values))
        if self._model.reads_are_free or len(self._unread) == READ_EVERY:
            self.read()

    def read(self) -> None:
        """Look at the iterations that have not been looked at; waits for the device.

        Raises:
            TrainingError: so many were skipped one after the other that the run has gone astray.
        """
        steps, self._unread = self._unread, []
        if not steps:
            return
        values = iter(cast("list[float]", torch.cat([step.values for step in steps]).tolist()))
        for step in steps:
            self._look_at(step, {name: next(values) for name in step.names})

    def _look_at(self, step: _Step, values: Mapping[str, float]) -> None:
        if all(map(math.isfinite, values.values())):
            self.in_a_row = 0
            self._look_for_spike(step, values["l_g_L1"])
            return
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        faults = ", ".join(f"{name} {value}" for name, value in values.items() if not math.isfinite(value))
        LOGGER.warning("iteration %d skipped: %s; %s", step.number, faults, self._samples(step))
        self._log.record("skipped", step.number, values=values, **self._samples_record(step), **self.record)
        if self.in_a_row >= self._limit:
            raise TrainingError(
                f"iteration {step.number}: {self.in_a_row} iterations in a row were skipped, as a loss or the gradient "
                f"was infinite or not a number; the last: {faults}; {self._samples(step)}. {ADVICE}"
            )

    def _look_for_spike(self, step: _Step, loss: float) -> None:
        median = self._spikes.add(loss)
        if median is not None:
            LOGGER.warning(
                "iteration %d: the pixel loss leaps to %.3e, %.1f times the median of the last iterations; %s",
                *(step.number, loss, loss / median, self._samples(step)),
            )
            self._log.record("spike", step.number, loss=loss, median=median, **self._samples_record(step))

    def _positions(self, step: _Step) -> range:
        return range((step.number - 1) * self._batch, step.number * self._batch)

    def _samples(self, step: _Step) -> str:
        positions = self._positions(step)
        shown = ", ".join(self._train_set.H_path(position).name for position in positions[:_SHOWN])
        rest = len(positions) - _SHOWN
        return f"samples {positions[0]} to {positions[-1]}: {shown}" + (f" and {rest} more" * (rest > 0))

    def _samples_record(self, step: _Step) -> dict[str, Any]:
        positions = self._positions(step)
        images = [str(self._train_set.H_path(position)) for position in positions]
        return {"first_position": positions[0], "images": images}


class Spikes:
    """Finds losses that leap.

    A loss is a spike where its logarithm lies above the median of the last ``SPIKE_WINDOW`` iterations' by more than
    ``SPIKE_DEVIATIONS`` robust standard deviations (1.4826 times the median absolute deviation) and the loss is more
    than ``SPIKE_FACTOR`` times that median. So it is neither the level of the loss that counts nor how much small
    batches scatter. A loss that stays high is told of once, until it has been low again or its level has become the
    median.
    """

    def __init__(self) -> None:
        self._logarithms: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._is_high = False

    def add(self, loss: float) -> float | None:
        """Take the loss of the next iteration; the median before it where a spike begins, else None."""
        logarithm = math.log(max(loss, 1e-30))
        before, was_high = sorted(self._logarithms), self._is_high
        self._logarithms.append(logarithm)
        if len(before) < SPIKE_WARM_UP:
            return None
        median = statistics.median(before)
        deviation = 1.4826 * statistics.median(abs(value - median) for value in before)
        self._is_high = logarithm - median > max(math.log(SPIKE_FACTOR), SPIKE_DEVIATIONS * deviation)
        return math.exp(median) if self._is_high and not was_high else None
