"""Random numbers that are a pure function of a seed and a position, whatever was drawn before or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

ORDER, PATCH, LESSON = 0, 1, 2
"""Independent streams: order of the images, their patches, and what distillation draws for each patch."""


def random_bits(seed: int, stream: int, position: int, count: int) -> npt.NDArray[np.uint64]:
    """``count`` times 64 random bits that depend on nothing but the arguments (Philox, counter-based)."""
    generator = np.random.Philox(key=(seed % 2**64) | stream << 64, counter=position << 64)
    return generator.random_raw(count)


def uniform(seed: int, stream: int, position: int, count: int) -> npt.NDArray[np.float32]:
    """``count`` numbers in [0, 1), of 24 bits each: exact in float32, too."""
    return (random_bits(seed, stream, position, count) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
