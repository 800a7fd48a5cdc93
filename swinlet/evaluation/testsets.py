"""Test sets as the field keeps them: a folder HR, and LR images beside it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.prepared import is_prepared
from swinlet.errors import DataError
from swinlet.utils.image_io import list_images

HIGH_FOLDERS = ("HR", "GTmod12", "GT", "original")
"""Where test sets keep HR images, the best first: SwinIR, the archives of BasicSR, KAIR."""

LOW_FOLDERS = (
    *("LR_bicubic/X{}", "LR_bicubic/x{}", "LRbicx{}", "LR/X{}", "LR/x{}", "LRx{}", "LR_x{}"),
    *("LR_bicubic", "LR"),  # of one scale
)
"""Where they keep LR images; {} is the scale."""


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
        folder: holds a folder of ``HIGH_FOLDERS`` and, optionally, one of ``LOW_FOLDERS`` (without it, LR is made by
            MATLAB's bicubic); or, without both, the HR images themselves; or is a folder of ``swinlet prepare``.
        scale: of the models.
        n_channels: 3 for RGB, 1 for gray.
        option: what named it, for messages.

    Raises:
        DataError: there is no usable image.
    """
    option = f"{option} {folder}"
    if is_prepared(folder):
        return folders_as_testset(folder, None, scale, n_channels, option)
    high = next((folder / name for name in HIGH_FOLDERS if (folder / name).is_dir()), None)
    low = _low_folder(folder, scale, option)
    if high is None:
        lone = next((name for name in ("LR_bicubic", "LR") if (folder / name).is_dir()), low and low.name)
        if lone is not None:
            raise DataError(f"{option}: it has {lone}, but no folder HR: put the high-resolution images there")
        _refuse_folder_of_testsets(folder, option)
        high = folder
    try:
        for place in (high,) if low is None else (high, low):
            list_images(place)
    except DataError as error:
        raise DataError(f"{option}: {error}") from error
    if scale == 1 and low is None:
        raise DataError(f"{option}: models of scale 1 need the degraded images in {folder / 'LR_bicubic' / 'X1'}")
    return folders_as_testset(high, low, scale, n_channels, option)


def _low_folder(folder: Path, scale: int, option: str) -> Path | None:
    """The folder with LR images of a scale.

    Raises:
        DataError: there are several.
    """
    found: dict[str, Path] = {}
    for name in LOW_FOLDERS:
        path = folder / name.format(scale)
        is_of_all = name.format(scale) == name and not any(file.is_file() for file in path.glob("*.*"))
        if path.is_dir() and not is_of_all:
            found.setdefault(os.path.realpath(path).lower(), path)  # the same under two spellings on some systems
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found.values())
        raise DataError(f"{option}: several folders hold its LR images ({names}): remove or rename all but one")
    return next(iter(found.values()), None)


def _refuse_folder_of_testsets(folder: Path, option: str) -> None:
    """Images of several test sets, or LR images of several scales, are no test set."""
    sets = sorted({path.parent.name for name in HIGH_FOLDERS for path in folder.glob(f"*/{name}") if path.is_dir()})
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
    folder = high.parent if high.name in HIGH_FOLDERS else high
    name = Path(os.path.abspath(folder)).name
    return OpenTestSet(name, folder, dataset, source, scale, n_channels == 1)
