"""Prepared folders: images decoded once into .npy files that are mapped into memory, and an index of them.

``index.json`` is written last, so a folder that has one is whole. ``arrays/`` holds uint8 (H, W, C) arrays in numpy's
format; those of a teacher's features are float16. Nothing here writes: a prepared folder may lie on a read-only disk,
and may be moved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from swinlet.errors import DataError
from swinlet.utils.files import open_regular, read_regular, sha256_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

INDEX, ARRAYS, LOCK = "index.json", "arrays", ".swinlet-prepare.lock"
FORMAT = "swinlet prepared images"
VERSION = 1

_MAX_INDEX = 1 << 30  # bytes; an image takes about 600
_MAPS = 16384  # open maps of one process; Linux allows 65,530, and files beyond this number are just opened again


class Record(BaseModel):
    """A part of an index."""

    model_config = ConfigDict(extra="forbid", frozen=True)


RecordT = TypeVar("RecordT", bound=Record)


class SourceFile(Record):
    """An image file: its path below the folder of images, with forward slashes, and how to tell that it has changed."""

    path: str
    size: int
    mtime_ns: int
    sha256: str


class ArrayFile(Record):
    """A .npy file of ``arrays/`` and what is in it."""

    file: str = Field(pattern=r"^[A-Za-z0-9_-]+\.npy$")  # nothing outside of the folder, as others are removed by name
    size: PositiveInt
    sha256: str
    height: PositiveInt
    width: PositiveInt


class Image(Record):
    """One pair; ``low`` is the L file if there is one, ``L`` is there if a scale was given."""

    name: str
    gray: bool
    high: SourceFile
    low: SourceFile | None
    H: ArrayFile
    L: ArrayFile | None


class Index(Record):
    """``index.json``.

    Attributes:
        format, version, swinlet: by what and for whom it was written.
        n_channels: 3 for RGB, 1 for gray.
        scale: of the L images; None: there are none.
        source_H, source_L: the folders of the image files, absolute; without source_L, L was made from H.
        images: in the order in which data sets have them.
        left_out: problems of the images that were left out.
        unused_H, unused_L: paths of these.
    """

    format: Literal["swinlet prepared images"] = FORMAT
    version: Literal[1] = VERSION
    swinlet: str
    n_channels: Literal[1, 3]
    scale: int | None
    source_H: str
    source_L: str | None
    images: list[Image]
    left_out: list[str]
    unused_H: list[str]
    unused_L: list[str]


def is_prepared(folder: Path) -> bool:
    """Whether a folder has the index of a prepared one, rather than none or another program's.

    Raises:
        DataError: it cannot be read.
    """
    return has_index(folder, FORMAT)


def has_index(folder: Path, form: str) -> bool:
    """Whether a folder has an index of a format; see ``is_prepared``."""
    try:
        with open_regular(folder / INDEX) as file:
            return form.encode() in file.read(200)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError as error:
        raise DataError(f"cannot read {folder / INDEX}: {error.strerror}. Check its permissions") from error


def read_index(folder: Path) -> Index:
    """Read ``index.json``.

    Raises:
        DataError: it is damaged, or of another version.
    """
    return read_index_as(Index, folder, "prepare the images again")


def read_index_as(kind: type[RecordT], folder: Path, remedy: str) -> RecordT:
    """Read the ``index.json`` of a format; ``remedy`` is what makes the folder. See ``read_index``."""
    path = folder / INDEX
    try:
        return kind.model_validate(json.loads(read_regular(path, _MAX_INDEX)))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # pydantic's is a ValueError, too
        reason = str(error).partition("\n")[0]
        advice = f"remove the folder and {remedy}"
        raise DataError(f"{path} is damaged, or of another version of swinlet ({reason}): {advice}") from error


def array_files(index: Index) -> Iterator[ArrayFile]:
    """All arrays of an index."""
    for image in index.images:
        yield image.H
        if image.L is not None:
            yield image.L


def is_whole(folder: Path) -> bool:
    """Whether a folder is a prepared one that can be read and misses no array."""
    try:
        return is_prepared(folder) and not any(damaged_arrays(folder, array_files(read_index(folder))))
    except DataError:
        return False


def damaged_arrays(folder: Path, arrays: Iterable[ArrayFile]) -> Iterator[str]:
    """Arrays that are missing or of the wrong size; their content is for ``verify``."""
    for array in arrays:
        problem = size_problem(folder / ARRAYS / array.file, array.size)
        if problem:
            yield problem


def size_problem(path: Path, size: int) -> str | None:
    """What is wrong with a file that should have so many bytes, if anything."""
    try:
        found = path.stat().st_size
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None if found == size else f"{path}: {found} bytes instead of {size}"


def wrong_checksum(folder: Path, array: ArrayFile) -> str | None:
    """What is wrong with an array's content, if anything."""
    path = folder / ARRAYS / array.file
    problem = size_problem(path, array.size)
    if problem:
        return problem
    try:
        return None if sha256_of(path) == array.sha256 else f"{path}: its content is not what was written"
    except OSError as error:
        return f"{path}: {error.strerror}"


def is_unchanged(path: Path, source: SourceFile) -> bool:
    """Whether a file is what it was: same size and time, or else the same content.

    Copies and checkouts have new times, so these alone say nothing.
    """
    try:
        stat = path.stat()
        if stat.st_size != source.size:
            return False
        return stat.st_mtime_ns == source.mtime_ns or sha256_of(path) == source.sha256
    except OSError:
        return False


def load_array(path: Path, dtype: npt.DTypeLike = np.uint8) -> Array:
    """A .npy file of a type, (H, W, C), mapped into memory, not writable.

    Raises:
        OSError: it is missing, no ordinary file, or cannot be read.
        ValueError: it is damaged, or holds something else.
    """
    with open_regular(path) as file:  # numpy would wait for a pipe, and open archives
        if file.read(6) != b"\x93NUMPY":
            raise ValueError("it is no .npy file")
    try:
        array: object = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        raise
    except Exception as error:  # numpy reads the header with Python's own parser, which raises a dozen kinds
        raise ValueError(f"it is damaged ({type(error).__name__})") from error
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 3:
        raise ValueError(f"it holds no {np.dtype(dtype)} array of height, width and channels")
    return np.asarray(cast("Array", array))  # plain, as views of numpy's memmap class are slow to make


@lru_cache(maxsize=_MAPS)
def map_array(path: Path, dtype: npt.DTypeLike = np.uint8) -> Array:
    """A prepared image, or features, (H, W, C), not writable: pages are read from disk when they are looked at.

    All processes share them in the system's page cache.

    Raises:
        DataError: the file is gone or damaged.
    """
    try:
        return load_array(path, dtype)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the prepared image {path}: {error}. See 'swinlet prepare --verify {path.parent.parent}'"
        ) from error


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sum(path.stat().st_size for path in paths)
