"""The eight flips and quarter turns of a square, on tensors, and back."""

import torch
from torch import Tensor

VIEWS = 8


def turned(image: Tensor, view: int) -> Tensor:
    """View 0 to 7 of (..., H, W): from 4 on mirrored left to right, then ``view % 4`` quarter turns."""
    return torch.rot90(image.flip(-1) if view >= 4 else image, view % 4, (-2, -1))


def turned_back(image: Tensor, view: int) -> Tensor:
    """The inverse of ``turned``."""
    upright = torch.rot90(image, -(view % 4), (-2, -1))
    return upright.flip(-1) if view >= 4 else upright
