"""Restoring whole images with a network: precision, tiles, self-ensemble."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from swinlet.errors import MachineError
from swinlet.options import Precision
from swinlet.tiles import OVERLAP, tile_for, tiled_maps
from swinlet.utils.device import autocast, available_memory
from swinlet.utils.dihedral import VIEWS, turned, turned_back
from swinlet.utils.image_io import to_tensor, to_uint8

Tile = int | Literal["auto"] | None

BORDER = 8
"""LR pixels mirrored around pictures that people look at; docs/upscale.md has what it changes."""

_SHARE = 0.5  # of the memory that is free, for a network's work


class Network(Protocol):
    """What restores images: a ``SwinIR``, an exported one, a foreign one.

    Attributes:
        upscale: its scale.
        in_chans: channels of the images, 1 or 3.
        window_size: side of its windows in LR pixels; tiles begin at multiples of it. 1: none.
        bytes_per_pixel: memory it takes for each LR pixel, at most.
    """

    @property
    def upscale(self) -> int: ...
    @property
    def in_chans(self) -> int: ...
    @property
    def window_size(self) -> int: ...
    @property
    def bytes_per_pixel(self) -> int: ...
    def __call__(self, x: Tensor, /) -> Tensor:
        """(N, C, h, w) in [0, 1] -> (N, C, h * upscale, w * upscale)."""
        ...


@dataclass(frozen=True)
class RestoreOptions:
    """How images are restored.

    Attributes:
        device: where.
        precision: of matrix products and convolutions; weights and image stay fp32.
        self_ensemble: the mean over the eight flips and quarter turns of the image, each turned back ("x8", or "+" in
            the tables of papers; Timofte et al., 2016).
        tile: side in LR pixels of the squares that are restored one by one; None: the whole image at once; "auto": at
            once if half of the memory that is free suffices, else the largest squares for which it does.
        tile_overlap: LR pixels that neighbouring tiles share (``tiled_maps``).
        border: LR pixels by which an image is mirrored outwards before, and which are cut off after. Convolutions pad
            with zeros, and so draw a frame around saturated colours; published scores are computed with that frame,
            so 0 is the convention of ``evaluate``.
    """

    device: torch.device
    precision: Precision = "fp32"
    self_ensemble: bool = False
    tile: Tile = None
    tile_overlap: int = OVERLAP
    border: int = 0


class Restorer:
    """A network that restores images: call it with one.

    Args:
        network: a module is moved to the device, in eval mode and without gradients.
        options: how.
    """

    def __init__(self, network: Network, options: RestoreOptions) -> None:
        if isinstance(network, nn.Module):
            network.to(options.device).eval().requires_grad_(False)
        self.network = network
        self.options = options

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore a picture: uint8 (h, w, C) -> uint8 (h * scale, w * scale, C)."""
        return to_uint8(self.restore(to_tensor(image)[None].to(self.options.device).float() / 255)[0])

    def restore(self, image: Tensor) -> Tensor:
        """Restore (N, C, h, w) in [0, 1], on the device -> float32 (N, C, h * scale, w * scale), not clamped.

        Raises:
            MachineError: the result does not fit into the memory.
        """
        views = range(VIEWS if self.options.self_ensemble else 1)
        border, scale = self.options.border, self.network.upscale
        height, width = image.shape[-2:]
        with torch.inference_mode():
            image = mirrored(image, border)
            answers = (turned_back(self._restore_view(turned(image, view)), view) for view in views)
            total = next(answers)
            for answer in answers:
                total = total + answer
        top = border * scale
        # Divided outside: an inference tensor could not be changed in place any more.
        return (total / len(views))[..., top : top + height * scale, top : top + width * scale]

    def maps(self, image: Tensor, compute: Callable[[Tensor], Sequence[Tensor]], scales: Sequence[int]) -> list[Tensor]:
        """What is computed with the network of (N, C, h, w): maps float32 (N, channels, h * scale, w * scale).

        As in ``restore``, which sees to several views besides.

        Raises:
            MachineError: the result does not fit into the memory.
        """
        with torch.inference_mode(), autocast(self.options.device, self.options.precision):
            tile = self.tile_of(image.shape)
            if tile is None or tile >= max(image.shape[-2:]):
                return [part.float() for part in compute(image)]
            overlap = min(self.options.tile_overlap, (tile - 1) // 2)
            return tiled_maps(compute, image, scales, tile, overlap, self.network.window_size)

    def _restore_view(self, image: Tensor) -> Tensor:
        network = self.network
        return self.maps(image, lambda part: [network(part)], [network.upscale])[0]

    def tile_of(self, shape: Sequence[int]) -> int | None:
        """The side of the tiles for images of a shape (N, C, h, w), border included; None: no tiles.

        Raises:
            MachineError: the result does not fit into the memory.
        """
        tile = self.options.tile
        if tile != "auto":
            return tile
        n, c, height, width = shape
        free = available_memory(self.options.device)
        values = n * c * height * width * self.network.upscale**2
        copies = 3 if self.options.self_ensemble else 2
        if (needed := values * 4 * copies) > free:
            raise MachineError(
                f"the result of {width * self.network.upscale}x{height * self.network.upscale} pixels needs about "
                f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: cut the picture into parts"
            )
        budget = min(int(free * _SHARE), free - needed)
        return tile_for((height, width), n * self.network.bytes_per_pixel, budget, self.network.window_size)


def mirrored(image: Tensor, border: int) -> Tensor:
    """(N, C, h, w) with ``border`` more pixels on each side: the outermost come first; small images are repeated."""
    if border == 0:
        return image
    for axis in (-2, -1):
        places = np.pad(np.arange(image.shape[axis]), border, mode="symmetric")
        image = image.index_select(axis, torch.from_numpy(places).to(image.device))
    return image
