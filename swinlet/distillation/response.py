"""Response distillation: the student's image approaches the teacher's (Hinton et al., arXiv:1503.02531)."""

from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.distillation.losses import select_loss
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.options import TrainOptions


class ResponseDistillation(Distillation):
    """weight * loss(S(x), T(x))."""

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        self._image_loss = select_loss(train.distill_lossfn_type)

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_distill``."""
        loss = self._image_loss(lesson.E, self.target(lesson))
        return {"l_g_distill": self.train_options.distill_lossfn_weight * loss}

    def target(self, lesson: Lesson) -> Tensor:
        """The teacher's image (N, C, h * scale, w * scale)."""
        assert lesson.teacher_image is not None
        return lesson.teacher_image
