"""What the views of ``dukd`` are worth without a teacher: a control, to tell its lessons from mere augmentation."""

from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.distillation.dukd import PROBABILITY
from swinlet.distillation.losses import select_loss
from swinlet.distillation.views import OPERATIONS, changed, downscaled
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
        """``l_g_consistency``, and ``l_g_zoom_out`` where the patches are large enough."""
        chosen = lesson.random(OPERATIONS) < PROBABILITY
        answer = changed(lesson.ask_student(changed(lesson.L, chosen)), chosen, back=True)
        losses = {"l_g_consistency": self._loss(answer, lesson.H)}
        if min(lesson.L.shape[2:]) // self._scale >= self._smallest:
            answer = lesson.ask_student(downscaled(lesson.L, self._scale))
            height, width = answer.shape[2:]
            losses["l_g_zoom_out"] = self._loss(answer, lesson.L[..., :height, :width])
        return losses
