"""One run in a folder at a time.

The lock is the system's (flock; on Windows LockFile), which ends with its owner, however that ends. A file beside it
names the owner, for people: nothing is decided by it.
"""

import contextlib
import getpass
import json
import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from filelock import FileLock, Timeout
from typing_extensions import Self

from swinlet.errors import CheckpointError
from swinlet.utils.files import MAX_RECORD, read_regular, refusal

LOGGER = logging.getLogger("swinlet")

LOCK_FILE = "run.lock"
OWNER_FILE = "run.owner.json"


class RunLock:
    """Holds a run's folder, which is made where it is missing; a context manager.

    Forked processes, such as those that load images, do not hold it (filelock 4; with older versions they do until they
    notice, within seconds, that the run has died).

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path, self._owner_file = folder / LOCK_FILE, folder / OWNER_FILE
        self._lock = FileLock(self._path)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            CheckpointError: another run has it, or the folder cannot be written.
        """
        try:
            while not self._take():
                pass
            if self._owner_file.exists():
                text = "%s: taken over from a run that ended without giving it back (%s)"
                LOGGER.warning(text, self._folder, _read_owner(self._owner_file))
            try:
                self._owner_file.write_text(json.dumps(_this_process()), encoding="utf-8")
            except OSError:
                self._give_back()
                raise
        except OSError as error:
            path = error.filename or self._path
            raise CheckpointError(f"path.root: {path}: cannot be written: {refusal(error)}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _take(self) -> bool:
        """Whether the lock was taken; False: its file was removed, by an owner that ended, while it was being taken.

        Raises:
            CheckpointError: another run has it.
            OSError: the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            before = self._path.stat()
            self._lock.acquire(timeout=0)
        except FileNotFoundError:
            return False
        except FileExistsError:  # pathlib finds a folder that has gone a moment later
            if os.path.lexists(self._folder) and not self._folder.is_dir():
                raise
            return False
        except Timeout:
            owner = _read_owner(self._owner_file)
            advice = "choose another task, or stop that run first"
            raise CheckpointError(f"{self._folder}: another run is at work here ({owner}): {advice}") from None
        # Only the file that has the name is the lock: its number cannot be given to another one while it is open.
        with contextlib.suppress(FileNotFoundError):
            after = self._path.stat()
            if (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino):
                return True
        self._lock.release()
        return False

    def _give_back(self) -> None:
        """Remove the files, while they are ours, and the folder where nothing else is in it."""
        with contextlib.suppress(OSError):  # gone with its folder; or left, and recognised as a dead run's
            self._owner_file.unlink()
        with contextlib.suppress(OSError):  # Windows removes no file that is open
            self._path.unlink()
        self._lock.release()
        with contextlib.suppress(OSError):  # taken by another one, or not empty
            if os.name == "nt":
                self._path.unlink(missing_ok=True)
            self._folder.rmdir()


def _this_process() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"user": _user(), "pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _read_owner(path: Path) -> str:
    """Who has written an owner's file, for people."""
    try:
        record = json.loads(read_regular(path, MAX_RECORD))
        user, pid, host, since = (str(cast("dict[str, Any]", record)[key]) for key in ("user", "pid", "host", "since"))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # just being written, or damaged
        return "owner unknown"
    return f"user {user}, process {pid} on {host}, since {since}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as in containers
        return "unknown"
