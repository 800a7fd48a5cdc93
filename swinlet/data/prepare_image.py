"""Preparing one image pair: from files to arrays on the disk, and their record."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from swinlet.data import prepared
from swinlet.data.pairs import Pair, mismatch
from swinlet.data.prepared import ArrayFile, Image, SourceFile
from swinlet.errors import DataError
from swinlet.utils.console import LOGGER
from swinlet.utils.files import sha256_of, write_atomic
from swinlet.utils.image_io import is_gray, read_image
from swinlet.utils.resize import bicubic_downscale

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Request:
    """What is to be prepared.

    Attributes:
        dataroot_H, dataroot_L, scale, n_channels: as of ``DatasetSR``; without a scale, or at scale 1, no L is made.
        on_bad_image: "error" writes no index if an image is bad; "skip" leaves it out and logs one warning.
        workers: threads; None: one for each processor.
        option: what the user gave, for messages.
        filename_tmpl: as of ``DatasetSR``.
    """

    dataroot_H: Path
    dataroot_L: Path | None = None
    scale: int | None = None
    n_channels: Literal[1, 3] = 3
    on_bad_image: Literal["error", "skip"] = "error"
    workers: int | None = None
    option: str = "swinlet prepare"
    filename_tmpl: str | None = None


class _Decoded(NamedTuple):
    source: SourceFile
    array: ArrayFile
    pixels: Array


@dataclass(frozen=True)
class Preparer:
    """Prepares one pair after the other; called by several threads at once.

    Attributes:
        arrays: folder for the arrays.
        known: finished images by the path of their H file.
        checksums: of their arrays, by the names of the files.
    """

    request: Request
    arrays: Path
    known: Mapping[str, Image]
    checksums: Mapping[str, str]

    def __call__(self, pair: Pair) -> Image | list[str]:
        """The finished image, or what is wrong with it."""
        files = [(pair.H_path, self.request.dataroot_H)]
        if pair.L_path is not None and self.request.dataroot_L is not None:
            files.append((pair.L_path, self.request.dataroot_L))
        names = [path.relative_to(root).as_posix() for path, root in files]
        old = self.known.get(names[0])
        if old is not None and self._is_current(old, [path for path, _ in files], names):
            return old.model_copy(update={"name": pair.name})
        decoded: list[_Decoded] = []
        problems: list[str] = []
        for (path, _), name in zip(files, names, strict=True):
            try:
                decoded.append(self._decoded(path, name, "low" if decoded or problems else "high"))
            except DataError as error:
                problems.append(str(error))
        return problems or self._finished(pair, *decoded)

    def _is_current(self, old: Image, paths: list[Path], names: list[str]) -> bool:
        """Whether files and arrays are as they were; an array of another size is removed, to be written again."""
        arrays = [old.H, *([old.L] if old.L is not None else [])]
        damaged = [array for array in arrays if prepared.size_problem(self.arrays / array.file, array.size)]
        for array in damaged:
            (self.arrays / array.file).unlink(missing_ok=True)
        sources = [old.high, *([old.low] if old.low is not None else [])]
        if names != [source.path for source in sources]:
            return False
        for path, source in zip(paths, sources, strict=True):
            try:
                stat = path.stat()
            except OSError:  # said when it is read
                return False
            if (stat.st_size, stat.st_mtime_ns) != (source.size, source.mtime_ns):
                return False
        return not damaged

    def _decoded(self, path: Path, name: str, kind: str) -> _Decoded:
        """An image file as an array that is on the disk."""
        source = fingerprint(path, name)

        def decode() -> Array:
            image = read_image(path, self.request.n_channels)
            if not prepared.is_unchanged(path, source):
                raise DataError(f"cannot read {path}: it was changed meanwhile. Start again")
            return image

        return _Decoded(source, *self._array(source, kind, decode))

    def _finished(self, pair: Pair, high: _Decoded, low: _Decoded | None = None) -> Image | list[str]:
        """The record of an image; its L is made where it has no file."""
        scale, L_array = self.request.scale, None if low is None else low.array
        if low is not None and scale is not None:
            problem = mismatch(pair, high.pixels.shape[:2], low.pixels.shape[:2], scale)
            if problem is not None:
                return [problem]
        elif scale not in (None, 1):
            try:
                L_array, _ = self._array(high.source, f"x{scale}", lambda: bicubic_downscale(high.pixels, scale))
            except DataError as error:
                return [f"{pair.H_path}: {error}"]
        return Image(
            name=pair.name,
            gray=is_gray(pair.H_path),
            high=high.source,
            low=None if low is None else low.source,
            H=high.array,
            L=L_array,
        )

    def _array(self, source: SourceFile, kind: str, make: Callable[[], Array]) -> tuple[ArrayFile, Array]:
        """The array of a file's content, made if it is not there."""
        made_of = (prepared.VERSION, self.request.n_channels, kind, source.path, source.sha256)
        path = array_path(self.arrays, source.path, made_of)
        return stored_array(path, make, known=self.checksums.get(path.name))


def array_path(folder: Path, image: str, made_of: Sequence[object]) -> Path:
    """Where an array is.

    Args:
        folder: of the arrays.
        image: path of the image that it belongs to; the file is called after it.
        made_of: all that the values depend on; its name tells it, too.
    """
    digest = hashlib.sha256("\0".join(map(str, made_of)).encode(errors="surrogateescape")).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", Path(image).stem)[:40]
    return folder / f"{readable}-{digest[:24]}.npy"


def stored_array(
    path: Path, make: Callable[[], Array], dtype: npt.DTypeLike = np.uint8, known: str | None = None
) -> tuple[ArrayFile, Array]:
    """An array, made if it is not there whole.

    Args:
        path: of ``array_path``.
        make: the values, (H, W, C), of the type.
        dtype: theirs.
        known: the file's checksum, if it was written before.
    """
    values = _load(path, dtype)
    checksum = None if values is None else sha256_of(path)
    if values is not None and known not in (None, checksum):
        LOGGER.warning("%s: its content was damaged; it is made anew", path)
        values = None
    if values is None or checksum is None:
        values = make()
        checksum = _write_array(path, values)
    height, width = values.shape[:2]
    return ArrayFile(file=path.name, size=path.stat().st_size, sha256=checksum, height=height, width=width), values


def fingerprint(path: Path, name: str) -> SourceFile:
    """What is known of an image file afterwards; ``name`` is its path below the folder of images.

    Raises:
        DataError: it cannot be read.
    """
    try:
        stat = path.stat()
        return SourceFile(path=name, size=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=sha256_of(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _load(path: Path, dtype: npt.DTypeLike) -> Array | None:
    """A .npy file that is there and whole."""
    try:
        return prepared.load_array(path, dtype)
    except (FileNotFoundError, ValueError):
        return None


def _write_array(path: Path, pixels: Array) -> str:
    """Write a .npy file and return its checksum."""
    content = io.BytesIO()
    np.save(content, pixels)
    write_atomic(path, lambda file: file.write(content.getbuffer()))
    return hashlib.sha256(content.getbuffer()).hexdigest()
