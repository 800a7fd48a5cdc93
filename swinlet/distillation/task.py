"""Everything that is trained, as one module whose forward returns the losses.

A data-parallel wrapper then sees the whole graph: the gradients of student and translator are synchronised together.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from swinlet.distillation.base import Distillation, Lesson, restored
from swinlet.distillation.losses import SUMS, select_loss
from swinlet.models.network_swinir import SwinIR
from swinlet.options import TrainOptions


class TrainingTask(nn.Module):
    """Student, pixel loss and distillation."""

    _ddp_params_and_buffers_to_ignore: list[str]

    def __init__(self, train: TrainOptions, student: SwinIR, distillation: Distillation) -> None:
        super().__init__()
        self.student = student
        self.distillation = distillation
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
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One lesson.

        Args:
            step: iteration, from 1.
            L, H: (N, C, h, w) and (N, C, h*scale, w*scale) in [0, 1].
            teacher_image, teacher_features: what the frozen teacher says of L, where the distillation needs it.
            share: which part of the iteration's batch these samples are.

        Returns:
            The student's image, and the losses by name, weights applied; their sum is to be minimised. They are what
            these samples tell of the whole batch: its losses are the mean of those of its parts, weighted by share.
        """
        E, features = restored(self.student, L, self.distillation.needs_features)
        pixel_weight = self._pixel_weight / share if self._pixels_are_summed else self._pixel_weight
        losses = {"l_g_L1": pixel_weight * self._pixel_loss(E, H)}
        losses |= self.distillation(Lesson(step, L, H, E, features, teacher_image, teacher_features))
        return E, losses
