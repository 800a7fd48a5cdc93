"""One run in a folder at a time: a lock file that says who has it.

It is an ordinary file, made exclusively, as ``flock`` is missing on Windows and does nothing on many network drives.
"""

import contextlib
import getpass
import json
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psutil
from typing_extensions import Self

from swinlet.errors import CheckpointError
from swinlet.utils.files import refusal

LOGGER = logging.getLogger("swinlet")

LOCK_FILE = "run.lock"
BEAT_SECONDS = 30.0
"""How often the owner shows that it lives, by the time of the file."""

OLD_SECONDS = 300.0
"""After so long without a sign of life an owner that cannot be looked at counts as dead."""

_SAME_START = 2.0  # seconds: clocks are set


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        user, pid, host: as the host names them.
        machine: tells machines, their starts and containers apart: only within one do process numbers say anything.
        started: of the process, in seconds since 1970.
        since: local time at which the lock was taken, for people.
        token: of this lock alone.
    """

    user: str
    pid: int
    host: str
    machine: str
    started: float
    since: str
    token: str

    @classmethod
    def this_process(cls) -> Self:
        """A new lock's."""
        process = psutil.Process()
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        return cls(
            _user(), process.pid, socket.gethostname(), _machine(), process.create_time(), since, uuid.uuid4().hex
        )

    def __str__(self) -> str:
        return f"user {self.user}, process {self.pid} on {self.host}, since {self.since}"


class RunLock:
    """Holds a run's folder, which is made where it is missing; a context manager.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._owner = Owner.this_process()
        self._content = json.dumps(asdict(self._owner)).encode()
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True, name="run lock")

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            CheckpointError: another run has it, or the folder cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while not self._make():
                self._remove_stale()
        except OSError as error:
            path = error.filename or self._path
            raise CheckpointError(f"path.root: {path}: cannot be written: {refusal(error)}") from error
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._heart.join()
        with contextlib.suppress(OSError):  # gone with its folder; or left, and recognised as stale
            if self._path.read_bytes() == self._content:
                self._path.unlink()
            self._path.parent.rmdir()  # where nothing was written

    def _make(self) -> bool:
        try:
            handle = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self._content)
        except OSError:  # the disk is full: an empty lock would be nobody's, and keep everybody out
            self._path.unlink()
            raise
        return True

    def _remove_stale(self) -> None:
        """Remove the lock of a run that has ended.

        Raises:
            CheckpointError: it may be going on.
        """
        try:
            content, silent = self._path.read_bytes(), self._silent_seconds()
        except FileNotFoundError:  # given back just now
            return
        owner = _read_owner(content)
        if not _has_ended(owner, silent):
            raise CheckpointError(self._refusal(owner, silent))
        aside = self._path.with_name(f"{LOCK_FILE}.{self._owner.token}")
        with contextlib.suppress(FileNotFoundError):  # another process takes it over, too, and was faster
            self._path.rename(aside)
            if aside.read_bytes() != content:  # it was: what was moved aside is its new lock
                aside.rename(self._path)
            else:
                aside.unlink()
                who = "owner unknown" if owner is None else owner
                LOGGER.warning("%s: taken over from a run that ended without giving it back (%s)", self._path, who)

    def _silent_seconds(self) -> float:
        """Since the owner's last sign of life, by the clock of the drive, which may be another machine's."""
        probe = self._path.with_name(f"{LOCK_FILE}.{self._owner.token}.now")
        probe.touch()
        try:
            return probe.stat().st_mtime - self._path.stat().st_mtime
        finally:
            probe.unlink()

    def _refusal(self, owner: Owner | None, silent: float) -> str:
        who = "unknown owner: the file cannot be read" if owner is None else str(owner)
        text = (
            f"{self._path.parent}: another run is at work here ({who}; last sign of life {max(0, silent):.0f} s ago): "
        )
        if owner is not None and owner.machine == self._owner.machine:
            return text + "choose another task, or stop that run first"
        return text + (
            "choose another task. Whether that run goes on cannot be seen from here; without a sign of life for "
            f"{OLD_SECONDS:.0f} s it counts as ended. If you know that it has ended, remove {self._path}"
        )

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            try:
                if self._path.read_bytes() != self._content:
                    LOGGER.error("%s: another run has taken this folder: stop one of them", self._path)
                    return
                os.utime(self._path)
            except OSError as error:
                LOGGER.warning("%s: no sign of life can be left: %s", self._path, error)


def _read_owner(content: bytes) -> Owner | None:
    """None: it is just being written, or damaged."""
    try:
        owner = Owner(**json.loads(content))
        return Owner(
            *(str(owner.user), int(owner.pid), str(owner.host), str(owner.machine), float(owner.started)),
            *(str(owner.since), str(owner.token)),
        )
    except (ValueError, TypeError, RecursionError):
        return None


def _has_ended(owner: Owner | None, silent: float) -> bool:
    """Whether the owner of a lock is surely dead, or silent for long where one cannot look."""
    is_old = silent > OLD_SECONDS
    if owner is None or owner.machine != _machine():
        return is_old
    try:
        other = abs(psutil.Process(owner.pid).create_time() - owner.started) > _SAME_START
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:  # it exists, but must not be looked at
        return False
    # Another process has got the number; or the clock was set, and the owner lives and is heard.
    return other and (is_old or owner.pid == os.getpid())


def _machine() -> str:
    """Host, its start and the space of process numbers, as far as the system tells."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # Linux only
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as in containers
        return "unknown"
