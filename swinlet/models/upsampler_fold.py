"""The ``pixelshuffle`` upsampler as one convolution.

Convolution, PixelShuffle, convolution, PixelShuffle, last convolution: there is no nonlinearity between them, so all of
it is one 5x5 convolution to C * scale**2 channels and one PixelShuffle, at every scale. The frame of the image, one LR
pixel wide, has kernels of its own, one for each side and corner, since the layers pad their own inputs with zeros.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinlet.utils.tracing import is_traced

Kernels = list[list[tuple[Tensor, Tensor]]]
"""Kernel (C * scale**2, 64, 3 or 5, 3 or 5), without what lies outside the image, and bias (C * scale**2), for the
first, the inner and the last rows; in each list for the first, the inner and the last columns."""

_FIRST, _INNER, _LAST = range(3)

_SEEN: Mapping[int, range] = {_FIRST: range(3), _INNER: range(-2, 3), _LAST: range(-2, 1)}
"""Rows that a pixel of the first, an inner and the last row sees, counted from its own. Columns likewise."""

_SMALLEST = 8
"""LR side; below, nothing was measured."""

_FEWEST = 1024
"""LR pixels in a batch with gradients, since composing the kernels takes as long for few. Milliseconds forward and
backward at x4 in fp32 on 2 cores with AVX-512, layers and folded: 10 and 21 for one patch of 16x16, 32 and 22 of 32x32,
29 and 18 for 16 of 8x8, 261 and 43 for 8 of 32x32. In bf16 18 and 19 for one of 32x32, 34 and 20 for two."""


class FoldedUpsampler:
    """Composes the kernels at every use where gradients are wanted; else when any weight has changed.

    Args:
        steps: factors of the PixelShuffles in their order.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = tuple(steps)
        self._parameters: list[Tensor] = []
        self._kernels: Kernels = []

    def __deepcopy__(self, _: object) -> "FoldedUpsampler":
        return FoldedUpsampler(self._steps)

    def __reduce__(self) -> tuple[object, ...]:
        return FoldedUpsampler, (self._steps,)

    def serves(self, x: Tensor, training: bool) -> bool:
        """Whether folding is possible and pays: not where a trace of the operations is wanted.

        Args:
            x: features (N, 64, h, w).
            training: of the network, whose weights then change too often for kernels that are kept.
        """
        if is_traced() or x.device.type == "meta" or not self._steps or min(x.shape[2:]) < _SMALLEST:
            return False
        if torch.is_grad_enabled():
            # On GPUs composing at every step was not measured.
            return x.device.type == "cpu" and x.numel() // x.shape[1] >= _FEWEST
        return not training

    def __call__(self, x: Tensor, upsample: nn.Module, conv_last: nn.Conv2d) -> Tensor:
        """(N, 64, h, w) -> (N, C, h * scale, w * scale), where h and w are at least 3.

        Args:
            x: features.
            upsample: convolutions and PixelShuffles in turn.
            conv_last: the last convolution.
        """
        convs = [layer for layer in upsample.children() if isinstance(layer, nn.Conv2d)] + [conv_last]
        parameters = [conv.weight for conv in convs] + [_bias(conv) for conv in convs]
        if torch.is_grad_enabled():
            kernels = self._compose(parameters, torch.promote_types(conv_last.weight.dtype, torch.float32))
        else:
            kernels = self._kept(parameters)
        # Part of the image that the pixels of a place are computed from, and its padding.
        parts = ((slice(3), 0), (slice(None), 1), (slice(-3, None), 0))
        lines: list[Tensor] = []
        for line, (rows, above) in zip(kernels, parts, strict=True):
            seen = x[:, :, rows]
            pixels = [
                F.conv2d(seen[..., columns], kernel, bias, padding=(above, beside))
                for (kernel, bias), (columns, beside) in zip(line, parts, strict=True)
            ]
            lines.append(torch.cat(pixels, 3))
        scale = 1
        for step in self._steps:
            scale *= step
        return F.pixel_shuffle(torch.cat(lines, 2), scale)

    def _kept(self, parameters: list[Tensor]) -> Kernels:
        known = len(self._parameters) == len(parameters) and all(
            ours.device == theirs.device and ours.dtype == theirs.dtype and torch.equal(ours, theirs)
            for ours, theirs in zip(self._parameters, parameters, strict=True)
        )
        if not known:
            # Values are compared, not versions: a moving average written through .data leaves no other trace.
            parameters = [tensor.detach().clone() for tensor in parameters]
            mps = parameters[0].device.type == "mps"  # it knows no float64
            self._kernels = self._compose(parameters, torch.float32 if mps else torch.float64)
            self._parameters = parameters  # at last: another thread may come by
        return self._kernels

    def _compose(self, parameters: list[Tensor], dtype: torch.dtype) -> Kernels:
        given, device = parameters[0].dtype, parameters[0].device
        with torch.autocast(device.type, enabled=False):
            exact = [tensor.to(dtype) for tensor in parameters]
            kernels = fold(exact[: len(exact) // 2], exact[len(exact) // 2 :], self._steps)
        return [
            [(kernel.to(given, memory_format=torch.channels_last), bias.to(given)) for kernel, bias in line]
            for line in kernels
        ]


def fold(weights: Sequence[Tensor], biases: Sequence[Tensor], steps: Sequence[int]) -> Kernels:
    """The kernels of the whole upsampler, differentiable, from its convolutions' weights and biases in their order."""
    kernel = weights[-1].permute(2, 3, 0, 1)
    scale = 1
    for weight, step in zip(weights[-2::-1], reversed(steps), strict=True):
        kernel = _prepend(weight, step, kernel, scale)
        scale *= step
    # The biases' part: what the layers make of nine black pixels.
    y = weights[0].new_zeros(1, weights[0].shape[1], 3, 3)
    for weight, bias, step in zip(weights, biases, steps, strict=False):
        y = F.pixel_shuffle(F.conv2d(y, weight, bias, padding=1), step)
    y = F.pixel_unshuffle(F.conv2d(y, weights[-1], biases[-1], padding=1), scale)[0]
    sizes = [len(rows) for rows in _SEEN.values()]
    return [
        [
            (part.permute(2, 3, 0, 1), bias)
            for part, bias in zip(line.split_with_sizes(sizes, 1), pixels.unbind(1), strict=True)
        ]
        for line, pixels in zip(kernel.split_with_sizes(sizes), y.unbind(1), strict=True)
    ]


def _prepend(weight: Tensor, step: int, kernel: Tensor, scale: int) -> Tensor:
    """The kernels of convolution, PixelShuffle, and what follows.

    Args:
        weight: of the convolution, (inner * step**2, inputs, 3, 3).
        step: factor of the PixelShuffle.
        kernel: of what follows, (rows, columns, C * scale**2, inner): of the last convolution as it is, of more layers
            the rows that are seen in each place (``_SEEN``) one after the other, and the columns.
        scale: factor of what follows.

    Returns:
        (11, 11, C * (scale * step)**2, inputs), the channels in the order of one PixelShuffle.
    """
    outputs, inner = kernel.shape[2:]
    inputs = weight.shape[1]
    cut, join = (weight.new_tensor(matrix) for matrix in _matrices(step, len(kernel) > 3))
    # The pixels that one pixel of the convolution's output becomes are seen or not seen together: blocks of them.
    blocks = len(cut) // step
    x = _along_both(cut, kernel).view(blocks, step, blocks, step, outputs, inner)
    x = x.permute(0, 2, 4, 5, 1, 3).reshape(-1, inner * step**2) @ weight.permute(0, 2, 3, 1).flatten(1)
    x = x.view(blocks, blocks, outputs, 3, 3, inputs).permute(0, 3, 1, 4, 2, 5)
    x = _along_both(join, x.reshape(blocks * 3, blocks * 3, outputs, inputs))
    rows = len(join) // step
    x = x.view(rows, step, rows, step, outputs // scale**2, scale, scale, inputs).permute(0, 2, 4, 1, 5, 3, 6, 7)
    return x.reshape(rows, rows, outputs * step**2, inputs)


def _along_both(matrix: Tensor, x: Tensor) -> Tensor:
    """(m, m, ...) -> (n, n, ...) by a matrix (n, m) along rows and along columns."""
    n = len(matrix)
    x = (matrix @ x.flatten(1)).view(n, *x.shape[1:])
    return (matrix @ x.flatten(2)).view(n, n, *x.shape[2:])


@cache
def _matrices(step: int, framed: bool) -> tuple[list[list[float]], list[list[float]]]:
    """How kernels are cut into blocks and joined again, along one axis, as matrices of zeros and ones.

    A block is what an output row, given by its place in the image and by its phase, its number among the ``step`` rows
    that one coarse row becomes, sees of what a coarse row has become.

    Args:
        step: fine rows that one coarse row becomes.
        framed: the kernels to cut differ in the frame of the image.

    Returns:
        Kernel rows -> rows (block, fine row in it), and rows (block, tap of the convolution) -> rows (row of the new
        kernels, phase). Lists, for a tensor that was made in inference mode would be of no use in training.
    """
    seen = _SEEN if framed else {_INNER: range(-1, 2)}

    def place(coarse: int, phase: int) -> int:
        """Of the fine row in a coarse row of a place."""
        outermost = {_FIRST: 0, _LAST: step - 1}
        return coarse if framed and outermost.get(coarse) == phase else _INNER

    blocks = [
        (fine, phase, block)
        for fine, phase in sorted({(place(coarse, phase), phase) for coarse in _SEEN for phase in range(step)})
        for block in (-1, 0, 1)
        if any(block * step + row - phase in seen[fine] for row in range(step))
    ]
    cut = [
        [float(fine == other and block * step + row - phase == seen_row) for other in seen for seen_row in seen[other]]
        for fine, phase, block in blocks
        for row in range(step)
    ]
    join = [
        [
            float((place(coarse, phase), phase) == (fine, own) and block in _SEEN[coarse] and block + tap == row)
            for fine, own, block in blocks
            for tap in (-1, 0, 1)
        ]
        for coarse, rows in _SEEN.items()
        for row in rows
        for phase in range(step)
    ]
    return cut, join


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # every convolution of the upsampler has one
    return conv.bias
