"""A whole Swin Transformer block as one operation on the CPU, native and differentiable.

The kernel sees folded weights only: LayerNorm's affine part is a factor on the columns of the linear layer behind it,
the scale of the scores a factor on the rows of q, and, as the softmax is computed in powers of two, log2(e) another on
q and on the bias. Folding is done by torch, so that autograd finds the gradients of the parameters.
"""

# No "from __future__ import annotations": torch infers the operators' schemas from the annotations.

import ctypes
import functools
import logging
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from swinlet.kernels.library import Arrays, Library, Shape, library, parallel
from swinlet.kernels.packed import PackedCache
from swinlet.utils.tracing import is_exported

LOGGER = logging.getLogger("swinlet")

_LOG2_E = 1 / math.log(2)


class BlockParameters(NamedTuple):
    """The parameters of a Swin Transformer block, float32; C channels, ``hidden`` the width of its MLP.

    ``position_index`` is (window**2, window**2), row of ``bias_table`` for each (query, key) pair.
    """

    norm1_weight: Tensor
    norm1_bias: Tensor
    qkv_weight: Tensor
    qkv_bias: Tensor | None
    bias_table: Tensor
    position_index: Tensor
    proj_weight: Tensor
    proj_bias: Tensor
    norm2_weight: Tensor
    norm2_bias: Tensor
    fc1_weight: Tensor
    fc1_bias: Tensor
    fc2_weight: Tensor
    fc2_bias: Tensor


class FoldedWeights(NamedTuple):
    """What the kernel takes, in the order of ``interface.h``; ``bias`` is (heads, keys, queries)."""

    qkv_weight: Tensor
    qkv_bias: Tensor
    bias: Tensor
    proj_weight: Tensor
    proj_bias: Tensor
    fc1_weight: Tensor
    fc1_bias: Tensor
    fc2_weight: Tensor
    fc2_bias: Tensor


class BlockSpec(NamedTuple):
    """What is fixed in a block: window side and shift in tokens, and whether it adds its input once more (V2)."""

    heads: int
    window: int
    shift: int
    again: bool


def fold(p: BlockParameters, heads: int) -> FoldedWeights:
    """The kernel's weights, differentiable in the block's parameters."""
    channels = p.proj_weight.shape[0]
    factor = p.qkv_weight.new_ones(3 * channels)
    factor[:channels] = (channels // heads) ** -0.5 * _LOG2_E
    qkv_bias = p.qkv_weight @ p.norm1_bias
    if p.qkv_bias is not None:
        qkv_bias = qkv_bias + p.qkv_bias
    return FoldedWeights(
        p.qkv_weight * p.norm1_weight * factor[:, None],
        qkv_bias * factor,
        (p.bias_table * _LOG2_E)[p.position_index.t()].permute(2, 0, 1).contiguous(),
        p.proj_weight,
        p.proj_bias,
        p.fc1_weight * p.norm2_weight,
        p.fc1_weight @ p.norm2_bias + p.fc1_bias,
        p.fc2_weight,
        p.fc2_bias,
    )


MAX_WINDOW = 16


@functools.cache
def _say_once(reason: str) -> None:
    LOGGER.info("transformer blocks are computed by torch: %s", reason)


def serve(x: Tensor, parameters: Iterable[Tensor], window: int) -> bool:
    """Whether the native kernels can compute blocks of this input and these parameters here and now.

    Where they are there but cannot, the log says why, once.
    """
    if x.device.type != "cpu" or is_exported() or not _available():
        return False
    dtypes = {x.dtype, *(parameter.dtype for parameter in parameters)}
    if dtypes != {torch.float32}:
        others = ", ".join(sorted(str(dtype) for dtype in dtypes - {torch.float32}))
        _say_once(f"the native kernels take float32 (or bfloat16 through torch.autocast), not {others}")
        return False
    if window > MAX_WINDOW:
        _say_once(f"the native kernels take windows up to {MAX_WINDOW}, not {window}")
        return False
    return True


def _available() -> bool:
    return library() is not None


def differentiable(x: Tensor, parameters: Iterable[Tensor]) -> bool:
    """Whether ``train`` is to be used: for gradients, and where the operations are traced rather than executed."""
    if torch.compiler.is_compiling():
        return True
    return torch.is_grad_enabled() and (x.requires_grad or any(parameter.requires_grad for parameter in parameters))


def _half() -> bool:
    """Whether products take bf16: asked for by autocast, and the processor can. Else float32, no slower and exact."""
    wanted = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return wanted and _has_bf16()


def _has_bf16() -> bool:
    return _library().has_bf16


# What torch.compiler.assume_constant_result does, after a second spent on importing the compiler.
for _constant in (_available, _has_bf16):
    cast("Any", _constant)._dynamo_marked_constant = True


def infer(
    x: Tensor, size: tuple[int, int], spec: BlockSpec, parameters: BlockParameters, cache: PackedCache, out: Tensor
) -> None:
    """The block without autograd and without drop-path.

    Args:
        x: tokens (N, H*W, C), float32, contiguous.
        size: (H, W), multiples of the window.
        spec, parameters: of the block.
        cache: of this block.
        out: where the result goes; may be ``x``.
    """
    native = _library()
    shape = _shape(x, size, spec, parameters.fc1_weight.shape[0], _half())
    values = [value for value in parameters if value is not None and value is not parameters.position_index]
    packed = cache.packed(native, shape.half, values, lambda: _pack(native, shape, parameters, spec.heads))
    failed = native.forward(
        ctypes.byref(shape), packed.data_ptr(), x.data_ptr(), out.data_ptr(), None, None, parallel()
    )
    _check(failed)


def train(
    x: Tensor,
    size: tuple[int, int],
    spec: BlockSpec,
    parameters: BlockParameters,
    keep1: Tensor | None,
    keep2: Tensor | None,
) -> Tensor:
    """The block as an operator that autograd and torch.compile know.

    Args:
        x, size, spec, parameters: as for ``infer``.
        keep1, keep2: factors of the two branches of each image, N values (drop-path); None: 1.

    Returns:
        (N, H*W, C), float32.
    """
    half = _half()
    with torch.autocast("cpu", enabled=False):
        weights = fold(parameters, spec.heads)
    return _swin_block(x, *weights, keep1, keep2, *size, *spec, half)


def _pack(native: Library, shape: Shape, parameters: BlockParameters, heads: int) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        weights = tuple(weight.contiguous() for weight in fold(parameters, heads))
    packed = torch.empty(native.packed_size(ctypes.byref(shape)))
    native.pack(ctypes.byref(shape), _pointers(weights), packed.data_ptr())
    return packed


def _shape(x: Tensor, size: tuple[int, int], spec: BlockSpec, hidden: int, half: bool) -> Shape:
    heads, window, shift, again = spec
    channels, threads = x.shape[2], torch.get_num_threads()
    return Shape(x.shape[0], *size, channels, heads, window, shift, hidden, int(again), int(half), threads)


def _pointers(arrays: tuple[Tensor, ...]) -> Arrays:
    return Arrays(*(array.data_ptr() for array in arrays))


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("the native kernels could not allocate memory")


def _library() -> Library:
    native = library()
    if native is None:
        raise RuntimeError("an operator of swinlet.kernels needs the native kernels, which are off or not built")
    return native


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@torch.library.custom_op("swinlet::swin_block", mutates_args=(), device_types="cpu")
def _swin_block(
    x: Tensor,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    fc1_weight: Tensor,
    fc1_bias: Tensor,
    fc2_weight: Tensor,
    fc2_bias: Tensor,
    keep1: Tensor | None,
    keep2: Tensor | None,
    height: int,
    width: int,
    heads: int,
    window: int,
    shift: int,
    again: bool,
    half: bool,
) -> Tensor:
    native = _library()
    weights = qkv_weight, qkv_bias, bias, proj_weight, proj_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias
    x, *weights = (array.contiguous() for array in (x, *weights))
    shape = _shape(x, (height, width), BlockSpec(heads, window, shift, again), fc1_weight.shape[0], half)
    packed = torch.empty(native.packed_size(ctypes.byref(shape)))
    native.pack(ctypes.byref(shape), _pointers(tuple(weights)), packed.data_ptr())
    y = torch.empty_like(x)
    failed = native.forward(
        ctypes.byref(shape),
        packed.data_ptr(),
        x.data_ptr(),
        y.data_ptr(),
        _address(keep1),
        _address(keep2),
        parallel(),
    )
    _check(failed)
    return y


@torch.library.custom_op("swinlet::swin_block_backward", mutates_args=(), device_types="cpu")
def _swin_block_backward(
    dy: Tensor,
    x: Tensor,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    fc1_weight: Tensor,
    fc1_bias: Tensor,
    fc2_weight: Tensor,
    fc2_bias: Tensor,
    keep1: Tensor | None,
    keep2: Tensor | None,
    height: int,
    width: int,
    heads: int,
    window: int,
    shift: int,
    again: bool,
    half: bool,
) -> list[Tensor]:
    native = _library()
    weights = qkv_weight, qkv_bias, bias, proj_weight, proj_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias
    dy, x, *weights = (array.contiguous() for array in (dy, x, *weights))
    shape = _shape(x, (height, width), BlockSpec(heads, window, shift, again), fc1_weight.shape[0], half)
    dx, *gradients = (torch.empty_like(array) for array in (x, *weights))
    failed = native.backward(
        ctypes.byref(shape),
        _pointers(tuple(weights)),
        x.data_ptr(),
        dy.data_ptr(),
        dx.data_ptr(),
        _pointers(tuple(gradients)),
        _address(keep1),
        _address(keep2),
        parallel(),
    )
    _check(failed)
    return [dx, *gradients]


_ARRAYS, _KEEPS = 10, 2  # x and the weights; keep1 and keep2


@_swin_block.register_fake
def _(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape)


@_swin_block_backward.register_fake
def _(_: Tensor, *arguments: Tensor) -> list[Tensor]:
    return [array.new_empty(array.shape) for array in arguments[:_ARRAYS]]


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs[: _ARRAYS + _KEEPS])
    ctx.fixed = inputs[_ARRAYS + _KEEPS :]


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _swin_block_backward(dy, *ctx.saved_tensors, *ctx.fixed)
    return *gradients, *(None,) * (_KEEPS + len(ctx.fixed))


_swin_block.register_autograd(_backward, setup_context=_keep_for_backward)
