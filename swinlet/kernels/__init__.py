"""Native CPU kernels: a whole Swin Transformer block at a time, forwards and backwards; 3x3 convolutions, forwards.

``using`` chooses between them and the torch path in one process, the environment variable SWINLET_KERNELS
(``torch``, ``native``, ``auto``) for all; ``status`` tells which is in use and why.
"""

from swinlet.kernels.block import BlockParameters, BlockSpec, differentiable, infer, serve, train
from swinlet.kernels.convolution import convolve, serve_convolution
from swinlet.kernels.library import Status, status, using
from swinlet.kernels.packed import PackedCache

__all__ = [
    "BlockParameters",
    "BlockSpec",
    "PackedCache",
    "Status",
    "convolve",
    "differentiable",
    "infer",
    "serve",
    "serve_convolution",
    "status",
    "train",
    "using",
]
