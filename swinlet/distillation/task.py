"""Everything that is trained, as one module whose forward returns the losses.

A data-parallel wrapper then sees the whole graph: the gradients of student and translator are synchronised together.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from swinlet.distillation.base import Distillation, Lesson, restored
from swinlet.distillation.losses import select_loss
from swinlet.models.network_swinir import SwinIR
from swinlet.options import TrainOptions


class TrainingTask(nn.Module):
    """Student, pixel loss and distillation."""

    def __init__(self, train: TrainOptions, student: SwinIR, distillation: Distillation) -> None:
        super().__init__()
        self.student = student
        self.distillation = distillation
        self._pixel_weight = train.G_lossfn_weight
        self._pixel_loss = select_loss(train.G_lossfn_type, train.G_charbonnier_eps)

    def forward(
        self,
        step: int,
        L: Tensor,
        H: Tensor,
        teacher_image: Tensor | None,
        teacher_features: Sequence[Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One lesson.

        Args:
            step: iteration, from 1.
            L, H: (N, C, h, w) and (N, C, h*scale, w*scale) in [0, 1].
            teacher_image, teacher_features: what the frozen teacher says of L, where the distillation needs it.

        Returns:
            The student's image, and the losses by name, weights applied; their sum is to be minimised.
        """
        E, features = restored(self.student, L, self.distillation.needs_features)
        losses = {"l_g_L1": self._pixel_weight * self._pixel_loss(E, H)}
        losses |= self.distillation(Lesson(step, L, H, E, features, teacher_image, teacher_features))
        return E, losses
