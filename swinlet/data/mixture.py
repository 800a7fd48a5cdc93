"""Folders in which low-resolution images lie beside the high-resolution ones that they were made from.

Taken for ground truth, they would be scored, or learnt from, without anybody noticing.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np

from swinlet.errors import DataError
from swinlet.utils.image_io import image_size, read_image
from swinlet.utils.resize import bicubic_downscale

_ENDING = re.compile(r"([-_]?x[2348][mdw]?|[-_](lr|hr|gt)(bicx[2348])?)+$", re.IGNORECASE)
_HIGH_ENDING = re.compile(r"[-_](hr|gt)$", re.IGNORECASE)
_SCALES = (2, 3, 4, 8)
_TRIED = 4  # pairs whose pixels are compared
_ALIKE = 12.0  # mean difference in levels of 255 between an LR image and the shrunk HR image; other pictures: over 30


def without_high_ending(stem: str) -> str:
    """The name of an HR file, without suffix, without what calls it one."""
    return _HIGH_ENDING.sub("", stem) or stem


def _base_name(stem: str) -> str:
    """A file's name without what tells HR and LR apart."""
    return (_ENDING.sub("", stem) or stem).lower()


def refuse_mixture(files: Iterable[Path], option: str) -> None:
    """Refuse files of which at least half are HR and LR of the same pictures, by name, size and content.

    Args:
        files: of one folder; the headers of those named alike are read, and the pixels of a few.
        option: what named the folder, for the message.

    Raises:
        DataError: naming two of the files.
    """
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    count = 0
    for path in files:
        groups[_base_name(path.stem)].append(path)
        count += 1
    found: list[tuple[Path, Path, int]] = []
    mixed: set[Path] = set()
    for group in groups.values():
        for high, low, scale in _pairs_by_size(group):
            found.append((high, low, scale))
            mixed |= {high, low}
    if 2 * len(mixed) < count or not found or not all(_is_shrunk(*pair) for pair in found[:_TRIED]):
        return
    high, low, scale = found[0]
    raise DataError(
        f"{option}: it holds high- and low-resolution images of the same pictures, such as {high} and {low} "
        f"(x{scale}): name the folder that holds the high-resolution images alone"
    )


def _pairs_by_size(group: list[Path]) -> list[tuple[Path, Path, int]]:
    """HR, LR and scale of files named alike whose sizes are as those of HR and LR; unreadable ones are left out."""
    sizes: dict[Path, tuple[int, int]] = {}
    for path in group if len(group) > 1 else []:
        try:
            sizes[path] = image_size(path)
        except DataError:  # told of later, with all bad images
            continue
    pairs: list[tuple[Path, Path, int]] = []
    for one, other in combinations(sizes, 2):
        high, low = (one, other) if sizes[one] > sizes[other] else (other, one)
        large, small = sizes[high], sizes[low]
        pairs += [(high, low, scale) for scale in _SCALES if small == (large[0] // scale, large[1] // scale)]
    return pairs


def _is_shrunk(high: Path, low: Path, scale: int) -> bool:
    try:
        small, large = read_image(low, 1), read_image(high, 1)
    except DataError:
        return False
    height, width = small.shape[0] * scale, small.shape[1] * scale
    if large.shape[0] < height or large.shape[1] < width:
        return False  # turned upright differently
    shrunk = bicubic_downscale(large[:height, :width], scale)
    return float(np.abs(shrunk.astype(np.int16) - small).mean()) < _ALIKE
