"""Feature distillation: response, and the student's token maps approach the translated ones of the teacher.

The idea is FitNets' (Romero et al., arXiv:1412.6550), the arrangement the reference project's: the translator stands
on the teacher's side and is trained with the student.
"""

from torch import Tensor

from swinlet.distillation.base import Lesson
from swinlet.distillation.losses import select_loss
from swinlet.distillation.response import ResponseDistillation
from swinlet.distillation.stages import paired_stages
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.options import TrainOptions
from swinlet.schedules import feature_loss_is_on


class FeatureDistillation(ResponseDistillation):
    """Response distillation plus sum over pairs (s, t) of weight * loss(F_student[s], netP(F_teacher[t]))."""

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        assert teacher is not None
        self._feature_loss = select_loss(train.feature_lossfn_type)
        self.pairs = paired_stages(train, student, teacher)
        width = student.config["embed_dim"]
        self.netP = Translator([(teacher.feature_widths[t], width) for _, t in self.pairs])

    @property
    def translator(self) -> Translator:
        """``netP``: one linear map for each pair."""
        return self.netP

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_distill``, and ``l_g_feature`` from ``start_feature_iter`` on."""
        losses = super().forward(lesson)
        if feature_loss_is_on(self.train_options, lesson.step):
            translated = self.netP([lesson.teacher_features[t] for _, t in self.pairs])
            parts = [
                self._feature_loss(lesson.student_features[s], target)
                for (s, _), target in zip(self.pairs, translated, strict=True)
            ]
            losses["l_g_feature"] = self.train_options.feature_lossfn_weight * sum(parts[1:], parts[0])
        return losses
