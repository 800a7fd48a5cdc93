"""Pairs of low- and high-resolution images: checked before training, sampled as a pure function of the position."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch.utils.data import Dataset

from swinlet.data.augment import MODES, augment
from swinlet.errors import DataError
from swinlet.utils.image_io import list_images, read_image, to_tensor
from swinlet.utils.resize import bicubic_downscale, bicubic_downscale_crop

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.uint8]
    Key = tuple[str, str]  # subfolder with forward slashes, file name without suffix

CACHE_BYTES = 512 * 2**20
"""Upper bound of the decoded images that one process keeps; every loader worker is a process of its own."""

_LISTED_PROBLEMS = 20
_logger = logging.getLogger("swinlet")


@dataclass(frozen=True)
class _Pair:
    """One image of the dataset; without L_path the low-resolution image is computed from the high one."""

    name: str
    H_path: Path
    L_path: Path | None
    L_size: tuple[int, int] = (0, 0)  # height, width


class DatasetSR(Dataset[dict[str, Any]]):
    """Images for super-resolution: aligned random patches for training, whole images for testing.

    All images are found, paired by name and decoded once by the constructor, so that a training run cannot fail
    on its images later. With ``dataroot_L``, the file of H ``baby.png`` is L ``baby.*`` or ``babyx4.*`` (at scale
    4) in the same subfolder.

    In the training phase ``dataset[position]`` takes every ``position`` from 0 on, without an upper bound: the
    sample is a pure function of (seed, position), whatever the process, the number of workers, the order of
    access, or the state of any global generator. Sample ``slot`` of step ``step`` (from 1) is at
    ``position = (step - 1) * batch_size + slot``; every run of ``len(dataset)`` positions is one epoch and takes
    each image once.

    Attributes:
        names: per pair, the path of the L file (without an L folder: of the H file) relative to its folder,
            without suffix, with forward slashes; ``babyx4`` for ``LR/babyx4.png``.
        skipped: with ``on_bad_image="skip"``, one reason per image that was left out.
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
        on_bad_image: Literal["error", "skip"] = "error",
        name: str = "train",
    ) -> None:
        """Pair and check all images.

        Args:
            dataroot_H: folder of the high-resolution images, searched with its subfolders.
            dataroot_L: folder of their low-resolution images; None: MATLAB bicubic, as in the test sets.
            scale: how many times higher and wider H is than L; L has floor(H / scale) pixels per side.
            n_channels: 3 for RGB, 1 for gray.
            phase: "train" for random patches, "test" for whole images.
            H_size: side of the training patches of H, a multiple of ``scale``; no image may be smaller.
            seed: decides about order, crops and augmentation.
            shuffle: visit the images of each epoch in a random order, else in the order of their paths.
            on_bad_image: "error" refuses the dataset, "skip" leaves bad images out with one warning.
            name: of the dataset in the option file, for messages.

        Raises:
            DataError: listing every image that is unpaired, ambiguous, unreadable, too small or of the wrong
                size, with its reason; also when a folder is missing, no image is left, or ``H_size`` is not a
                multiple of ``scale``.
        """
        self._scale = scale
        self._n_channels: Literal[1, 3] = n_channels
        self._phase = phase
        self._H_size = H_size
        self._seed = seed % 2**64
        self._shuffle = shuffle
        self._name = name
        if phase == "train" and (H_size < scale or H_size % scale):
            nearest = max(1, round(H_size / scale)) * scale
            raise DataError(
                f"datasets.{name}.H_size is {H_size}, which is not a multiple of the scale {scale}: use {nearest}"
            )
        pairs, problems = _pair_by_name(self._list("H", dataroot_H), self._list("L", dataroot_L), scale)
        self._pairs, bad = self._check(pairs)
        self.skipped = self._report(problems + bad, on_bad_image)
        self.names = [pair.name for pair in self._pairs]
        self._images = _ImageCache(n_channels, CACHE_BYTES)
        self._epoch_order: tuple[int, npt.NDArray[np.intp]] | None = None
