"""``swinlet.load``: a network that enlarges Pillow images, numpy arrays and tensors."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from swinlet.engines import open_engine
from swinlet.errors import CheckpointError, DataError, OptionError
from swinlet.find_weights import find_weights
from swinlet.inference import BORDER, Network, RestoreOptions, Restorer, Tile
from swinlet.models.image_network import ImageNetwork
from swinlet.models.open_network import AmbiguousNetworkError, open_any_network
from swinlet.options import Backend, Precision
from swinlet.options.names import NETWORKS
from swinlet.tiles import overlap_for, tile_fault
from swinlet.utils.alpha import laid_over, spread_colour, taken_off, visible_share
from swinlet.utils.device import check_precision, inference_device
from swinlet.utils.picture import Picture, check_pillow_holds, from_pil, is_gray, read_picture, to_pil
from swinlet.weights import read_weight_file

SHIPPED = {scale: Path(__file__).parents[1] / "assets" / f"student_x{scale}.safetensors" for scale in (2, 4)}
"""Students that come with the package, by scale."""

DEFAULT_SCALE = 4

_SLACK = 0.5  # beyond [0, 1], for values that other filters have made; more is another range


def load(
    weights: str | Path | None = None,
    *,
    scale: int | None = None,
    net_type: str | None = None,
    download: bool = False,
    backend: Backend = "torch",
    device: str = "auto",
    precision: Precision = "fp32",
    tile: Tile = "auto",
    tile_overlap: int | None = None,
    self_ensemble: bool = False,
) -> "Upscaler":
    """Open a network that enlarges images.

    >>> upscaler = swinlet.load("superresolution/run/models/best_E.pth")
    >>> upscaler.upscale(Image.open("photo.jpg")).save("large.png")

    Args:
        weights: a .safetensors or .pth file (of other architectures, too, with spandrel); a run's folder, whose newest
            weights to deploy are taken; "hf://user/model" of the Hugging Face hub; None: the student that comes with
            the package.
        scale: what the network must enlarge by; without ``weights`` it chooses among those that come with the package.
        net_type: "swinir_student" or "swinir_student_v2", of a file that does not tell them apart.
        download: let "hf://" weights be fetched; without, those in the cache are used.
        backend: "torch" (with the native kernels on the CPU), "onnx" (onnxruntime) or "openvino", both on the CPU, for
            weights and for what ``swinlet export`` has written.
        device: "auto" (CUDA where present, else MPS, else the CPU), "cpu", "cuda", "cuda:1", "mps".
        precision: of matrix products and convolutions.
        tile: side in LR pixels of the squares that are restored one by one; "auto": the whole image if the memory that
            is free suffices, else as large as it allows; None: the whole image.
        tile_overlap: LR pixels that tiles share at least; None: 48, at most a third of the tile.
        self_ensemble: the mean over the eight flips and quarter turns: eight times the work, about 0.1 dB better.

    Raises:
        CheckpointError: the file is missing, unreadable, no known network, or of another scale; HubError among them.
        OptionError: a device or a precision that is not there, tiles that are too small.
    """
    overlap = _checked(net_type, backend, precision, tile, tile_overlap)
    place = inference_device(device if backend == "torch" else "cpu")
    path = _find(weights, scale, download)
    network: Network
    if backend == "torch":
        check_precision("precision", precision, place.type)
        network = _open(path, precision, net_type)
    else:
        if device not in ("auto", "cpu"):
            raise OptionError(f"device {device}: backend {backend} computes on the CPU: use auto or cpu")
        network = open_engine(backend, path, precision=precision, net_type=net_type, key="weights")
    if scale is not None and network.upscale != scale:
        raise CheckpointError(f"weights: {path} enlarges x{network.upscale}, but scale is {scale}")
    return Upscaler(network, RestoreOptions(place, precision, self_ensemble, tile, overlap))


def _checked(net_type: str | None, backend: str, precision: str, tile: Tile, tile_overlap: int | None) -> int:
    """Refuse words and numbers that mean nothing; the overlap to use."""
    for name, value, known in (
        ("net_type", net_type, (None, *NETWORKS)),
        ("backend", backend, get_args(Backend)),
        ("precision", precision, get_args(Precision)),
    ):
        if value not in known:
            raise OptionError(f"{name} {value}: must be one of {', '.join(map(str, known))}")
    if tile not in ("auto", None) and type(tile) is not int:
        raise OptionError(f'tile {tile!r}: must be "auto", None or a whole number of LR pixels')
    side = tile if isinstance(tile, int) else None
    overlap = overlap_for(side, tile_overlap)
    fault = tile_fault(side, overlap, "")
    if fault is not None:
        raise OptionError(fault)
    return overlap


def _find(weights: str | Path | None, scale: int | None, download: bool) -> Path:
    if weights is None:
        return shipped(scale, "scale")
    return find_weights(str(weights), "weights", download=download)


def shipped(scale: int | None, key: str) -> Path:
    """Weights of the student that comes with the package for a scale; None: ``DEFAULT_SCALE``.

    Raises:
        OptionError: there is none; its message begins with ``key``.
    """
    path = SHIPPED.get(DEFAULT_SCALE if scale is None else scale)
    if path is None:
        ours = " and ".join(f"x{known}" for known in SHIPPED)
        raise OptionError(f"{key} {scale}: swinlet comes with students for {ours}: name weights of your own")
    return path


def _open(path: Path, precision: Precision, net_type: str | None) -> ImageNetwork:
    if path.suffix.lower() in (".onnx", ".xml"):
        raise CheckpointError(
            f"weights: {path} is an exported network: choose the backend onnx or openvino (--backend)"
        )
    file = read_weight_file(path, "weights")
    try:
        network = open_any_network(file, default_type=net_type)
    except AmbiguousNetworkError as error:
        raise CheckpointError(f"{error}: say which with net_type (--net-type)") from error
    if precision not in network.precisions:
        raise OptionError(f"precision {precision}: {path} computes in {' or '.join(network.precisions)} alone")
    return network


class Upscaler:
    """Enlarges images with a network; see ``load``.

    Args:
        network: what restores.
        options: how, but for the border, which is ``BORDER``.
    """

    def __init__(self, network: Network, options: RestoreOptions) -> None:
        self._network = network
        self._restorer = Restorer(network, replace(options, border=BORDER))

    @property
    def scale(self) -> int:
        """What sides are multiplied by."""
        return self._network.upscale

    @overload
    def upscale(self, image: Image.Image | str | os.PathLike[str]) -> Image.Image: ...
    @overload
    def upscale(self, image: NDArray[Any]) -> NDArray[Any]: ...
    @overload
    def upscale(self, image: Tensor) -> Tensor: ...
    def upscale(
        self, image: Image.Image | str | os.PathLike[str] | NDArray[Any] | Tensor
    ) -> Image.Image | NDArray[Any] | Tensor:
        """Enlarge an image; what comes back is of the kind, the number of channels and the depth that was given.

        Args:
            image: one of these, which is only read:

                - a Pillow image, 8 bits or 16-bit gray. EXIF's orientation is applied, palettes are resolved; colour
                  profile and EXIF are in ``info`` of the result;
                - the path of an image file, read as by ``swinlet upscale``; what comes back is a Pillow image;
                - an array (h, w), (h, w, 1 to 4): gray, gray and alpha, RGB, RGBA; uint8, uint16, or floating-point in
                  [0, 1];
                - a tensor (C, h, w) or (N, C, h, w) with 1 or 3 channels, floating-point in [0, 1] or uint8, on any
                  device.

        Returns:
            Sides times ``scale``. Gray images pass an RGB network as three equal channels, whose mean is taken; a gray
            network takes the channels of a colour image one by one. Alpha is enlarged as a gray image; the less a pixel
            is visible, the more of its colour is replaced by that of visible pixels nearby.

        Raises:
            DataError: an image of none of these kinds, values outside their range, NaN, or a file of 16-bit colour, for
                which Pillow has no mode.
            MachineError: the result does not fit into the memory.
        """
        if isinstance(image, str | os.PathLike):
            return self._upscale_to_pil(read_picture(image))
        if isinstance(image, Image.Image):
            return self._upscale_to_pil(from_pil(image))
        if isinstance(image, Tensor):
            return self._upscale_tensor(image.detach())
        array = np.asarray(image)
        if array.dtype == object:
            raise DataError(f"an image is a Pillow image, a path, an array or a tensor, not {type(image).__name__}")
        return self._upscale_array(array)

    def _upscale_to_pil(self, picture: Picture) -> Image.Image:
        check_pillow_holds(picture)
        return to_pil(self.upscale_picture(picture))

    def upscale_picture(self, picture: Picture) -> Picture:
        """Enlarge a picture; profile and camera data are handed on."""
        colour, alpha = self._upscale_planes(picture.colour, picture.alpha)
        return replace(picture, colour=colour, alpha=alpha)

    def tile_of(self, picture: Picture) -> int | None:
        """The side in LR pixels of the tiles that ``upscale_picture`` would use; None: no tiles."""
        return self._restorer.tile_of((1, self._network.in_chans, *(side + 2 * BORDER for side in picture.size)))

    def _upscale_array(self, image: NDArray[Any]) -> NDArray[Any]:
        if image.dtype.kind not in "f" and image.dtype.name not in ("uint8", "uint16"):
            raise DataError(f"an array has to be uint8, uint16 or floating-point in [0, 1], not {image.dtype}")
        planes = image[:, :, None] if image.ndim == 2 else image
        if planes.ndim != 3 or planes.shape[2] not in (1, 2, 3, 4) or not planes.size:
            raise DataError(f"an array has to be (h, w) or (h, w, 1 to 4), not {image.shape}")
        n_colours = 1 if planes.shape[2] <= 2 else 3
        alpha = planes[:, :, n_colours] if planes.shape[2] in (2, 4) else None
        colour, alpha = self._upscale_planes(planes[:, :, :n_colours], alpha)
        result = colour if alpha is None else np.dstack([colour, alpha])
        return result[:, :, 0] if image.ndim == 2 else result

    def _upscale_planes(
        self, colour: NDArray[Any], alpha: NDArray[Any] | None
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Colour (h, w, 1 or 3), alpha (h, w), of one dtype."""
        if colour.shape[2] == 3 and is_gray(colour):  # which the network would tint
            colour, alpha = self._upscale_planes(colour[:, :, :1], alpha)
            return colour.repeat(3, axis=2), alpha
        kind, dtype = f"an array of {colour.dtype}", colour.dtype
        image = self._unit(_as_tensor(colour), kind)
        if alpha is None:
            return _as_array(self._upscale_unit(image), dtype), None
        alpha_image = self._unit(_as_tensor(alpha[:, :, None]), kind).clamp_(0, 1)
        if alpha.min() == alpha.max():
            sides = (colour.shape[0] * self.scale, colour.shape[1] * self.scale)
            return _as_array(self._upscale_unit(image), dtype), np.full(sides, alpha.flat[0], alpha.dtype)
        share = visible_share(alpha_image)
        background = spread_colour(image, share)
        large = self._upscale_unit(laid_over(background, image, share))
        large_alpha = self._upscale_unit(alpha_image)
        large = taken_off(large, background, visible_share(large_alpha))
        return _as_array(large, dtype), _as_array(large_alpha, dtype)[:, :, 0]

    def _upscale_tensor(self, image: Tensor) -> Tensor:
        if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3) or not image.numel():
            raise DataError(f"a tensor has to be (C, h, w) or (N, C, h, w) with C 1 or 3, not {tuple(image.shape)}")
        if not image.is_floating_point() and image.dtype != torch.uint8:
            raise DataError(f"a tensor has to be floating-point in [0, 1] or uint8, not {image.dtype}")
        batch = self._unit(image if image.ndim == 4 else image[None], f"a tensor of {image.dtype}")
        large = self._upscale_unit(batch)
        if image.dtype == torch.uint8:
            large.mul_(255).round_()
        return large.reshape(*image.shape[:-2], *large.shape[-2:]).to(image.device, image.dtype)

    def _unit(self, batch: Tensor, kind: str) -> Tensor:
        """Values in [0, 1], float32, on the device, in memory of their own.

        Args:
            batch: whole numbers up to the largest of their dtype, or floating-point.
            kind: what messages call it.

        Raises:
            DataError: floating-point values that are NaN or not in [0, 1].
        """
        if not batch.is_floating_point():
            return batch.to(self._restorer.options.device, torch.float32) / torch.iinfo(batch.dtype).max
        low, high = float(batch.min()), float(batch.max())
        if low != low:
            raise DataError(f"{kind} holds NaN (values that are not a number): mend them first")
        if low < -_SLACK or high > 1 + _SLACK:
            raise DataError(
                f"{kind} has to be in [0, 1], but goes from {low:g} to {high:g}: divide it by its largest possible "
                "value, or give it as uint8 or (arrays) uint16"
            )
        return batch.to(self._restorer.options.device, torch.float32, copy=True)

    def _upscale_unit(self, batch: Tensor) -> Tensor:
        """(N, 1 or 3, h, w) in [0, 1], float32, on the device -> enlarged, clamped, in memory of its own.

        What follows is computed in place: results are large, and the memory was reckoned with two copies of them.
        """
        n, c = batch.shape[:2]
        channels = self._network.in_chans
        if c == 1 and channels == 3:
            large = self._restorer.restore(batch.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
        elif c == 3 and channels == 1:
            large = self._restorer.restore(batch.flatten(0, 1)[:, None])
            large = large.view(n, 3, *large.shape[-2:])
        else:
            large = self._restorer.restore(batch)
        if bool(large.isnan().any()):
            raise DataError("the result holds values that are no numbers (NaN): the image or the weights are damaged")
        return large.clamp_(0, 1)


def _as_tensor(planes: NDArray[Any]) -> Tensor:
    """(h, w, C) -> (1, C, h, w), a copy: what was given may be read-only, or mapped from a file."""
    native = planes.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(planes.transpose(2, 0, 1)[None], native, order="C"))


def _as_array(image: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """(1, C, h, w) in [0, 1], which may be overwritten -> (h, w, C); integers up to the largest of their dtype."""
    if dtype.kind == "u":
        image.mul_(np.iinfo(dtype).max).round_()
    return image[0].permute(1, 2, 0).cpu().numpy().astype(dtype)
