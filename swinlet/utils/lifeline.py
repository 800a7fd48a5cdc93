"""When one process of a run ends by an error, or is killed, all end, with its message.

The main process holds a connection to each other one. A process that dies closes its connection, however it dies, so
that nobody waits in a collective operation for a partner that has gone; one that fails sends its message first.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import selectors
import socket
import threading
from contextlib import ExitStack, suppress
from types import TracebackType

import torch.distributed as dist
from typing_extensions import Self

from swinlet.errors import SharedError, SwinletError, TrainingError
from swinlet.utils.processes import Processes

LOGGER = logging.getLogger("swinlet")

GRACE_SECONDS = 15.0
"""So long a process may take to save and tidy up once another has ended."""

_CONNECT_SECONDS = 60.0
_VERDICT_SECONDS = 3.0  # between a failing collective operation and the news of who died
_KEEP_ALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))  # a machine without power: 30 s
_BYE, _FAILED = b"bye", b"failed:"
_MAX_MESSAGE = 10_000


class Lifeline:
    """Ties the processes of a run together; a context manager, entered by all of them.

    Where another process ends before its time, the block ends here too: by what the collective operation it waits in
    raises, which becomes a SharedError, or by the end of this process after ``GRACE_SECONDS``.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._sockets: dict[socket.socket, int] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()  # of a process that has ended before its time
        self._is_leaving = False
        self._left = threading.Event()

    def __enter__(self) -> Self:
        if self._processes.count > 1:
            try:
                self._connect()
            except OSError as error:
                raise TrainingError(
                    f"the processes of this run cannot reach each other ({error}): see that no firewall keeps the "
                    "machines apart"
                ) from error
            threading.Thread(target=self._listen, daemon=True, name="lifeline").start()
        return self

    def _connect(self) -> None:
        """The main process listens, on this machine alone where there is no other."""
        one_machine = self._processes.local_count == self._processes.count
        main = self._processes.is_main
        with ExitStack() as held:
            server, offer = None, ("", 0, "")
            if main:
                server = held.enter_context(socket.create_server(("127.0.0.1" if one_machine else "", 0)))
                server.settimeout(_CONNECT_SECONDS)
                host = "127.0.0.1" if one_machine else os.environ.get("MASTER_ADDR", "")
                offer = (host, server.getsockname()[1], secrets.token_hex(16))
            host, port, token = self._processes.from_main(lambda: offer)
            if server is None:
                line = socket.create_connection((host, port), _CONNECT_SECONDS)
                line.sendall(f"{token}{self._processes.rank:08d}".encode())
                self._keep(line, 0)
            while server is not None and len(self._sockets) < self._processes.count - 1:
                line, _ = server.accept()
                line.settimeout(_CONNECT_SECONDS)
                head = _read_exactly(line, len(token) + 8)
                if secrets.compare_digest(head[: len(token)], token.encode()) and head[len(token) :].isdigit():
                    self._keep(line, int(head[len(token) :]))
                else:  # a stranger, such as a scanner of ports
                    line.close()

    def _keep(self, line: socket.socket, rank: int) -> None:
        line.settimeout(_VERDICT_SECONDS)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if hasattr(socket, name):
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._sockets[line] = rank

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for line in self._sockets:
                selector.register(line, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    line: socket.socket = key.fileobj  # pyright: ignore[reportAssignmentType]
                    message = _read_to_end(line)
                    selector.unregister(line)
                    if message != _BYE:
                        self._end(self._sockets[line], message)
                        return

    def _end(self, rank: int, message: bytes) -> None:
        """Process ``rank`` has ended before its time."""
        with self._lock:
            if self._is_leaving:
                return
            self._news.set()
        count, is_main = self._processes.count, self._processes.is_main
        if not message.startswith(_FAILED):
            reason = "has ended without a word: killed from outside, as when memory is short, or crashed"
            if is_main or self._processes.rank == 1:  # of the main process another one has to tell
                LOGGER.critical("process %d of %d %s", rank, count, reason)
        elif is_main:
            LOGGER.error("process %d of %d: %s", rank, count, message.removeprefix(_FAILED).decode(errors="replace"))
        if is_main:
            self._say(_FAILED)
        if not self._left.wait(GRACE_SECONDS):
            if is_main:
                LOGGER.critical("this process waits for what will never come, and is ended: the last checkpoint counts")
            os._exit(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._processes.count == 1:
            return
        if isinstance(error, RuntimeError):  # perhaps of an operation that the others took part in
            self._news.wait(_VERDICT_SECONDS)
        with self._lock:
            self._is_leaving = True
        self._left.set()
        if error is not None:
            atexit.unregister(dist.destroy_process_group)  # which may wait for the others
        if error is None or (isinstance(error, SharedError) and not self._processes.is_main):
            self._say(_BYE)
        elif not self._news.is_set():
            self._say(_FAILED + _reason(error).encode()[:_MAX_MESSAGE])
        elif isinstance(error, RuntimeError):
            raise SharedError("another process has ended") from error

    def _say(self, message: bytes) -> None:
        for line in self._sockets:
            with suppress(OSError):  # it has gone, too
                line.sendall(message)
                line.shutdown(socket.SHUT_WR)


def _reason(error: BaseException) -> str:
    if isinstance(error, SwinletError):
        return str(error)
    return repr(error) if isinstance(error, Exception) else "ended by a signal"


def _read_exactly(line: socket.socket, count: int) -> bytes:
    content = b""
    with suppress(OSError):
        while len(content) < count and (part := line.recv(count - len(content))):
            content += part
    return content


def _read_to_end(line: socket.socket) -> bytes:
    """What comes before the connection is closed; it is, right after a message."""
    return _read_exactly(line, _MAX_MESSAGE + len(_FAILED))
