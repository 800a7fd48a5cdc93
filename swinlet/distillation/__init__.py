"""What the student learns from the teacher: one module per distillation type, chosen from this table."""

from swinlet.distillation.base import Distillation, Lesson
from swinlet.distillation.feature import FeatureDistillation
from swinlet.distillation.response import ResponseDistillation
from swinlet.distillation.task import TrainingTask

DISTILLATIONS: dict[str, type[Distillation]] = {
    "none": Distillation,
    "response": ResponseDistillation,
    "feature": FeatureDistillation,
}

__all__ = ["DISTILLATIONS", "Distillation", "Lesson", "TrainingTask"]
