"""The ``pixelshuffle`` upsampler as one convolution.

Convolution, PixelShuffle, convolution, PixelShuffle, last convolution: there is no nonlinearity between them, so all of
it is one 5x5 convolution to 3 * scale**2 channels and one PixelShuffle, at every scale. Only the frame of the image
differs, where the layers pad their own inputs with zeros: it is one LR pixel wide and is computed layer by layer.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinlet.utils.tracing import is_traced

_STRIP = 3  # LR pixels: the frame of one, and what it sees of the inside
_SMALLEST = 8  # LR side; below, the frame is most of the image


class FoldedUpsampler:
    """Folds on first use, and again when any weight has changed.

    Args:
        steps: factors of the PixelShuffles in their order.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = tuple(steps)
        self._weights: list[Tensor] = []
        self._folded: tuple[Tensor, Tensor] | None = None

    def __deepcopy__(self, _: object) -> "FoldedUpsampler":
        return FoldedUpsampler(self._steps)

    def __reduce__(self) -> tuple[object, ...]:
        return FoldedUpsampler, (self._steps,)

    def serves(self, x: Tensor) -> bool:
        """Whether folding is possible and pays: not where gradients or a trace of the operations are wanted."""
        if is_traced() or torch.is_grad_enabled() or x.device.type == "meta" or not self._steps:
            return False
        return min(x.shape[2:]) >= _SMALLEST

    def __call__(self, x: Tensor, upsample: nn.Module, conv_last: nn.Conv2d) -> Tensor:
        """(N, 64, h, w) -> (N, C, h * scale, w * scale).

        Args:
            x: features.
            upsample: convolutions and PixelShuffles in turn.
            conv_last: the last convolution.
        """
        convs = [layer for layer in upsample.children() if isinstance(layer, nn.Conv2d)] + [conv_last]
        scale = 1
        for step in self._steps:
            scale *= step
        kernel, bias = self._fold(convs, scale)
        out = F.pixel_shuffle(F.conv2d(x, kernel, bias, padding=2), scale)
        _compute_frame(x, out, scale, lambda strip: conv_last(upsample(strip)))
        return out

    def _fold(self, convs: Sequence[nn.Conv2d], scale: int) -> tuple[Tensor, Tensor]:
        weights = [tensor for conv in convs for tensor in (conv.weight, _bias(conv))]
        known = len(self._weights) == len(weights) and all(
            ours.device == theirs.device and ours.dtype == theirs.dtype and torch.equal(ours, theirs)
            for ours, theirs in zip(self._weights, weights, strict=True)
        )
        if self._folded is None or not known:
            # Values are compared, not versions: a moving average written through .data leaves no other trace.
            self._weights = [tensor.detach().clone() for tensor in weights]
            with torch.autocast(weights[0].device.type, enabled=False):
                kernel, bias = fold(convs, self._steps, scale)
            kernel = kernel.to(weights[0].dtype).contiguous(memory_format=torch.channels_last)
            self._folded = kernel, bias.to(weights[0].dtype)
        return self._folded


def fold(convs: Sequence[nn.Conv2d], steps: Sequence[int], scale: int) -> tuple[Tensor, Tensor]:
    """Kernel (C * scale**2, 64, 5, 5) and bias (C * scale**2), float64, of the whole upsampler.

    Row k of the kernel is the gradient of output channel k, at one LR pixel, with respect to the input: one-hot outputs
    are sent backwards through the transposed layers.
    """
    dtype = torch.float64 if convs[0].weight.device.type != "mps" else torch.float32
    weights = [conv.weight.detach().to(dtype) for conv in convs]
    biases = [_bias(conv).detach().to(dtype) for conv in convs]
    channels = weights[-1].shape[0]
    outputs = channels * scale**2
    one_hot = torch.eye(outputs, dtype=dtype, device=weights[0].device).view(outputs, outputs, 1, 1)
    back = F.pad(F.pixel_shuffle(one_hot, scale), (scale,) * 4)  # the pixel and its neighbours: no output sees farther
    for weight, step in zip(weights[:0:-1], reversed(steps), strict=True):
        back = F.pixel_unshuffle(F.conv_transpose2d(back, weight, padding=1), step)
    kernel = F.conv_transpose2d(back, weights[0])

    y = weights[0].new_zeros(1, weights[0].shape[1], 5, 5)
    for weight, bias, step in zip(weights, biases, steps, strict=False):
        y = F.pixel_shuffle(F.conv2d(y, weight, bias, padding=1), step)
    y = F.conv2d(y, weights[-1], biases[-1], padding=1)[..., 2 * scale : 3 * scale, 2 * scale : 3 * scale]
    return kernel, F.pixel_unshuffle(y, scale).flatten()


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # every convolution of the upsampler has one
    return conv.bias


def _compute_frame(x: Tensor, out: Tensor, scale: int, layers: Callable[[Tensor], Tensor]) -> None:
    """Overwrite what lies within one LR pixel of the border of ``out``."""
    n = x.shape[0]
    for dim in (2, 3):
        last = x.shape[dim] - _STRIP
        strips = torch.cat([x.narrow(dim, 0, _STRIP), x.narrow(dim, last, _STRIP)])
        y = layers(strips)
        out.narrow(dim, 0, scale).copy_(y[:n].narrow(dim, 0, scale))
        out.narrow(dim, out.shape[dim] - scale, scale).copy_(y[n:].narrow(dim, y.shape[dim] - scale, scale))
