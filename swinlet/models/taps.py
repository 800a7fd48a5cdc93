"""Features of a network by name: what modules of it put out, of patches and of whole images."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from math import isqrt
from typing import Any, cast

import torch
from torch import Tensor, nn

from swinlet.errors import OptionError
from swinlet.models.foreign_network import ForeignNetwork
from swinlet.models.image_network import ImageNetwork
from swinlet.models.network_swinir import SwinIR, to_image, to_tokens

_OPTION = "train.feature_taps"
_NAMED = 8  # modules in a message

# Sides of images that tell to multiples of how many pixels, up to 64, a network pads: no two numbers make all of them
# as large. Of the largest, a map with two tokens for each pixel of a side would have 130.
_SIDES = (33, 43, 65)
_LARGEST_MULTIPLE = 64


class TappedNetwork(ImageNetwork):
    """A frozen network whose features are the outputs of named modules.

    An output is a feature map (N, C, H, W), tokens (N, H*W, C), or a tuple or list that begins with one of these. Of a
    module that is called several times, the last output counts. It has to be one for an input twice as large, too:
    what is computed of single windows has the shape of a map where one window covers the image.

    Args:
        network: the network; its modules are named as in its own state dict.
        names: the modules, one for each feature.
        side: of a square input to look at the features with, in pixels.
        grid: sides that the token maps of it may have.
        option: that names the modules, for messages.
        whose: and who has the first of these sides.

    Raises:
        OptionError: there is no such module, or what it puts out is no token map of this size.
    """

    def __init__(
        self,
        network: ImageNetwork,
        names: Sequence[str],
        side: int,
        grid: range,
        *,
        option: str = _OPTION,
        whose: str = "the student has",
    ) -> None:
        super().__init__()
        self.network = network
        self.upscale, self.in_chans, self.precisions = network.upscale, network.in_chans, network.precisions
        self.window_size = network.window_size
        self._names = tuple(names)
        self._caught: dict[str, Tensor] | None = None
        modules = _modules(network)
        for name in names:
            if name not in modules:
                near = difflib.get_close_matches(name, modules, n=3)
                hint = (
                    f"did you mean {_shown(near, ' or ')}?" if near else _advice(fitting_modules(network, side, grid))
                )
                raise OptionError(f"{option}: {network.kind} has no module {name!r}: {hint}")
            modules[name].register_forward_hook(self._catcher(name))
        looked_at = _LookedAt(network, side, grid)
        for name in names:
            problem = looked_at.problem(name)
            if problem:
                raise OptionError(
                    f"{option}: {name}: {problem}; {whose} {grid[0]}x{grid[0]} tokens of a patch of {side}x{side} "
                    f"pixels: {_advice(looked_at.fitting())}"
                )
        self._widths = tuple(looked_at.width(name) for name in names)

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """The width of each tap's tokens."""
        return self._widths

    @property
    def bytes_per_pixel(self) -> int:
        """Of the network."""
        return self.network.bytes_per_pixel

    @property
    def kind(self) -> str:
        """That of the network."""
        return self.network.kind

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """The network's image; with ``return_features`` a pair of it and a list of token maps (N, H*W, width)."""
        if not return_features:
            return self.network(x)
        image, outputs = self.outputs(x)
        return image, [_tokens(output) for output in outputs]

    def outputs(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The network's image, and the outputs of the modules as they are, (N, width, H, W) or (N, H*W, width)."""
        self._caught = {}
        try:
            image = self.network(x)
            return image, [self._caught[name] for name in self._names]
        finally:
            self._caught = None

    def _catcher(self, name: str) -> Callable[..., None]:
        def catch(module: nn.Module, inputs: Any, output: object) -> None:
            if self._caught is not None:
                # Copied, as modules behind it may compute in place; outside of inference mode, as autograd reads it.
                with torch.inference_mode(False), torch.no_grad():
                    self._caught[name] = _first(output).clone()

        return catch


class FeatureMaps:
    """A network's image, and outputs of its modules as maps of the image's pixels: call it with an image of any size.

    Args:
        network: frozen, in eval mode, on any device.
        words: a stage of a SwinIR by its number, counted from 0, or the name of a module; see ``TappedNetwork``.
        option: that names them, for messages.

    Attributes:
        names: of the modules, each once.
        widths: of their maps.

    Raises:
        OptionError: there is no such stage or module, or what it puts out is not one token for each pixel.
    """

    def __init__(self, network: ImageNetwork, words: Iterable[str], option: str) -> None:
        self.names = list(dict.fromkeys(_module_of(network, word, option) for word in words))
        self._option, side = option, _SIDES[-1]
        sides = range(side, 2 * side)
        self._tapped = TappedNetwork(network, self.names, side, sides, option=option, whose="there have to be")
        self.widths = self._tapped.feature_widths
        self._multiples = self._padded_to(next(network.parameters()).device)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """(N, in_chans, h, w) -> the image (N, in_chans, h * upscale, w * upscale), and maps (N, width, h, w).

        Tokens of what the network pads the image with, below and on the right, are left out.

        Raises:
            OptionError: the network pads an image of this size in a way of its own.
        """
        height, width = x.shape[-2:]
        image, outputs = self._tapped.outputs(x)
        maps: list[Tensor] = []
        for name, output, multiple in zip(self.names, outputs, self._multiples, strict=True):
            grid = _padded(height, multiple), _padded(width, multiple)
            if output.ndim == 3 and output.shape[1] == grid[0] * grid[1]:
                output = to_image(output, grid)
            if output.ndim == 3 or output.shape[2] < height or output.shape[3] < width:
                raise self._refusal(name, f"{width}x{height}")
            maps.append(output[..., :height, :width])
        return [image, *maps]

    def _padded_to(self, device: torch.device) -> list[int]:
        """For each module, the multiple of pixels that its images are padded to; 0: its maps have rows and columns."""
        grids: list[list[int]] = [[] for _ in self.names]
        for side in _SIDES:
            with torch.inference_mode():
                _, outputs = self._tapped.outputs(torch.zeros(1, self._tapped.in_chans, side, side, device=device))
            for output, sides in zip(outputs, grids, strict=True):
                sides.append(isqrt(output.shape[1]) if output.ndim == 3 else 0)
        multiples: list[int] = []
        for name, sides in zip(self.names, grids, strict=True):
            fitting = [m for m in range(1, _LARGEST_MULTIPLE + 1) if [_padded(side, m) for side in _SIDES] == sides]
            if not fitting and any(sides):
                raise self._refusal(name, "some size")
            multiples.append(fitting[0] if fitting else 0)
        return multiples

    def _refusal(self, name: str, size: str) -> OptionError:
        return OptionError(
            f"{self._option}: {name}: {self._tapped.kind} pads images of {size} in a way of its own, so that it is "
            "unknown which tokens belong to which pixels: name other modules"
        )


def _module_of(network: ImageNetwork, word: str, option: str) -> str:
    """The name of the module that a word names."""
    if not re.fullmatch("-?[0-9]+", word):
        return word
    stages = len(network.feature_widths)
    if not isinstance(network, SwinIR):
        raise OptionError(f"{option} {word}: {network.kind} has no numbered stages: name modules, as layers.0")
    if not 0 <= int(word) < stages:
        raise OptionError(f"{option} {word}: {network.kind} has stages 0 to {stages - 1}")
    return f"layers.{int(word)}"


def _padded(length: int, multiple: int) -> int:
    return length + -length % multiple if multiple else length


def fitting_modules(network: ImageNetwork, side: int, grid: range) -> list[str]:
    """Names of the modules that can be tapped; see ``TappedNetwork``."""
    return _LookedAt(network, side, grid).fitting()


class _LookedAt:
    """What the modules of a network put out for two sizes of square images; arguments as of ``TappedNetwork``."""

    def __init__(self, network: ImageNetwork, side: int, grid: range) -> None:
        modules = _modules(network)
        self._grids = grid, range(2 * grid.start, 2 * grid.stop)
        self._outputs = [_outputs(network, modules, size) for size in (side, 2 * side)]

    def problem(self, name: str) -> str | None:
        """Why the outputs of a module are no square token maps of such sides, if they are none."""
        small, large = map(_problem, (outputs.get(name) for outputs in self._outputs), self._grids)
        return small or (large and f"{large} for a patch twice as large")

    def fitting(self) -> list[str]:
        """The modules without a problem."""
        return [name for name in self._outputs[0] if not self.problem(name)]

    def width(self, name: str) -> int:
        """Of the tokens of a module."""
        return _tokens(self._outputs[0][name]).shape[2]


def _advice(fitting: Sequence[str]) -> str:
    return f"these would fit: {_shown(fitting)}" if fitting else "no module of it fits"


def _root(network: ImageNetwork) -> nn.Module:
    """The module whose state dict the user knows."""
    return network.network if isinstance(network, ForeignNetwork) else network


def _modules(network: ImageNetwork) -> dict[str, nn.Module]:
    named = cast("Iterable[tuple[str, nn.Module]]", _root(network).named_modules())
    return {name: module for name, module in named if name}


def _outputs(network: ImageNetwork, modules: dict[str, nn.Module], side: int) -> dict[str, object]:
    """What modules put out for a square image, by their names; of those that are called."""
    found: dict[str, object] = {}

    def catcher(name: str) -> Callable[..., None]:
        def catch(module: nn.Module, inputs: Any, output: object) -> None:
            found[name] = output

        return catch

    hooks = [module.register_forward_hook(catcher(name)) for name, module in modules.items()]
    training = network.training
    device = next((weight.device for weight in network.parameters()), None)
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, network.in_chans, side, side, device=device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _problem(output: object, grid: range) -> str | None:
    """Why what a module puts out for one image is no square token map of such a side, if it is none."""
    if output is None:
        return "it is not called when an image is restored, or computed in another way"
    try:
        tensor = _first(output)
    except TypeError:
        return f"it puts out {type(output).__name__}, not a feature map"
    if tensor.ndim in (3, 4) and tensor.shape[0] != 1:
        return f"it puts out {tensor.shape[0]} parts of an image"
    if tensor.ndim == 4:
        height, width = tensor.shape[2:]
        return None if height == width and height in grid else f"it puts out a map of {height}x{width}"
    if tensor.ndim == 3:
        side = isqrt(tensor.shape[1])
        fits = side**2 == tensor.shape[1] and side in grid
        return None if fits else f"it puts out {tensor.shape[1]} tokens"
    return f"it puts out values of shape {tuple(tensor.shape)}, neither (N, C, H, W) nor (N, H*W, C)"


def _first(output: object) -> Tensor:
    if isinstance(output, tuple | list) and output:
        output = cast("Sequence[object]", output)[0]
    if not isinstance(output, Tensor):
        raise TypeError("no tensor")
    return output


def _tokens(output: object) -> Tensor:
    tensor = _first(output)
    return to_tokens(tensor) if tensor.ndim == 4 else tensor


def _shown(names: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return separator.join(names[:_NAMED]) + more
