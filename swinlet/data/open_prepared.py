"""A prepared folder as a data set sees it: pairs that need no decoding, checked against the run and the image files."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from swinlet.data.pairs import Pair, shown_list
from swinlet.data.prepared import (
    ARRAYS,
    Image,
    Index,
    SourceFile,
    array_files,
    damaged_arrays,
    is_unchanged,
    read_index,
)
from swinlet.errors import DataError
from swinlet.utils.image_io import list_images

LOGGER = logging.getLogger("swinlet")


class OpenPrepared(NamedTuple):
    """What a data set needs of a prepared folder: see ``open_prepared``."""

    pairs: list[Pair]
    left_out: list[str]
    root_H: Path
    root_L: Path | None


def open_prepared(
    dataroot_H: Path, dataroot_L: Path | None, cached: Path | None, *, scale: int, n_channels: int, option: str
) -> OpenPrepared:
    """The pairs of a prepared folder, checked without reading an image.

    Args:
        dataroot_H: the prepared folder; or, with ``cached``, the folder of image files.
        dataroot_L: the folder of L files, if the caller names any.
        cached: a prepared folder of just these files. Otherwise those that the index names are compared with it, where
            they are still there.
        scale, n_channels, option: as of ``DatasetSR``.

    Raises:
        DataError: it was prepared for another scale or other channels, files are missing or too short, or an image
            file was changed since.
    """
    folder = cached or dataroot_H
    index = read_index(folder)
    root_H, root_L = Path(index.source_H), None if index.source_L is None else Path(index.source_L)
    where = f"{option}.dataroot_H: {folder} was prepared"
    if index.n_channels != n_channels:
        raise DataError(
            f"{where} with {index.n_channels} channel(s), but n_channels is {n_channels}: prepare the images into "
            f"another folder with --n-channels {n_channels}"
        )
    if index.source_L is not None and index.scale != scale:
        raise DataError(
            f"{where} with low-resolution files of scale {index.scale}, but the scale is {scale}: prepare the images "
            f"into another folder with --scale {scale}"
        )
    if scale not in (1, index.scale):
        made = "without low-resolution images" if index.scale is None else f"for scale {index.scale}"
        LOGGER.info("%s %s: those of scale %d are made for each sample (slower)", where, made, scale)
    damaged = list(damaged_arrays(folder, array_files(index)))
    if damaged:
        advice = f"Prepare it again (only these are decoded): {_command(index, folder)}"
        raise DataError(f"{where}, but files are damaged ({len(damaged)}):\n{shown_list(damaged)}\n{advice}")
    if cached is not None:
        root_H, root_L = dataroot_H, dataroot_L
    else:
        _refuse_other_L(dataroot_L, root_L, option)
        _refuse_changes(index, where, folder)
    if index.left_out:
        LOGGER.info("%s: %d problems; their images were left out when it was prepared", option, len(index.left_out))
    pairs = [_as_pair(image, folder / ARRAYS, root_H, root_L, index.scale == scale) for image in index.images]
    return OpenPrepared(pairs, index.left_out, root_H, root_L)


def _refuse_other_L(dataroot_L: Path | None, prepared_L: Path | None, option: str) -> None:
    if dataroot_L is not None and (prepared_L is None or Path(os.path.abspath(dataroot_L)) != prepared_L):
        made = f"prepared with {prepared_L}" if prepared_L is not None else "prepared without low-resolution files"
        raise DataError(f"{option}.dataroot_L: {dataroot_L}, but dataroot_H is a folder {made}: leave dataroot_L out")


def _refuse_changes(index: Index, where: str, folder: Path) -> None:
    changed = list(_changed(index))
    if changed:
        advice = f"Prepare it again (only these are decoded): {_command(index, folder)}"
        raise DataError(f"{where}, but images were changed since ({len(changed)}):\n{shown_list(changed)}\n{advice}")


def _command(index: Index, folder: Path) -> str:
    words = ["swinlet", "prepare", index.source_H, "--out", str(folder)]
    words += ["--low", index.source_L] if index.source_L is not None else []
    words += ["--scale", str(index.scale)] if index.scale is not None else []
    words += ["--n-channels", "1"] if index.n_channels == 1 else []
    words += ["--on-bad-image", "skip"] if index.left_out else []
    return shlex.join(words)


def _as_pair(image: Image, arrays: Path, root_H: Path, root_L: Path | None, has_L: bool) -> Pair:
    return Pair(
        image.name,
        root_H / image.high.path,
        None if root_L is None or image.low is None else root_L / image.low.path,
        (image.H.height, image.H.width),
        arrays / image.H.file,
        arrays / image.L.file if has_L and image.L is not None else None,
        image.gray,
        (image.high, image.low),
    )


def _changed(index: Index) -> Iterator[str]:
    """Image files that were changed, removed or added. Where the images are gone altogether, nothing has changed."""
    highs = {image.high.path: image.high for image in index.images}
    yield from _changed_in(index.source_H, highs, index.unused_H)
    if index.source_L is not None:
        lows = {image.low.path: image.low for image in index.images if image.low is not None}
        yield from _changed_in(index.source_L, lows, index.unused_L)


def _changed_in(folder: str, known: dict[str, SourceFile], unused: list[str]) -> Iterator[str]:
    root = Path(folder)
    try:
        present = {path.relative_to(root).as_posix() for path in list_images(root)}
    except DataError:  # removed, not mounted, on another machine
        return
    for path, source in known.items():
        if path not in present:
            yield f"{root / path}: removed"
        elif not is_unchanged(root / path, source):
            yield f"{root / path}: changed"
    yield from (f"{root / path}: new" for path in sorted(present.difference(known, unused)))
