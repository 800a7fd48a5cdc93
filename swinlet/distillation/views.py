"""Other views of the patches of a batch, on tensors (N, C, H, W) in [0, 1]."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from swinlet.utils.resize import downscale_matrix

OPERATIONS = 4
"""How many there are: invert, flip left to right, flip upside down, transpose, in this order."""

PROBABILITY = 0.3
"""Of each operation (``dukd``'s)."""


def changed(images: Tensor, chosen: Tensor, *, back: bool = False) -> Tensor:
    """Apply some operations to each image: those that are chosen, one after the other.

    Args:
        images: square ones.
        chosen: bool (N, 4): which of ``OPERATIONS``.
        back: undo that: each is its own inverse, so the same in reverse order.
    """
    operations = list(enumerate((_inverted, _mirrored, _upside_down, _transposed)))
    for index, operation in reversed(operations) if back else operations:
        images = torch.where(chosen[:, index, None, None, None], operation(images), images)
    return images


def restored_changed(network: Callable[[Tensor], Tensor], images: Tensor, draws: Tensor) -> Tensor:
    """What a network makes of images that are changed, g^-1 S(g x): each operation where its draw, (N, 4) in [0, 1), is
    below ``PROBABILITY``."""
    chosen = draws < PROBABILITY
    return changed(network(changed(images, chosen)), chosen, back=True)


def _inverted(images: Tensor) -> Tensor:
    return 1 - images


def _mirrored(images: Tensor) -> Tensor:
    return images.flip(-1)


def _upside_down(images: Tensor) -> Tensor:
    return images.flip(-2)


def _transposed(images: Tensor) -> Tensor:
    return images.mT


def windows(images: Tensor, height: int, width: int, places: Tensor) -> Tensor:
    """One window of each image, (N, C, height, width).

    Args:
        images: (N, C, H, W), at least as large.
        height, width: of the windows.
        places: (N, 2), in [0, 1): where each begins, from the first to the last row and column that it can begin at.
    """
    rows = (places[:, 0] * (images.shape[2] - height + 1)).long()[:, None] + torch.arange(height, device=images.device)
    columns = (places[:, 1] * (images.shape[3] - width + 1)).long()[:, None] + torch.arange(width, device=images.device)
    samples = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def downscaled(images: Tensor, scale: int) -> Tensor:
    """MATLAB's bicubic ``images`` at 1/scale, as 8-bit images have it: (N, C, H // scale, W // scale).

    Each of the two passes is rounded to 256 levels, as in ``swinlet.utils.resize``.
    """
    rows, columns = (_matrix(side, scale).to(images.device) for side in images.shape[2:])
    return _rounded(_rounded(rows @ images.float()) @ columns.mT)


def zoomed_out(images: Tensor, scale: int, smallest: int) -> tuple[Tensor, Tensor] | None:
    """The images scaled down, and what they are the low-resolution images of; None where a side would have less than
    ``smallest`` pixels."""
    height, width = (side // scale for side in images.shape[2:])
    if min(height, width) < smallest:
        return None
    return downscaled(images, scale), images[..., : height * scale, : width * scale]


@lru_cache(maxsize=8)
def _matrix(length: int, scale: int) -> Tensor:
    return torch.from_numpy(downscale_matrix(length, scale)).float()


def _rounded(images: Tensor) -> Tensor:
    return (images * 255 + 0.5).floor().clamp(0, 255) / 255
