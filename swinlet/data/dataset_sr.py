"""Pairs of low- and high-resolution images: checked once, then sampled as a pure function of the position."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from swinlet.data.augment import MODES, augment
from swinlet.errors import DataError
from swinlet.utils.image_io import list_images, read_image, to_tensor
from swinlet.utils.resize import bicubic_downscale, bicubic_downscale_crop

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[np.uint8]

CACHE_BYTES = 512 * 2**20
"""How many bytes of decoded images one process keeps at most; every loader worker is a process of its own."""

_LISTED_IN_ERROR, _LISTED_IN_WARNING = 20, 5  # problems
_CHECKED_SILENTLY = 100  # pairs; reading more takes long enough to make people wonder
_ORDER, _PATCH = 0, 1  # independent streams of random numbers
LOGGER = logging.getLogger("swinlet")


class DatasetSR(Dataset[dict[str, Any]]):
    """Images for super-resolution: aligned random patches for training, whole images for testing.

    All images are found, paired by name and decoded once by the constructor, so that a training run cannot
    fail on its images later. With ``dataroot_L`` and scale 4, the H file ``baby.png`` belongs to the L file
    ``baby.*`` or ``babyx4.*`` in the same subfolder.

    In training, ``dataset[position]`` takes every position from 0 on, without an upper bound: the sample is a
    pure function of (seed, position), whatever the process, the number of workers, the order of access, or
    the state of any global generator. Sample ``slot`` of step ``step`` (from 1) is at position
    ``(step - 1) * batch_size + slot``. Each run of ``len(dataset)`` positions is an epoch: every image once.

    Attributes:
        names: one per pair: the path of the L file (of the H file where there is no L folder) relative to its
            folder, with forward slashes and without suffix: ``babyx4``, ``animals/dogx4``. All differ: without
            an L folder ``dog.png`` and ``dog.jpg`` may be side by side, and keep their suffixes.
        skipped: unless bad images are errors, the reasons for leaving images out, one per problem.
    """

    def __init__(
        self,
        dataroot_H: Path,
        dataroot_L: Path | None = None,
        *,
        scale: int,
        n_channels: Literal[1, 3] = 3,
        phase: Literal["train", "test"],
        H_size: int = 96,
        seed: int = 0,
        shuffle: bool = True,
        on_bad_image: Literal["error", "skip", "collect"] = "error",
        name: str = "datasets.train",
    ) -> None:
        """Find, pair and check all images.

        Args:
            dataroot_H: folder of the high-resolution images, searched with its subfolders.
            dataroot_L: folder of their low-resolution images; None: made by :func:`bicubic_downscale`.
            scale: H has this many times the pixels of L on each side; L has floor(H / scale).
            n_channels: 3 for RGB, 1 for gray.
            phase: "train" for random patches, "test" for whole images, which have to be large enough for scores
                that leave out ``scale`` pixels at each side (none at scale 1).
            H_size: side of the H patches in training, a multiple of ``scale``; no image may be smaller.
            seed: decides about order, crops and augmentation.
            shuffle: visit the images of each epoch in random order, else in the order of their paths.
            on_bad_image: "error" refuses the dataset; "skip" leaves bad images out and logs one warning; "collect"
                leaves them out without a word, for a caller who tells of ``skipped``.
            name: section of the option file that the arguments come from, for messages.

        Raises:
            DataError: listing every image that is unpaired, ambiguous, unreadable, too small or of the wrong
                size, with its reason; also when a folder is missing, no image is left, or ``H_size`` is not a
                multiple of ``scale``.
        """
        if phase == "train" and (H_size < scale or H_size % scale):
            use = f"use for example {max(1, round(H_size / scale)) * scale}"
            raise DataError(f"{name}.H_size is {H_size}, not a multiple of the scale {scale}: {use}")
        self._scale = scale
        self._n_channels: Literal[1, 3] = n_channels
        self._phase = phase
        self._H_size = H_size
        self._seed = seed
        self._shuffle = shuffle
        pairs, problems = _find_pairs(dataroot_H, dataroot_L, scale, name)
        if len(pairs) > _CHECKED_SILENTLY:
            LOGGER.info("%s: reading %d images to check them", name, len(pairs))
        self._pairs, bad = _check(pairs, scale, n_channels, H_size if phase == "train" else _smallest_test(scale))
        self.names = [pair.name for pair in self._pairs]
        self.skipped = _report(problems + bad, len(self._pairs), on_bad_image, name)
        self._images = _ImageCache(n_channels, CACHE_BYTES)
        self._last_order: tuple[int, npt.NDArray[np.intp]] | None = None

    def __len__(self) -> int:
        """Number of image pairs: of an epoch's samples in training, of all samples in testing."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: of the position ``index`` in training, of the pair ``index`` in testing.

        Returns:
            "L": uint8 tensor (C, h, w); "H": uint8 tensor (C, h * scale, w * scale); both contiguous.
            "L_path" and "H_path": str, the same where L is computed. In testing also "name": the entry of
            ``names``, and H is cropped at the bottom and right to the size of L times ``scale``.

        Raises:
            IndexError: ``index`` is negative, or, in testing, not below ``len(dataset)``.
            DataError: a file was changed or removed since the dataset was made.
        """
        if index < 0 or (self._phase == "test" and index >= len(self._pairs)):
            raise IndexError(f"no sample {index} in a dataset of {len(self._pairs)} images")
        if self._phase == "train":
            return self._patches(int(index))
        pair = self._pairs[index]
        whole = self._images.read(pair.H_path)
        L = bicubic_downscale(whole, self._scale) if pair.L_path is None else self._images.read(pair.L_path)
        H = whole[: L.shape[0] * self._scale, : L.shape[1] * self._scale]
        return {**_sample(pair, L, H), "name": pair.name}

    def _patches(self, position: int) -> dict[str, Any]:
        epoch, index = divmod(position, len(self._pairs))
        pair = self._pairs[self._order(epoch)[index] if self._shuffle else index]
        scale, size = self._scale, self._H_size // self._scale
        # Multiplying and shifting 64 random bits is as good as unbiased, and, unlike the methods of
        # numpy's Generator, guaranteed to give the same numbers in every version of numpy.
        word = [int(bits) for bits in _random_bits(self._seed, _PATCH, position, 3)]
        top = word[0] * (pair.L_size[0] - size + 1) >> 64
        left = word[1] * (pair.L_size[1] - size + 1) >> 64
        mode = word[2] * MODES >> 64
        whole = self._images.read(pair.H_path)
        L = (
            bicubic_downscale_crop(whole, scale, top, left, size, size)
            if pair.L_path is None
            else self._images.read(pair.L_path)[top : top + size, left : left + size]
        )
        H = whole[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
        return _sample(pair, augment(L, mode), augment(H, mode))

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        if self._last_order is None or self._last_order[0] != epoch:
            bits = _random_bits(self._seed, _ORDER, epoch, len(self._pairs))
            self._last_order = epoch, np.argsort(bits, kind="stable")
        return self._last_order[1]


class _Pair(NamedTuple):
    name: str
    H_path: Path
    L_path: Path | None  # None: L is computed from H
    L_size: tuple[int, int] = (0, 0)  # height, width; known once checked


class _ImageCache:
    """Decoded images, least recently used first out. Pickled (sent to a loader worker), it starts empty."""

    def __init__(self, n_channels: Literal[1, 3], limit: int) -> None:
        self._n_channels: Literal[1, 3] = n_channels
        self._limit = limit
        self._bytes = 0
        self._images: OrderedDict[Path, Array] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return _ImageCache, (self._n_channels, self._limit)

    def read(self, path: Path) -> Array:
        """uint8, (H, W, C), not writable."""
        if path in self._images:
            self._images.move_to_end(path)
            return self._images[path]
        image = read_image(path, self._n_channels)
        image.flags.writeable = False
        self._images[path] = image
        self._bytes += image.nbytes
        while self._bytes > self._limit:
            self._bytes -= self._images.popitem(last=False)[1].nbytes
        return image


def _sample(pair: _Pair, L: Array, H: Array) -> dict[str, Any]:
    L_path = pair.L_path or pair.H_path
    return {"L": to_tensor(L), "H": to_tensor(H), "L_path": str(L_path), "H_path": str(pair.H_path)}


def _random_bits(seed: int, stream: int, position: int, count: int) -> npt.NDArray[np.uint64]:
    """``count`` times 64 random bits that depend on nothing but the arguments (Philox, counter-based)."""
    generator = np.random.Philox(key=(seed % 2**64) | stream << 64, counter=position << 64)
    return generator.random_raw(count)


def _smallest_test(scale: int) -> int:
    """The smallest side of a test image. Scores leave out ``scale`` pixels at each side, none at scale 1."""
    return 3 * scale if scale > 1 else 1  # one pixel more than 2 * scale, as a multiple of the scale


def _find_pairs(dataroot_H: Path, dataroot_L: Path | None, scale: int, option: str) -> tuple[list[_Pair], list[str]]:
    high = _list_by_name(dataroot_H, f"{option}.dataroot_H")
    if dataroot_L is None:
        return _alone(high), []
    return _pair_by_name(high, _list_by_name(dataroot_L, f"{option}.dataroot_L"), scale)


def _list_by_name(root: Path, option: str) -> dict[str, list[Path]]:
    """All images below ``root``, by their relative path without suffix and with forward slashes."""
    files: defaultdict[str, list[Path]] = defaultdict(list)
    try:
        for path in list_images(root):
            files[path.relative_to(root).with_suffix("").as_posix()].append(path)
    except DataError as error:
        raise DataError(f"{option}: {error}") from error
    return dict(files)


def _alone(high: dict[str, list[Path]]) -> list[_Pair]:
    """Every H file without a partner, under its name; with suffix where the name without it would not be unique."""
    files = [(name, name + path.suffix, path) for name, paths in high.items() for path in paths]
    with_suffix = {full for _, full, _ in files}
    return [
        _Pair(full if len(high[name]) > 1 or name in with_suffix else name, path, None) for name, full, path in files
    ]


def _pair_by_name(high: dict[str, list[Path]], low: dict[str, list[Path]], scale: int) -> tuple[list[_Pair], list[str]]:
    """Pair what has exactly one partner; the problems say what has none or several."""
    pairs: list[_Pair] = []
    problems: list[str] = []
    claims: defaultdict[str, list[Path]] = defaultdict(list)
    for name, H_paths in high.items():
        for wanted in (name, f"{name}x{scale}"):
            claims[wanted] += H_paths
    for name, H_paths in high.items():
        found = [wanted for wanted in (name, f"{name}x{scale}") if wanted in low]
        L_paths = [path for wanted in found for path in low[wanted]]
        rivals = {path for wanted in found for path in claims[wanted]}.union(H_paths)
        if not found:
            reason = f"no low-resolution image named {name}.* or {name}x{scale}.*"
            problems += [f"{path}: {reason}" for path in H_paths]
        elif len(rivals) > 1 or len(L_paths) > 1:
            others = ", ".join(str(path) for path in [*sorted(rivals - {H_paths[0]}), *L_paths])
            problems.append(f"{H_paths[0]}: ambiguous, by its name it goes with {others}")
        else:
            pairs.append(_Pair(found[0], H_paths[0], L_paths[0]))
    for name, L_paths in low.items():
        if name not in claims:
            problems += [f"{path}: no high-resolution image for it" for path in L_paths]
    return pairs, problems


def _check(pairs: list[_Pair], scale: int, n_channels: Literal[1, 3], smallest: int) -> tuple[list[_Pair], list[str]]:
    """Decode every file once, a few at a time, keeping only the sizes; bad pairs become problems."""

    def inspect(pair: _Pair) -> tuple[_Pair, list[str]]:
        return _inspect(pair, scale, n_channels, smallest)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        inspected = list(pool.map(inspect, pairs))
    good = [pair for pair, problems in inspected if not problems]
    return good, [problem for _, problems in inspected for problem in problems]


def _inspect(pair: _Pair, scale: int, n_channels: Literal[1, 3], smallest: int) -> tuple[_Pair, list[str]]:
    """The pair with its sizes, and what is wrong with it; ``smallest``, a multiple of the scale, is for H's sides."""
    sizes: list[tuple[int, int]] = []
    problems: list[str] = []
    for path in (pair.H_path, pair.L_path):
        if path is not None:
            try:
                height, width = read_image(path, n_channels).shape[:2]
                sizes.append((height, width))
            except DataError as error:
                problems.append(str(error))
    if problems:
        return pair, problems
    height, width = sizes[0]
    L_size = (height // scale, width // scale)
    if sizes[-1] != L_size and pair.L_path is not None:
        needed = f"{_show(L_size)}, as {pair.H_path} has {_show(sizes[0])}"
        problems.append(f"{pair.L_path}: {_show(sizes[1])} pixels, but scale {scale} needs {needed}")
    elif min(height, width) < smallest:
        problems.append(f"{pair.H_path}: too small: {_show(sizes[0])} pixels, but each side needs {smallest}")
    return pair._replace(L_size=L_size), problems


def _show(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _report(problems: list[str], n_left: int, on_bad_image: str, option: str) -> list[str]:
    """Raise if there are problems or no image is left, or log them as one warning; return the skipped."""
    limit = _LISTED_IN_ERROR if on_bad_image == "error" or not n_left else _LISTED_IN_WARNING
    lines = [f"  - {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  and {len(problems) - limit} more")
    listing = "\n".join(lines)
    if problems and on_bad_image == "error":
        advice = f'Repair or remove these files, or leave them out with {option}.on_bad_image = "skip"'
        raise DataError(f"{option}: problems with its images ({len(problems)}):\n{listing}\n{advice}.")
    if not n_left:
        raise DataError(f"{option}: no usable image is left:\n{listing}")
    if problems and on_bad_image == "skip":
        LOGGER.warning("%s: bad images left out (%d):\n%s", option, len(problems), listing)
    return problems
