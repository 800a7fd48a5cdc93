"""The translator (``netP``): teacher features into the student's space."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Translator(nn.ModuleList):
    """One linear map teacher width -> student width for each pair of stages.

    Args:
        teacher_dims: width of the teacher's tokens in each pair.
        student_dim: that of the student's.
    """

    def __init__(self, teacher_dims: Sequence[int], student_dim: int) -> None:
        super().__init__([nn.Linear(teacher_dim, student_dim) for teacher_dim in teacher_dims])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Teacher token maps (N, H*W, width), one per pair, in whatever precision -> token maps
        (N, H*W, student_dim), in float32 or that of an autocast around."""
        return [linear(_readable(feature)) for linear, feature in zip(self, features, strict=True)]


def _readable(feature: Tensor) -> Tensor:
    """In the weights' precision; under autocast as it is, for torch converts what needs it."""
    if feature.dtype == torch.float32 or torch.is_autocast_enabled(feature.device.type):
        return feature
    return feature.float()
