"""Pairs of low- and high-resolution images: checked once, then sampled as a pure function of the position."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from swinlet.data.augment import MODES, augment
from swinlet.data.open_prepared import open_prepared
from swinlet.data.pairs import Pair, Size, find_pairs, mismatch, report_problems, too_small
from swinlet.data.prepare_image import fingerprint
from swinlet.data.prepared import SourceFile, is_prepared, map_array
from swinlet.data.taught import Feature, Teacher, is_taught, with_answers
from swinlet.errors import DataError
from swinlet.utils.image_io import counted, is_gray, left_out, read_image, to_tensor
from swinlet.utils.random_bits import ORDER, PATCH, random_bits
from swinlet.utils.resize import bicubic_downscale, bicubic_downscale_crop

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

CACHE_BYTES = 512 * 2**20
"""How many bytes of decoded image files one process keeps at most; every loader worker is a process of its own."""

_CHECKED_SILENTLY = 100  # pairs; reading more takes long enough to make people wonder
LOGGER = logging.getLogger("swinlet")


class _Layer(NamedTuple):
    """One of the aligned arrays that a sample is cut from.

    Attributes:
        key: of its patches in a batch.
        factor: its pixels for each LR pixel of a side.
        channels, dtype: of its values.
    """

    key: str
    factor: int
    channels: int
    dtype: type[np.uint8 | np.float16]


class DatasetSR(Dataset[dict[str, Any]]):
    """Images for super-resolution: aligned random patches for training, whole images for testing.

    All images are found, paired by name and decoded once by the constructor, so that a training run cannot
    fail on its images later. With ``dataroot_L`` and scale 4, the H file ``baby.png`` belongs to the L file
    ``baby.*`` or ``babyx4.*`` in the same subfolder. A folder of ``swinlet prepare`` gives the same samples, and
    nothing is decoded.

    In training, ``dataset[position]`` takes every position from 0 on, without an upper bound: the sample is a
    pure function of (seed, position), whatever the process, the number of workers, the order of access, or
    the state of any global generator. Sample ``slot`` of step ``step`` (from 1) is at position
    ``(step - 1) * batch_size + slot``. Each run of ``len(dataset)`` positions is an epoch: every image once.

    Attributes:
        names: one per pair: the path of the L file (of the H file where there is no L folder) relative to its
            folder, with forward slashes and without suffix: ``babyx4``, ``animals/dogx4``. All differ: without
            an L folder ``dog.png`` and ``dog.jpg`` may be side by side, and keep their suffixes.
        skipped: unless bad images are errors, the reasons for leaving images out, one per problem.
        root_H, root_L: the folders that the paths of the image files begin with.
        teacher: who gave the answers ``T``, where there are some.
        features: the teacher's features ``F0``, ``F1``, ... that come with them.
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
        prepared: Path | None = None,
        dataroot_T: Path | None = None,
        features: Sequence[str] | None = (),
        filename_tmpl: str | None = None,
    ) -> None:
        """Find, pair and check all images.

        Args:
            dataroot_H: folder of the high-resolution images, searched with its subfolders; or a prepared folder,
                which knows its low-resolution images.
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
            prepared: a prepared folder with just these images.
            dataroot_T: a folder of ``swinlet teach`` with a teacher's answers to these images.
            features: names of the features that are read from there as well; None: all that are stored.
            filename_tmpl: name of the L file without suffix, in which "{}" is that of the H file; None: the usual
                names (``swinlet.data.pairs``).

        Raises:
            DataError: listing every image that is unpaired, ambiguous, unreadable, too small or of the wrong
                size, with its reason; also when a folder is missing, no image is left, ``H_size`` is not a
                multiple of ``scale``, or a prepared folder or the teacher's answers do not fit.
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
        self.root_H, self.root_L = dataroot_H, dataroot_L
        smallest = H_size if phase == "train" else _smallest_test(scale)
        self._read: Callable[[Path], Array]
        if is_taught(dataroot_H):
            raise DataError(f"{name}.dataroot_H: {dataroot_H} holds a teacher's answers: name it as dataroot_T")
        if prepared is None and not is_prepared(dataroot_H):
            pairs, problems = _decode_all(dataroot_H, dataroot_L, scale, n_channels, name, filename_tmpl)
            outdated: list[str] = []
            self._read = _ImageCache(n_channels, CACHE_BYTES).read
        else:
            pairs, outdated, self.root_H, self.root_L = open_prepared(
                dataroot_H, dataroot_L, prepared, scale=scale, n_channels=n_channels, option=name
            )
            problems = []
            self._read = map_array
        problems += [problem for pair in pairs if (problem := too_small(pair, smallest))]
        self._pairs = [pair for pair in pairs if not too_small(pair, smallest)]
        self.teacher: Teacher | None = None
        self.features: list[Feature] = []
        self._layers = [_Layer("L", 1, n_channels, np.uint8), _Layer("H", scale, n_channels, np.uint8)]
        if dataroot_T is not None:
            self._add_answers(dataroot_T, (dataroot_H, dataroot_L), features, name)
        self.names = [pair.name for pair in self._pairs]
        self.skipped = outdated + problems
        report_problems(problems, len(self._pairs), on_bad_image, name)
        for folder in (dataroot_H, dataroot_L):
            if folder is not None and not is_prepared(folder) and (others := left_out(folder)):
                LOGGER.warning("%s: %s holds images that are not read: %s", name, folder, counted(others))
        self._last_order: tuple[int, npt.NDArray[np.intp]] | None = None

    def _add_answers(
        self, folder: Path, named: tuple[Path, Path | None], features: Sequence[str] | None, name: str
    ) -> None:
        """Make a teacher's answers and features layers of the samples; ``named`` are the folders that the user gave."""
        self._pairs, self.teacher, self.features = with_answers(
            self._pairs,
            (self.root_H, self.root_L),
            folder,
            named,
            scale=self._scale,
            n_channels=self._n_channels,
            features=features,
            option=name,
        )
        self._layers.append(_Layer("T", self._scale, self._n_channels, np.uint8))
        self._layers += [_Layer(f"F{i}", 1, each.width, np.float16) for i, each in enumerate(self.features)]

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
            return {key: values[0] for key, values in self.batch([int(index)]).items()}
        pair = self._pairs[index]
        whole = self._read_H(pair)
        low = self._read_L(pair)
        L = bicubic_downscale(whole, self._scale) if low is None else low
        H = whole[: L.shape[0] * self._scale, : L.shape[1] * self._scale]
        return {"L": to_tensor(L), "H": to_tensor(H), **_paths(pair), "name": pair.name}

    def is_gray(self, index: int) -> bool:
        """Whether the H file of the pair ``index`` is gray.

        Raises:
            DataError: it was removed since the dataset was made.
        """
        pair = self._pairs[index]
        return is_gray(pair.H_path) if pair.gray is None else pair.gray

    def L_size(self, index: int) -> Size:
        """Height and width of the low-resolution image of the pair ``index``."""
        height, width = self._pairs[index].H_size
        return height // self._scale, width // self._scale

    def sources(self, index: int) -> tuple[SourceFile, SourceFile | None]:
        """What tells whether the H file of the pair ``index``, and its L file if there is one, are still the same.

        Raises:
            DataError: one was removed since the dataset was made.
        """
        pair = self._pairs[index]
        if pair.sources is not None:
            return pair.sources
        high = fingerprint(pair.H_path, pair.H_path.relative_to(self.root_H).as_posix())
        if pair.L_path is None or self.root_L is None:
            return high, None
        return high, fingerprint(pair.L_path, pair.L_path.relative_to(self.root_L).as_posix())

    def batch(self, positions: Sequence[int]) -> dict[str, Any]:
        """Training samples, one after the other in common tensors, into which pixels are copied once.

        Returns:
            "L": uint8 tensor (N, C, h, w); "H" and, with ``dataroot_T``, "T": uint8 tensors (N, C, H_size, H_size);
            "F0", "F1", ...: the teacher's features, float16 tensors (N, width, h, w), channels last in memory;
            "L_path", "H_path": lists.

        Raises:
            DataError: a file was changed or removed since the dataset was made.
        """
        patches = [self._empty(layer, len(positions)) for layer in self._layers]
        pairs = [self._cut(position, [images[i] for images in patches]) for i, position in enumerate(positions)]
        paths = [_paths(pair) for pair in pairs]
        return {
            **{layer.key: torch.from_numpy(images) for layer, images in zip(self._layers, patches, strict=True)},
            **{key: [path[key] for path in paths] for key in ("L_path", "H_path")},
        }

    def _empty(self, layer: _Layer, count: int) -> Array:
        """Room for patches, (count, channels, side, side); tokens lie one after the other, as networks have them."""
        side, channels = self._H_size // self._scale * layer.factor, layer.channels
        if layer.dtype == np.uint8:
            return np.empty((count, channels, side, side), layer.dtype)
        return np.empty((count, side, side, channels), layer.dtype).transpose(0, 3, 1, 2)

    def _cut(self, position: int, patches: Sequence[Array]) -> Pair:
        """Write one sample's patches, one of each layer, (channels, side, side)."""
        pair = self._pair_at(position)
        scale, size = self._scale, self._H_size // self._scale
        # Multiplying and shifting 64 random bits is as good as unbiased, and, unlike the methods of
        # numpy's Generator, guaranteed to give the same numbers in every version of numpy.
        word = [int(bits) for bits in random_bits(self._seed, PATCH, position, 3)]
        top = word[0] * (pair.H_size[0] // scale - size + 1) >> 64
        left = word[1] * (pair.H_size[1] // scale - size + 1) >> 64
        mode = word[2] * MODES >> 64
        whole = self._read_H(pair)
        low = self._read_L(pair)
        L = (
            bicubic_downscale_crop(whole, scale, top, left, size, size)
            if low is None
            else low[top : top + size, left : left + size]
        )
        cut = [L, _part(whole, top, left, size, scale)]
        for layer, path in zip(self._layers[2:], pair.T_arrays, strict=True):
            height, width = (side // scale * layer.factor for side in pair.H_size)
            stored = _checked(map_array(path, layer.dtype), path, (height, width, layer.channels))
            cut.append(_part(stored, top, left, size, layer.factor))
        for part, out in zip(cut, patches, strict=True):
            # Turned out of the cache: reading the image itself in columns would take longer than a copy in rows.
            out[...] = augment(np.ascontiguousarray(part), mode).transpose(2, 0, 1)
        return pair

    def _pair_at(self, position: int) -> Pair:
        epoch, index = divmod(position, len(self._pairs))
        return self._pairs[self._order(epoch)[index] if self._shuffle else index]

    def H_path(self, position: int) -> Path:
        """The high-resolution image that the training sample at a position is cut from; nothing is read."""
        return self._pair_at(position).H_path

    def _read_H(self, pair: Pair) -> Array:
        return self._read_sized(pair.H_array or pair.H_path, pair.H_size)

    def _read_L(self, pair: Pair) -> Array | None:
        """None where L is made from H; at scale 1 it is H."""
        path = pair.L_array or pair.L_path
        if path is None and self._scale == 1:
            return self._read_H(pair)
        size = (pair.H_size[0] // self._scale, pair.H_size[1] // self._scale)
        return None if path is None else self._read_sized(path, size)

    def _read_sized(self, path: Path, size: Size) -> Array:
        return _checked(self._read(path), path, (*size, self._n_channels))

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        if self._last_order is None or self._last_order[0] != epoch:
            bits = random_bits(self._seed, ORDER, epoch, len(self._pairs))
            self._last_order = epoch, np.argsort(bits, kind="stable")
        return self._last_order[1]


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


def _part(image: Array, top: int, left: int, size: int, factor: int) -> Array:
    """A square of (H, W, C), given in LR pixels, where the image has ``factor`` pixels for each."""
    return image[top * factor : (top + size) * factor, left * factor : (left + size) * factor]


def _checked(image: Array, path: Path, shape: tuple[int, int, int]) -> Array:
    if image.shape != shape:
        now, before = "x".join(map(str, image.shape)), "x".join(map(str, shape))
        raise DataError(f"{path}: changed since the data set was checked: {now} values, not {before}")
    return image


def _paths(pair: Pair) -> dict[str, str]:
    return {"L_path": str(pair.L_path or pair.H_path), "H_path": str(pair.H_path)}


def _smallest_test(scale: int) -> int:
    """The smallest side of a test image. Scores leave out ``scale`` pixels at each side, none at scale 1."""
    return 3 * scale if scale > 1 else 1  # one pixel more than 2 * scale, as a multiple of the scale


def _decode_all(
    dataroot_H: Path,
    dataroot_L: Path | None,
    scale: int,
    n_channels: Literal[1, 3],
    option: str,
    template: str | None,
) -> tuple[list[Pair], list[str]]:
    """Decode every file once, a few at a time, keeping only the sizes; bad pairs become problems."""
    if dataroot_L is not None and is_prepared(dataroot_L):
        raise DataError(f"{option}.dataroot_L: {dataroot_L} is a prepared folder: name it as dataroot_H, for both")
    pairs, problems = find_pairs(dataroot_H, dataroot_L, scale, option, template)
    if len(pairs) > _CHECKED_SILENTLY:
        LOGGER.info("%s: reading %d images to check them", option, len(pairs))

    def inspect(pair: Pair) -> tuple[Pair, list[str]]:
        return _inspect(pair, scale, n_channels)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        inspected = list(pool.map(inspect, pairs))
    problems += [problem for _, found in inspected for problem in found]
    return [pair for pair, found in inspected if not found], problems


def _inspect(pair: Pair, scale: int, n_channels: Literal[1, 3]) -> tuple[Pair, list[str]]:
    """The pair with its size, and what is wrong with its files."""
    sizes: list[Size] = []
    problems: list[str] = []
    for path in (pair.H_path, pair.L_path):
        if path is not None:
            try:
                sizes.append(read_image(path, n_channels).shape[:2])
            except DataError as error:
                problems.append(str(error))
    if problems:
        return pair, problems
    wrong = None if pair.L_path is None else mismatch(pair, sizes[0], sizes[-1], scale)
    return pair._replace(H_size=sizes[0]), [] if wrong is None else [wrong]
