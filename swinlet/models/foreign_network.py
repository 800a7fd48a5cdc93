"""Networks of other architectures, as teachers: what spandrel recognises by the names and shapes of its weights.

The file is read and checked by ``swinlet.weights``; spandrel, which is imported here when it is needed, gets tensors.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from swinlet.errors import CheckpointError
from swinlet.models.image_network import ImageNetwork
from swinlet.prefixes import common_prefixes, log_prefix
from swinlet.utils.names import printable
from swinlet.weights import WeightFile, is_finite

NEEDED = "pip install 'swinlet[teachers]'"

_PURPOSES = {
    "Restoration": "a network for restoration",
    "FaceSR": "a network for faces",
    "Inpainting": "for inpainting",
}

_TRIED = 16  # pixels of a side
_AT_ONCE = 8  # results of operations that are held at a time, each as large as the largest
_UNKNOWN = "nor are they those of another network that is known"
_OURS = ("", "SwinIR")  # what ``open_network`` has refused, and has told the reason of


class UnknownNetworkError(CheckpointError):
    """Raised for weights that belong to no architecture that is known here; the text goes on after that of SwinIR's."""


class ForeignNetwork(ImageNetwork):
    """A super-resolution network of another project, for inference alone.

    Its input is padded as it needs, by reflection, and its answer cropped and clamped to [0, 1], as spandrel
    describes it. In float32, whatever precision the file has.

    Args:
        descriptor: spandrel's ``ImageModelDescriptor``; its network becomes a part of this one.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network = cast("nn.Module", descriptor.model).float()
        self.upscale = int(descriptor.scale)
        self.in_chans = cast("Literal[1, 3]", descriptor.input_channels)
        self._architecture = str(descriptor.architecture.name)
        limited = {"bf16": descriptor.supports_bfloat16, "fp16": descriptor.supports_half}
        self.precisions = tuple(name for name in self.precisions if limited.get(name, True))
        self.window_size = int(descriptor.size_requirements.multiple_of)
        self._bytes_per_pixel = 0
        self._restore = cast("Callable[[Tensor], Tensor]", descriptor)

    @property
    def kind(self) -> str:
        """The architecture, such as CRAFT."""
        return self._architecture

    @property
    def bytes_per_pixel(self) -> int:
        """Memory that restoring takes for each LR pixel: a guess, from ``try_out``."""
        return self._bytes_per_pixel

    def try_out(self) -> tuple[int, ...]:
        """Restore two small images of zeros, noting how much memory an operation takes: the answer's shape."""
        images = torch.zeros(2, self.in_chans, _TRIED, _TRIED)
        with _Watched() as watched:
            answer = self(images)
        self._bytes_per_pixel = _AT_ONCE * watched.largest // (2 * _TRIED**2)
        return tuple(answer.shape)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, h, w) in [0, 1] -> (N, in_chans, h * upscale, w * upscale) in [0, 1], without gradient."""
        image = self._restore(x.clone())  # some architectures compute in place, in the image that they are given
        # spandrel computes in inference mode; autograd saves no tensor made there, as a loss against it needs.
        return image if torch.is_inference_mode_enabled() else image.clone()


def open_foreign(file: WeightFile) -> ForeignNetwork:
    """Build the network of a weight file that is no SwinIR, with its weights, on the CPU, in eval mode.

    Raises:
        UnknownNetworkError: spandrel is not installed, or does not know the architecture.
        CheckpointError: it is no network for super-resolution of images, or is damaged.
    """
    try:
        import spandrel
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("spandrel", "torchvision", "einops"):
            raise
        raise UnknownNetworkError(
            f"{file.source}: networks of other architectures than SwinIR are opened with spandrel: {NEEDED}"
        ) from error
    name = ""
    try:
        # Architectures warn of what their own code will need to change.
        with warnings.catch_warnings(), _Bounded(_values_allowed(file.state)):
            warnings.simplefilter("ignore")
            name, prefix, state = _recognised(file.state, spandrel.MAIN_REGISTRY.architectures("detection"))
            descriptor = spandrel.ModelLoader().load_from_state_dict(state) if name else None
    except Exception as error:  # each architecture reads shapes in its own way, and fails in its own
        if name in _OURS:
            raise UnknownNetworkError(f"{file.source}: {_UNKNOWN}") from error
        raise CheckpointError(
            f"{file.source}: these look like the weights of a {name}, but do not fit one: {_reason(error)}"
        ) from error
    if descriptor is None:
        raise UnknownNetworkError(f"{file.source}: {_UNKNOWN}")
    if prefix:
        log_prefix(file.source, prefix)
    _refuse_others(descriptor, name, file.source)
    unreal = [key for key, tensor in file.state.items() if tensor.is_complex()]
    if unreal:
        raise CheckpointError(f"{file.source}: {printable(unreal[0])[:200]} holds complex numbers")
    broken = [key for key, tensor in file.state.items() if not is_finite(tensor)]
    if broken:
        raise CheckpointError(f"{file.source}: {printable(broken[0])[:200]} holds values that are no numbers")
    network = ForeignNetwork(descriptor).requires_grad_(False).eval()
    _try_out(network, file.source)
    return network


def _recognised(state: Mapping[str, Tensor], known: Sequence[Any]) -> tuple[str, str, dict[str, Tensor]]:
    """An architecture's name, or "", the prefix taken off for it, and tensors that may be added to.

    Names are tried as they stand, then without what is common to all.
    """
    for prefix in ("", *common_prefixes(state)):
        inner = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
        name = next((str(one.architecture.name) for one in known if one.detect(inner)), "")
        if name:
            return name, prefix, inner
    return "", "", {}


def _refuse_others(descriptor: Any, name: str, source: str) -> None:
    """Refuse a network that does not restore single images by super-resolution, in as many channels as it takes."""
    if descriptor.purpose != "SR":
        what = _PURPOSES.get(descriptor.purpose, descriptor.purpose)
        raise CheckpointError(f"{source}: {name} is {what}: a teacher has to be one for super-resolution")
    channels = descriptor.input_channels, descriptor.output_channels
    if channels not in ((1, 1), (3, 3)):
        raise CheckpointError(
            f"{source}: {name} takes {channels[0]} channels and gives {channels[1]}: use a network for gray or for RGB "
            "images"
        )


def _try_out(network: ForeignNetwork, source: str) -> None:
    """Refuse a network that was built, but cannot restore a batch of small images, or not at its scale."""
    try:
        answer = network.try_out()
    except Exception as error:  # shapes that do not fit together, in whatever operation
        raise CheckpointError(f"{source}: {network.kind} cannot restore an image: {_reason(error)}") from error
    side = _TRIED * network.upscale
    if answer != (2, network.in_chans, side, side):
        raise CheckpointError(f"{source}: {network.kind} made {answer} of two images of {_TRIED}x{_TRIED} pixels")


def _reason(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__


def _values_allowed(state: Mapping[str, Tensor]) -> int:
    """How many values a network and its buffers may have, by those of its file."""
    return 8 * sum(tensor.numel() for tensor in state.values()) + 10**7


class _Bounded(TorchDispatchMode):
    """Inside, no more than so many values are made: a small file may have the shapes of a huge network."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self._left = values

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(func.overloadpacket.__name__)
        if name.startswith(("empty", "zeros", "ones", "full", "rand", "new_")):
            sizes = cast("list[list[int]]", [arg for arg in args if isinstance(arg, list)])
            self._left -= prod(sizes[0]) if sizes else 0
        elif name in ("arange", "eye", "linspace"):
            self._left -= int(max((arg for arg in args if isinstance(arg, int | float)), default=0))
        if self._left < 0:
            raise ValueError("they make a network of many times as many values")
        return func(*args, **(kwargs or {}))


class _Watched(TorchDispatchMode):
    """Inside, ``largest`` is the number of bytes of the largest result of an operation."""

    largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.nbytes)
        return result
