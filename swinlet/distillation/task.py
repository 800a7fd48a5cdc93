"""Everything that is trained, as one module whose forward returns the losses.

A data-parallel wrapper then sees the whole graph: the gradients of student and translator are synchronised together.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from swinlet.distillation.base import Lesson, restored
from swinlet.distillation.combination import Combination
from swinlet.distillation.losses import SUMS, select_loss
from swinlet.models.network_swinir import SwinIR
from swinlet.options import TrainOptions
from swinlet.utils.random_bits import LESSON, uniform

PIXEL = "pixel"
"""Names the loss against the ground truth, among the distillation types."""


class TrainingTask(nn.Module):
    """Student, pixel loss and distillation.

    Args:
        train: the ``train`` section.
        student, distillation: what is trained.
        ask_teacher: its images of others, without gradient; for types that need the "network".
        teacher_is_stored: whether teacher images come from ``datasets.train.dataroot_T``.
    """

    _ddp_params_and_buffers_to_ignore: list[str]

    def __init__(
        self,
        train: TrainOptions,
        student: SwinIR,
        distillation: Combination,
        ask_teacher: Callable[[Tensor], Tensor] | None = None,
        *,
        teacher_is_stored: bool = False,
    ) -> None:
        super().__init__()
        self.student = student
        self.distillation = distillation
        self._ask_teacher = ask_teacher or _refuse
        self._teacher_is_stored = teacher_is_stored
        self._with_features = train.needs("features")
        self._seed = train.manual_seed
        self._pixel_weight = train.G_lossfn_weight
        self._pixel_loss = select_loss(train.G_lossfn_type, train.G_charbonnier_eps)
        self._pixels_are_summed = train.G_lossfn_type in SUMS
        # Buffers are constants: DistributedDataParallel, which looks here, need not send them about in each step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def forward(
        self,
        step: int,
        L: Tensor,
        H: Tensor,
        teacher_image: Tensor | None,
        teacher_features: Sequence[Tensor],
        share: float = 1.0,
        *,
        U: Tensor | None = None,
        positions: range | None = None,
        only: str | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One lesson.

        Args:
            step: iteration, from 1.
            L, H: (N, C, h, w) and (N, C, h*scale, w*scale) in [0, 1].
            teacher_image, teacher_features: what the frozen teacher says of L, where the distillation needs it.
            share: which part of the iteration's batch these samples are.
            U: patches of unlabelled photographs, as L.
            positions: of the samples among all of the run; default: this is the whole batch of the iteration.
            only: a distillation type, or ``PIXEL``: its loss alone, a type's before its weight.

        Returns:
            The student's image, and the losses by name, weights applied; their sum is to be minimised. They are what
            these samples tell of the whole batch: its losses are the mean of those of its parts, weighted by share.
        """
        E, features = restored(self.student, L, self._with_features)
        if positions is None:
            positions = range((step - 1) * len(L), step * len(L))
        lesson = Lesson(
            step,
            L,
            H,
            E,
            features,
            teacher_image,
            teacher_features,
            grid=(self.student.token_grid(L.shape[2]), self.student.token_grid(L.shape[3])),
            teacher_is_stored=self._teacher_is_stored,
            U=U,
            ask_student=self.student,
            ask_teacher=self._ask_teacher,
            random=partial(_random, self._seed, positions, L.device),
        )
        if only is not None:
            return E, {only: self._pixel(lesson, share) if only == PIXEL else self.distillation.alone(only, lesson)}
        return E, {"l_g_L1": self._pixel(lesson, share)} | self.distillation(lesson)

    def _pixel(self, lesson: Lesson, share: float) -> Tensor:
        weight = self._pixel_weight / share if self._pixels_are_summed else self._pixel_weight
        return weight * self._pixel_loss(lesson.E, lesson.H)


def _refuse(_: Tensor) -> Tensor:
    raise AssertionError("a distillation type that asks the teacher's network has to say so in the table of names")


def _random(seed: int, positions: range, device: torch.device, count: int) -> Tensor:
    """See ``Lesson.random``."""
    numbers = np.stack([uniform(seed, LESSON, position, count) for position in positions])
    return torch.from_numpy(numbers).to(device)
