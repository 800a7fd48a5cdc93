"""Files that are whole or not there, and their checksums."""

import contextlib
import errno
import hashlib
import io
import os
import stat
import sys
import uuid
from collections.abc import Callable, Generator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MAX_RECORD = 16 << 20
"""Bytes of a JSON file that a run writes."""

_SPACE, _RIGHTS = "free some space", "see that this user may write there"
_FOLDER = "a file stands where a folder is needed: move it"
_ADVICE = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.EEXIST: _FOLDER,
    errno.ENOTDIR: _FOLDER,
}


def refusal(error: OSError) -> str:
    """Why the system did not write, and what to do about it; for the end of a message."""
    advice = _ADVICE.get(error.errno or 0)
    return f"{error.strerror or error}" + (f": {advice}, then start the same command again" if advice else "")


def write_atomic(path: Path, write: Callable[[io.BufferedWriter], object], *, shared: bool = False) -> None:
    """Write a file so that ``path`` is, at any instant, its old content or all of its new content.

    Missing folders are made, links are followed, and what is no ordinary file (/dev/stdout) is written to directly.

    Args:
        path: the file.
        write: writes its content.
        shared: several processes may write it at once, and its name may be as long as the system allows; what a killed
            one left is not written over then.

    Raises:
        OSError: the disk is full, the folder cannot be written, ...; nothing at ``path`` has changed.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            write(file)
        return
    temporary = path.with_name(
        f".{uuid.uuid4().hex if shared else path.name}.tmp"
    )  # what a killed process left there is written over
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
    sync_folder(path.parent)


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """``write_atomic`` of UTF-8 text; what UTF-8 cannot hold, as in file names that are not of it, becomes "?"."""
    write_bytes(path, text.encode(errors="replace"), shared=shared)


def write_bytes(path: Path, content: bytes, *, shared: bool = False) -> None:
    """``write_atomic`` of what is in memory."""
    write_atomic(path, lambda file: file.write(content), shared=shared)


def sync_folder(folder: Path) -> None:
    """Make the renaming last through a power failure, on systems that can: not Windows, not every network drive."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open an ordinary file for reading; a pipe, which may wait for ever, or a device without end is refused.

    Raises:
        OSError: it is something else, or cannot be read.
    """
    extra = [getattr(os, name, 0) for name in ("O_NONBLOCK", "O_BINARY")]  # of Unix, of Windows
    handle = os.open(path, sum(extra, os.O_RDONLY))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not an ordinary file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """The content of an ordinary file of at most ``limit`` bytes, whatever its size was said to be.

    Raises:
        OSError: it is larger, something else, or cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return content


def sha256_of(path: Path) -> str:
    """Checksum of a file's content, in hexadecimal.

    Raises:
        OSError: it is no ordinary file, or cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: Path, wait: bool) -> Generator[None, None, None]:
    """Hold a lock between processes, which ends with the process at the latest.

    Args:
        path: a file for this purpose; it is made, and left where it is: removing it would not be safe.
        wait: for another process to give it back.

    Raises:
        BlockingIOError: another process has it.
        OSError: the file cannot be made.
    """
    with path.open("ab") as file:
        try:
            if sys.platform == "win32":  # waits for ten seconds at most
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BlockingIOError(errno.EAGAIN, "another process has locked it", str(path)) from error
        yield
