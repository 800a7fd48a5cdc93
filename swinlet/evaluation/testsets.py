"""Test sets as the field keeps them: a folder HR, and LR images beside it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.prepared import is_prepared
from swinlet.errors import DataError
from swinlet.utils.image_io import list_images


@dataclass(frozen=True)
class OpenTestSet:
    """A test set, found and checked.

    Attributes:
        name: of its folder.
        folder: of its images.
        dataset: its pairs; ``dataset.skipped`` tells of the images that cannot be used.
        low_resolution: where LR comes from, for people.
        scale: of HR to LR.
        is_gray: images are read as one channel.
    """

    name: str
    folder: Path
    dataset: DatasetSR
    low_resolution: str
    scale: int
    is_gray: bool


def open_testset(folder: Path, scale: int, n_channels: Literal[1, 3], option: str = "--testset") -> OpenTestSet:
    """Find and check the images of a test set.

    Args:
        folder: holds ``HR/`` and, optionally, ``LR_bicubic/X{scale}/`` (without it, LR is made by MATLAB's bicubic);
            or, without both, the HR images themselves; or is a folder of ``swinlet prepare``.
        scale: of the models.
        n_channels: 3 for RGB, 1 for gray.
        option: what named it, for messages.

    Raises:
        DataError: there is no usable image.
    """
    option = f"{option} {folder}"
    if is_prepared(folder):
        return folders_as_testset(folder, None, scale, n_channels, option)
    high, low = folder / "HR", folder / "LR_bicubic" / f"X{scale}"
    if not high.is_dir():
        if (folder / "LR_bicubic").is_dir():
            raise DataError(f"{option}: it has LR_bicubic, but no folder HR: put the high-resolution images there")
        _refuse_folder_of_testsets(folder, option)
        high = folder
    has_low = high != folder and low.is_dir()
    try:
        for place in (high, low) if has_low else (high,):
            list_images(place)
    except DataError as error:
        raise DataError(f"{option}: {error}") from error
    if scale == 1 and not has_low:
        raise DataError(f"{option}: models of scale 1 need the degraded images in {low}")
    return folders_as_testset(high, low if has_low else None, scale, n_channels, option)


def _refuse_folder_of_testsets(folder: Path, option: str) -> None:
    """Images of several test sets, or LR images of several scales, are no test set."""
    sets = sorted(path.parent.name for path in folder.glob("*/HR") if path.is_dir())
    if sets:
        raise DataError(f"{option}: it holds test sets ({', '.join(sets[:4])}): name one of them")
    if any((folder / f"X{scale}").is_dir() for scale in (2, 3, 4, 8)):
        raise DataError(f"{option}: it looks like LR images of several scales: name the folder that holds HR")


def folders_as_testset(high: Path, low: Path | None, scale: int, n_channels: Literal[1, 3], option: str) -> OpenTestSet:
    """A test set of given folders, named after the folder of HR; ``option`` names them in messages.

    Raises:
        DataError: there is no usable image.
    """
    dataset = DatasetSR(
        high, low, scale=scale, n_channels=n_channels, phase="test", on_bad_image="collect", name=option
    )
    source = "made by MATLAB's bicubic" if dataset.root_L is None else "/".join(dataset.root_L.parts[-2:])
    folder = high.parent if high.name == "HR" else high
    name = Path(os.path.abspath(folder)).name
    return OpenTestSet(name, folder, dataset, source, scale, n_channels == 1)
