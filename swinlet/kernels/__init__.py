"""Native CPU kernels: a whole Swin Transformer block at a time, forwards and backwards.

``using`` chooses between them and the torch path in one process, the environment variable SWINLET_KERNELS
(``torch``, ``native``, ``auto``) for all; ``status`` tells which is in use and why.
"""

from swinlet.kernels.block import BlockParameters, BlockSpec, PackedCache, differentiable, infer, serve, train
from swinlet.kernels.library import Status, status, using

__all__ = [
    "BlockParameters",
    "BlockSpec",
    "PackedCache",
    "Status",
    "differentiable",
    "infer",
    "serve",
    "status",
    "train",
    "using",
]
