"""Native CPU kernels: a whole Swin Transformer block at a time, forwards and backwards.

``using`` chooses between them and the torch path in one process, the environment variable SWINLET_KERNELS
(``torch``, ``native``, ``auto``) for all; ``status`` tells which is in use and why.
"""

from swinlet.kernels.library import Status, status, using

__all__ = ["Status", "status", "using"]
