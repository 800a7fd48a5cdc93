"""Features of a network that offers none: what modules of it put out, by their names."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from swinlet.errors import OptionError
from swinlet.models.foreign_network import ForeignNetwork
from swinlet.models.image_network import ImageNetwork
from swinlet.models.network_swinir import SwinIR, to_image, to_tokens

_OPTION = "train.feature_taps"
_NAMED = 8  # modules in a message


class TappedNetwork(ImageNetwork):
    """A frozen network whose features are the outputs of named modules.

    An output is a feature map (N, C, H, W), tokens (N, H*W, C), or a tuple or list that begins with one of these. Of a
    module that is called several times, the last output counts.

    Args:
        network: the network; its modules are named as in its own state dict.
        names: the modules, one for each feature.
        side: of a square input to look at the features with, in pixels.
        grid: side of the token maps to be had of it.
        option: that names the modules, for messages.
        whose: and who says that they are to have this grid.

    Raises:
        OptionError: there is no such module, or what it puts out is no token map of this size.
    """

    def __init__(
        self,
        network: ImageNetwork,
        names: Sequence[str],
        side: int,
        grid: int,
        *,
        option: str = _OPTION,
        whose: str = "the student has",
    ) -> None:
        super().__init__()
        self.network = network
        self.upscale, self.in_chans, self.precisions = network.upscale, network.in_chans, network.precisions
        self.window_size = network.window_size
        self._names, self._option = tuple(names), option
        self._caught: dict[str, object] | None = None
        modules = _modules(network)
        for name in names:
            if name not in modules:
                near = difflib.get_close_matches(name, modules, n=3)
                hint = f"did you mean {_shown(near, ' or ')}?" if near else f"it has {_shown(list(modules))}"
                raise OptionError(f"{option}: {network.kind} has no module {name!r}: {hint}")
            modules[name].register_forward_hook(self._catcher(name))
        outputs = _outputs(network, modules, side)
        for name in names:
            problem = _problem(outputs.get(name), grid)
            if problem:
                fitting = [other for other, output in outputs.items() if not _problem(output, grid)]
                advice = f"these would fit: {_shown(fitting)}" if fitting else "no module of it fits"
                raise OptionError(
                    f"{option}: {name}: {problem}; {whose} {grid}x{grid} tokens of a patch of {side}x{side} pixels: "
                    f"{advice}"
                )
        self._widths = tuple(_tokens(outputs[name]).shape[2] for name in names)

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """The width of each tap's tokens."""
        return self._widths

    def token_grid(self, height: int, width: int) -> tuple[int, int]:
        """Of the network."""
        return self.network.token_grid(height, width)

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
        self._caught = {}
        try:
            image = self.network(x)
            return image, [_tokens(self._caught[name]) for name in self._names]
        finally:
            self._caught = None

    def maps(self, x: Tensor) -> list[Tensor]:
        """The network's image (N, in_chans, h * upscale, w * upscale), and its features as maps of x, (N, width, h, w).

        Raises:
            OptionError: an image of this size has other token maps than those of the network's grid.
        """
        height, width = x.shape[-2:]
        image, features = cast("tuple[Tensor, list[Tensor]]", self(x, return_features=True))
        grid = self.token_grid(height, width)
        for name, tokens in zip(self._names, features, strict=True):
            if tokens.shape[1] != grid[0] * grid[1]:
                raise OptionError(
                    f"{self._option}: {name}: {self.kind} makes {tokens.shape[1]} tokens of {width}x{height} pixels, not "
                    f"{grid[1]}x{grid[0]}: its features cannot be stored as maps of whole images"
                )
        return [image, *(to_image(tokens, grid)[..., :height, :width] for tokens in features)]

    def _catcher(self, name: str) -> Callable[..., None]:
        def catch(module: nn.Module, inputs: Any, output: object) -> None:
            if self._caught is not None:
                # Copied, as modules behind it may compute in place; outside of inference mode, as autograd reads it.
                with torch.inference_mode(False), torch.no_grad():
                    self._caught[name] = _first(output).clone()

        return catch


def stage_modules(network: ImageNetwork, words: Iterable[str], option: str) -> list[str]:
    """Names of the modules that words name: a stage of a SwinIR by its number, counted from 0, or a module itself.

    Raises:
        OptionError: there is no such stage.
    """
    names: list[str] = []
    stages = len(network.feature_widths)
    for word in words:
        if not word.isdecimal():
            names.append(word)
        elif isinstance(network, SwinIR) and int(word) < stages:
            names.append(f"layers.{int(word)}")
        else:
            has = f"has stages 0 to {stages - 1}" if stages else "has no numbered stages: name modules, as layers.0"
            raise OptionError(f"{option} {word}: {network.kind} {has}")
    return list(dict.fromkeys(names))


def fitting_modules(network: ImageNetwork, side: int, grid: int) -> list[str]:
    """Names of the modules that can be tapped; see ``TappedNetwork``."""
    return [name for name, output in _outputs(network, _modules(network), side).items() if not _problem(output, grid)]


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


def _problem(output: object, grid: int) -> str | None:
    """Why what a module puts out for one image is no token map of ``grid`` x ``grid`` tokens, if it is none."""
    if output is None:
        return "it is not called when an image is restored, or computed in another way"
    try:
        tensor = _first(output)
    except TypeError:
        return f"it puts out {type(output).__name__}, not a feature map"
    if tensor.ndim in (3, 4) and tensor.shape[0] != 1:
        return f"it puts out {tensor.shape[0]} parts of an image"
    if tensor.ndim == 4:
        return None if tensor.shape[2:] == (grid, grid) else f"it puts out a map of {tensor.shape[2]}x{tensor.shape[3]}"
    if tensor.ndim == 3:
        return None if tensor.shape[1] == grid**2 else f"it puts out {tensor.shape[1]} tokens"
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
