"""Feature distillation with normalised tokens and the trained maps on the student's side.

The reference's translator stands on the teacher's side and is trained, so that the target can shrink towards what is
easy. Here the target is fixed: the teacher's tokens, normalised over their channels. The maps are FitNets' regressors
(Romero et al., arXiv:1412.6550), the normalisation is that of Miles and Mikolajczyk, "Understanding the Role of the
Projector in Knowledge Distillation" (AAAI 2024, arXiv:2303.11098), per token instead of per batch.
"""

import torch.nn.functional as F
from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.distillation.losses import select_loss
from swinlet.distillation.stages import paired_stages
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.options import TrainOptions
from swinlet.utils.device import autocast


class FeatureNormDistillation(Distillation):
    """Sum over pairs (s, t) of loss(n(P_s F_student[s]), n(F_teacher[t])), n: zero mean, unit variance over channels.

    P, linear maps from the student's width to the teacher's, are trained, saved as ``netP``, and not needed afterwards.
    The loss is ``train.feature_lossfn_type``. Its weight is measured.
    """

    default_share = 0.2

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        assert teacher is not None
        self._loss = select_loss(train.feature_lossfn_type)
        self.pairs = paired_stages(train, student, teacher, by_depth=True)
        self.netP = Translator([(student.feature_widths[s], teacher.feature_widths[t]) for s, t in self.pairs])

    @property
    def translator(self) -> Translator:
        """``netP``: one linear map for each pair."""
        return self.netP

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_feature_norm``."""
        mapped = self.netP([lesson.student_features[s] for s, _ in self.pairs])
        parts = [
            self._loss(normalised(own), normalised(lesson.teacher_features[t]))
            for (_, t), own in zip(self.pairs, mapped, strict=True)
        ]
        return {"l_g_feature_norm": sum(parts[1:], parts[0])}


def normalised(tokens: Tensor) -> Tensor:
    """Tokens (N, L, C) with mean 0 and variance 1 over their channels, float32."""
    with autocast(tokens.device, "fp32"):
        return F.layer_norm(tokens.float(), tokens.shape[-1:])
