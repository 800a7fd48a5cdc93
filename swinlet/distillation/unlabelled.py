"""Photographs without high-resolution partners: the student's images of them approach the teacher's."""

from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.distillation.losses import select_loss
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.options import TrainOptions


class UnlabelledDistillation(Distillation):
    """loss(S(U), T(U)), with U patches of ``datasets.unlabelled``; the loss is ``train.distill_lossfn_type``."""

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        self._loss = select_loss(train.distill_lossfn_type)

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_unlabelled``."""
        assert lesson.U is not None
        return {"l_g_unlabelled": self._loss(lesson.ask_student(lesson.U), lesson.ask_teacher(lesson.U))}
