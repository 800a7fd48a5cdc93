"""What the student learns from the teacher: one module per distillation type."""

from swinlet.distillation.base import Distillation, Lesson, restored
from swinlet.distillation.stored import stored_features
from swinlet.distillation.task import TrainingTask
from swinlet.options.names import DISTILLATIONS, named_class

__all__ = ["Distillation", "Lesson", "TrainingTask", "restored", "select_distillation", "stored_features"]


def select_distillation(name: str) -> type[Distillation]:
    """The class of a ``train.distillation_type``."""
    return named_class(DISTILLATIONS, name)
