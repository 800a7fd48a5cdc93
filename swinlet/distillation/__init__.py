"""What the student learns from the teacher: one module per distillation type."""

from swinlet.distillation.base import Distillation, Lesson, restored
from swinlet.distillation.combination import Combination
from swinlet.distillation.stored import stored_features
from swinlet.distillation.task import TrainingTask

__all__ = ["Combination", "Distillation", "Lesson", "TrainingTask", "restored", "stored_features"]
