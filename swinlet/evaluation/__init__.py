"""Scores of students, teacher and bicubic interpolation on test sets: ``swinlet evaluate``."""

from swinlet.evaluation.evaluate import EvaluationRequest, evaluate
from swinlet.evaluation.results import Evaluation, ModelCard, TestSetResult

__all__ = ["Evaluation", "EvaluationRequest", "ModelCard", "TestSetResult", "evaluate"]
