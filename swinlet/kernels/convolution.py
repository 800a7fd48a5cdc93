"""3x3 convolutions with zero padding as matrix products of transformed tiles, on the CPU, in inference.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv:1509.09308): 4 multiplications for
each pixel and pair of channels instead of 9.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from swinlet.kernels.block import differentiable
from swinlet.kernels.library import Convolution, Library, library, parallel
from swinlet.kernels.packed import PackedCache
from swinlet.utils.tracing import is_exported

FEWEST_CHANNELS = 16  # a vector of the widest processors; with fewer there is nothing to gain


def serve_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether ``convolve`` can compute this here and now: float32, no gradients, nothing traced."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or is_exported() or library() is None:
        return False
    if {x.dtype, weight.dtype, bias.dtype} != {torch.float32} or torch.is_autocast_enabled("cpu"):
        return False
    return min(weight.shape[:2]) >= FEWEST_CHANNELS and not differentiable(x, (weight, bias))


def convolve(x: Tensor, weight: Tensor, bias: Tensor, plus: Tensor | None, cache: PackedCache) -> Tensor:
    """Convolve where ``serve_convolution`` agrees.

    Args:
        x: (N, C, H, W).
        weight: (K, C, 3, 3).
        bias: (K).
        plus: (N, K, H, W) float32, which is added; None: nothing.
        cache: of this convolution.

    Returns:
        (N, K, H, W) in channels-last order. Rounding errors are those of a direct convolution or smaller.
    """
    native = library()
    assert native is not None
    n, inputs, h, w = x.shape
    outputs = weight.shape[0]
    shape = Convolution(n, h, w, inputs, outputs, torch.get_num_threads())
    packed = cache.packed(native, None, (weight, bias), lambda: _pack(native, shape, weight, bias))
    x = x.contiguous(memory_format=torch.channels_last)
    plus = None if plus is None else plus.contiguous(memory_format=torch.channels_last)
    y = x.new_empty((n, h, w, outputs)).permute(0, 3, 1, 2)
    added = None if plus is None else plus.data_ptr()
    if native.convolve(ctypes.byref(shape), packed.data_ptr(), x.data_ptr(), added, y.data_ptr(), parallel()):
        raise MemoryError("the native kernels could not allocate memory")
    return y


def _pack(native: Library, shape: Convolution, weight: Tensor, bias: Tensor) -> Tensor:
    packed = torch.empty(native.packed_convolution_size(ctypes.byref(shape)))
    weight, bias = weight.contiguous(), bias.contiguous()
    native.pack_convolution(ctypes.byref(shape), weight.data_ptr(), bias.data_ptr(), packed.data_ptr())
    return packed
