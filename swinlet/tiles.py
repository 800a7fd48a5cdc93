"""Restoring an image tile by tile, so that the result is that of the whole image.

Swin blocks look at windows, so tiles begin where windows do: inside, they then compute what the whole image would. What
is near a tile's cut has seen a mirrored neighbourhood, and is left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from torch import Tensor

OVERLAP = 48
"""LR pixels that neighbouring tiles share, a third of it discarded on either side: what the cut changes beyond that is
under 0.1 of 255 levels (docs/upscale.md)."""

SMALLEST, LARGEST = 128, 1024
"""Sides of tiles that are chosen by memory."""

MIN_TILE = 8


def tiled_maps(
    compute: Callable[[Tensor], Sequence[Tensor]],
    image: Tensor,
    scales: Sequence[int],
    tile: int,
    overlap: int,
    align: int = 1,
) -> list[Tensor]:
    """What is computed of an image, such as a restored image and feature maps, tile by tile.

    Of the pixels that two tiles share, each counts alone in the third towards its middle; in between one fades into
    the other.

    Args:
        compute: (N, C, h, w) -> for each scale a map (N, channels, h * scale, w * scale).
        image: (N, C, h, w).
        scales: of the maps.
        tile: side of the tiles in pixels of ``image``; those at the lower and right border have up to ``align`` more.
        overlap: pixels that neighbouring tiles share at least; under half of ``tile``.
        align: tiles begin at multiples of it, if they are large enough.

    Returns:
        float32 (N, channels, h * scale, w * scale) for each scale.

    Raises:
        ValueError: the overlap is negative or not under half of the tile.
    """
    if not 0 <= 2 * overlap < tile:
        raise ValueError(f"an overlap of {overlap} pixels does not suit tiles of {tile}: at least 0, under half")
    height, width = image.shape[-2:]
    totals: list[_Total] = []
    for left, right in spans(width, tile, overlap, align):
        for top, bottom in spans(height, tile, overlap, align):
            maps = compute(image[..., top:bottom, left:right])
            totals = totals or [
                _Total(part, scale, (height, width), overlap) for part, scale in zip(maps, scales, strict=True)
            ]
            for total, part in zip(totals, maps, strict=True):
                total.add(part, (top, bottom), (left, right))
    return [total.mean() for total in totals]


class _Total:
    """Tiles of one map, added up.

    Args:
        first: one of them, (N, channels, ...).
        scale: of the map.
        size: height and width of the image.
        overlap: of the tiles.
    """

    def __init__(self, first: Tensor, scale: int, size: tuple[int, int], overlap: int) -> None:
        self._scale, self._size, self._overlap = scale, size, overlap
        height, width = size[0] * scale, size[1] * scale
        self._sum = first.float().new_zeros((*first.shape[:2], height, width))
        self._row_weights, self._column_weights = self._sum.new_zeros((height, 1)), self._sum.new_zeros(width)

    def add(self, part: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Add a tile, which begins and ends at these pixels of the image."""
        weights = [
            fade(*ends, length, self._overlap, self._scale, part.device)
            for ends, length in zip((rows, columns), self._size, strict=True)
        ]
        across, along = (slice(start * self._scale, stop * self._scale) for start, stop in (rows, columns))
        if columns[0] == 0:
            self._row_weights[across, 0] += weights[0]
        if rows[0] == 0:
            self._column_weights[along] += weights[1]
        self._sum[..., across, along] += part.float() * weights[0][:, None] * weights[1]

    def mean(self) -> Tensor:
        """The weighted mean of the tiles."""
        return self._sum.div_(self._row_weights).div_(self._column_weights)


def overlap_for(tile: int | None, wanted: int | None) -> int:
    """The overlap of tiles of a side: as wanted, else ``OVERLAP``, at most a third of the side."""
    if wanted is not None:
        return wanted
    return OVERLAP if tile is None else min(OVERLAP, tile // 3)


def tile_fault(tile: int | None, overlap: int, dashes: str = "--") -> str | None:
    """What is wrong with a side (None: chosen later) and an overlap that somebody has given; None: nothing."""
    if tile is None:
        return None if overlap >= 0 else f"{dashes}tile{dashes[:1] or '_'}overlap {overlap}: must be at least 0"
    if tile < MIN_TILE:
        return f"{dashes}tile {tile}: must be at least {MIN_TILE}"
    if not 0 <= 2 * overlap < tile:
        name = f"{dashes}tile{dashes[:1] or '_'}overlap"
        return f"{name} {overlap}: must be at least 0 and less than half of {dashes}tile {tile}"
    return None


def spans(length: int, tile: int, overlap: int, align: int = 1) -> Iterator[tuple[int, int]]:
    """First pixel of each tile along one side, and the one after its last; the last tile is moved inwards."""
    step = tile - overlap
    if step >= align:
        step -= step % align
    else:
        align = 1
    last = max(length - tile, 0)
    last -= last % align
    for start in range(0, last, step):
        yield start, start + tile
    yield last, length


def fade(start: int, stop: int, length: int, overlap: int, scale: int, device: torch.device) -> Tensor:
    """Weights of a tile's output along one side: 1 inside and at the image's borders, falling towards neighbours."""
    import torch  # takes a second, and is not needed to check sizes

    position = torch.arange((stop - start) * scale, device=device) + 0.5
    margin = overlap // 3 * scale
    ramp = max(overlap * scale - 2 * margin, 1)
    from_left = (position - margin) / ramp if start > 0 else torch.full_like(position, torch.inf)
    from_right = (position.flip(0) - margin) / ramp if stop < length else torch.full_like(position, torch.inf)
    return torch.minimum(from_left, from_right).clamp(0, 1)


def tile_for(size: tuple[int, int], bytes_per_pixel: int, budget: int, align: int) -> int | None:
    """The side of the largest tiles that a memory allows; None: the whole image fits.

    Args:
        size: height and width of the image.
        bytes_per_pixel: memory that the network takes for each pixel it is given.
        budget: memory in bytes.
        align: the side is a multiple of it.
    """
    height, width = size
    if height * width * bytes_per_pixel <= budget:
        return None
    side = min(max(math.isqrt(budget // bytes_per_pixel), SMALLEST), LARGEST)
    return side - side % align
