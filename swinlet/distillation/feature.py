"""Feature distillation: response, and the student's token maps approach the translated ones of the teacher.

The idea is FitNets' (Romero et al., arXiv:1412.6550), the arrangement the reference project's: the translator stands
on the teacher's side and is trained with the student.
"""

from typing import ClassVar

from torch import Tensor

from swinlet.distillation.base import Lesson
from swinlet.distillation.losses import select_loss
from swinlet.distillation.response import ResponseDistillation
from swinlet.errors import OptionError
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.options import TrainOptions
from swinlet.schedules import feature_loss_is_on


class FeatureDistillation(ResponseDistillation):
    """Response distillation plus sum over pairs (s, t) of weight * loss(F_student[s], netP(F_teacher[t]))."""

    needs_features: ClassVar[bool] = True

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        assert teacher is not None
        self._feature_loss = select_loss(train.feature_lossfn_type)
        self.pairs = paired_stages(train, student, teacher)
        self.netP = Translator([teacher.feature_widths[t] for _, t in self.pairs], student.config["embed_dim"])

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


def paired_stages(train: TrainOptions, student: SwinIR, teacher: Featured) -> list[tuple[int, int]]:
    """(student stage, teacher stage) of each pair that the options name; stages may be taps, or stored features.

    Raises:
        OptionError: they cannot be paired so.
    """
    stages = len(student.feature_widths), len(teacher.feature_widths)
    if isinstance(teacher, SwinIR) and student.window_size != teacher.window_size:
        raise OptionError(
            f"netG.window_size: feature distillation compares token maps, so it must be the teacher's "
            f"({teacher.window_size}), not {student.window_size}"
        )
    if train.feature_pairs is None:
        if stages[0] > stages[1] or (not isinstance(teacher, SwinIR) and stages[0] < stages[1]):
            raise OptionError(
                f"train.feature_pairs: the student has {stages[0]} stages, the teacher {stages[1]}: "
                "say which to pair, e.g. [[0, 0], [1, 1]]"
            )
        return [(i, i) for i in range(stages[0])]
    for pair in train.feature_pairs:
        if pair[0] >= stages[0] or pair[1] >= stages[1]:
            raise OptionError(
                f"train.feature_pairs: {list(pair)} is out of range; stages count from 0, the student has "
                f"{stages[0]}, the teacher {stages[1]}"
            )
    return list(train.feature_pairs)
