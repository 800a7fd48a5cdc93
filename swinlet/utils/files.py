"""Files that are whole or not there, and their checksums."""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path


def write_atomic(path: Path, write: Callable[[io.BufferedWriter], object]) -> None:
    """Write a file so that ``path`` is, at any instant, its old content or all of its new content.

    Missing folders are made, links are followed, and what is no ordinary file (/dev/stdout) is written to directly.

    Raises:
        OSError: the disk is full, the folder cannot be written, ...; nothing at ``path`` has changed.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            write(file)
        return
    temporary = path.with_name(f".{path.name}.tmp")  # what a killed process left there is written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # gone where all went well
            temporary.unlink()
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """``write_atomic`` of UTF-8 text; what UTF-8 cannot hold, as in file names that are not of it, becomes "?"."""
    write_atomic(path, lambda file: file.write(text.encode(errors="replace")))


def _sync_folder(folder: Path) -> None:
    """Make the renaming last through a power failure, on systems that can: not Windows, not every network drive."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_of(path: Path) -> str:
    """Checksum of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
