"""What the views of ``dukd`` are worth without a teacher: a control, to tell its lessons from mere augmentation."""

from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.distillation.losses import select_loss
from swinlet.distillation.views import OPERATIONS, restored_changed, zoomed_out
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.options import TrainOptions


class AugmentationWithoutTeacher(Distillation):
    """|g^-1 S(g x) - H| + |S(v) - x|, with g and v those of ``dukd``; L1. Its zoom-in has no ground truth."""

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        self._loss = select_loss("l1")
        self._smallest = student.window_size
        self._scale = student.upscale

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_consistency_truth``, and ``l_g_zoom_out_truth`` where the patches are large enough."""
        answer = restored_changed(lesson.ask_student, lesson.L, lesson.random(OPERATIONS))
        losses = {"l_g_consistency_truth": self._loss(answer, lesson.H)}
        pair = zoomed_out(lesson.L, self._scale, self._smallest)
        if pair is not None:
            v, truth = pair
            losses["l_g_zoom_out_truth"] = self._loss(lesson.ask_student(v), truth)
        return losses
