"""Contestants are timed only after their picture was seen to be right."""

from torch import Tensor

TOLERANCE = {"fp32": 1e-4, "bf16": 0.05}
"""Largest difference to the torch path's picture in fp32."""


def require_same(picture: Tensor, expected: Tensor, precision: str) -> None:
    """Compare two pictures.

    Raises:
        RuntimeError: they differ by more than the precision explains.
    """
    difference = (picture.float().cpu() - expected.float().cpu()).abs().max().item()
    if not difference <= TOLERANCE[precision]:
        raise RuntimeError(f"its picture differs from the torch path's by {difference:.2g}")
