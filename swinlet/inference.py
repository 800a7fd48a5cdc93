"""Restoring whole images with a network: precision, tiles, self-ensemble."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swinlet.models.image_network import ImageNetwork
from swinlet.options import Precision
from swinlet.utils.device import autocast
from swinlet.utils.dihedral import VIEWS, turned, turned_back
from swinlet.utils.image_io import to_tensor, to_uint8


@dataclass(frozen=True)
class RestoreOptions:
    """How images are restored.

    Attributes:
        device: where.
        precision: of matrix products and convolutions; weights and image stay fp32.
        self_ensemble: the mean over the eight flips and quarter turns of the image, each turned back ("x8", or "+" in
            the tables of papers; Timofte et al., 2016).
        tile: side in LR pixels of the squares that are restored one by one; None: the whole image at once.
        tile_overlap: LR pixels that neighbouring tiles share, where one fades into the other.
    """

    device: torch.device
    precision: Precision = "fp32"
    self_ensemble: bool = False
    tile: int | None = None
    tile_overlap: int = 32


class Restorer:
    """A network that restores images: call it with one.

    Args:
        network: is moved to the device, in eval mode and without gradients.
        options: how.
    """

    def __init__(self, network: ImageNetwork, options: RestoreOptions) -> None:
        self.network = network.to(options.device).eval().requires_grad_(False)
        self.options = options

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore a picture: uint8 (h, w, C) -> uint8 (h * scale, w * scale, C)."""
        return to_uint8(self.restore(to_tensor(image)[None].to(self.options.device).float() / 255)[0])

    def restore(self, image: Tensor) -> Tensor:
        """Restore (N, C, h, w) in [0, 1], on the device -> float32 (N, C, h * scale, w * scale), not clamped."""
        views = range(VIEWS if self.options.self_ensemble else 1)
        with torch.inference_mode(), autocast(self.options.device, self.options.precision):
            answers = (turned_back(self._restore_view(turned(image, view)), view) for view in views)
            total = next(answers)
            for answer in answers:
                total = total + answer
        return total / len(views)

    def _restore_view(self, image: Tensor) -> Tensor:
        tile = self.options.tile
        if tile is None or tile >= max(image.shape[-2:]):
            return self.network(image).float()
        return restore_tiled(self.network, image, self.network.upscale, tile, self.options.tile_overlap)


def restore_tiled(network: Callable[[Tensor], Tensor], image: Tensor, scale: int, tile: int, overlap: int) -> Tensor:
    """Restore an image tile by tile; where tiles overlap, the result is their weighted mean.

    Args:
        network: (N, C, h, w) -> (N, C, h * scale, w * scale).
        image: (N, C, h, w).
        scale: of the network.
        tile: side of the tiles in pixels of ``image``.
        overlap: pixels that neighbouring tiles share at least; under half of ``tile``.

    Returns:
        float32 (N, C, h * scale, w * scale).

    Raises:
        ValueError: the overlap is negative or not under half of the tile.
    """
    if not 0 <= 2 * overlap < tile:
        raise ValueError(f"an overlap of {overlap} pixels does not suit tiles of {tile}: at least 0, under half")
    n, c, height, width = image.shape
    total = image.new_zeros((n, c, height * scale, width * scale), dtype=torch.float32)
    weight = total.new_zeros((height * scale, width * scale))
    for top, bottom in _spans(height, tile, overlap):
        rows = _fade(top, bottom, height, overlap, scale, image.device)
        for left, right in _spans(width, tile, overlap):
            share = rows[:, None] * _fade(left, right, width, overlap, scale, image.device)
            place = (..., slice(top * scale, bottom * scale), slice(left * scale, right * scale))
            total[place] += network(image[..., top:bottom, left:right]).float() * share
            weight[place] += share
    return total / weight


def _spans(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Tiles along one side; the last one is moved inwards, so that all have one size."""
    start = 0
    while start + tile < length:
        yield start, start + tile
        start += tile - overlap
    yield max(length - tile, 0), length


def _fade(start: int, stop: int, length: int, overlap: int, scale: int, device: torch.device) -> Tensor:
    """Weights of a tile along one side: 1 inside and at the image's borders, falling towards its neighbours."""
    position = torch.arange((stop - start) * scale, device=device) + 0.5
    ramp = max(overlap * scale, 1)
    from_left = position / ramp if start > 0 else torch.full_like(position, torch.inf)
    from_right = position.flip(0) / ramp if stop < length else torch.full_like(position, torch.inf)
    return torch.minimum(from_left, from_right).clamp(max=1)
