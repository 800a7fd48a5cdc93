"""The translator (``netP``): features of one network into the space of another's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Translator(nn.ModuleList):
    """One linear map for each pair of stages.

    Args:
        widths: of the tokens before and after each map: the teacher's and the student's for distillation type feature,
            the other way round for feature_norm.
    """

    def __init__(self, widths: Sequence[tuple[int, int]]) -> None:
        super().__init__([nn.Linear(before, after) for before, after in widths])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Token maps (N, H*W, width before), one per pair, in whatever precision -> (N, H*W, width after), in float32
        or that of an autocast around."""
        return [linear(_readable(feature)) for linear, feature in zip(self, features, strict=True)]


def _readable(feature: Tensor) -> Tensor:
    """In the weights' precision; under autocast as it is, for torch converts what needs it."""
    if feature.dtype == torch.float32 or torch.is_autocast_enabled(feature.device.type):
        return feature
    return feature.float()
