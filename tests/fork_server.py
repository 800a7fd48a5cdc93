"""Commands as processes of their own, without the seconds in which Python imports torch.

A server, one for each process of pytest, has imported what a training needs and done nothing else; each command is
forked from it. That is a process like another: with its own session, environment, files, signals and exit code, and it
ends as Python ends. What a test says of the start itself, it has to say of a real one, from subprocess.

    command = Command("main_train_student.py", "--opt", "train.json")
    errors = command.communicate()
"""

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
NEEDED = [
    *("swinlet.train", "swinlet.cli", "swinlet.study.run", "swinlet.models.network_swinir_student"),
    *("tensorboard.summary.writer.record_writer", "torch.utils.tensorboard.summary"),
]
"""What a training imports, some of it late."""


class Command:
    """A running command.

    Args:
        arguments: after ``python``: a script, ``-m`` and a module or ``-c`` and code; and what it is given.
        stdout, stderr: where its output goes. Of None, stdout goes nowhere and stderr into a pipe.
        environment: more of it than the test has.
        namespaces: of this process; its mounts are the command's.
        obeys_modes: file modes bind it, though root starts it.

    Attributes:
        pid: also of the session and of the process group, which are the command's own.
        returncode: as subprocess has it; None while it runs or nobody has waited for its end.
        stderr: the pipe to read from. On Linux it holds a page, some 40 lines: a training waits there for its reader.
    """

    def __init__(
        self,
        *arguments: str,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        environment: dict[str, str] | None = None,
        namespaces: int | None = None,
        obeys_modes: bool = False,
    ) -> None:
        request = {"arguments": arguments, "environment": os.environ | (environment or {})}
        request |= {"namespaces": namespaces, "obeys_modes": obeys_modes}
        (status, told), (errors, given) = os.pipe(), os.pipe()
        if sys.platform == "linux":
            import fcntl

            fcntl.fcntl(errors, fcntl.F_SETPIPE_SZ, 4096)
        with open(told, "w"), open(given, "w") as pipe, open(os.devnull, "w") as nowhere:
            files = [(stdout or nowhere).fileno(), (stderr or pipe).fileno(), told]
            socket.send_fds(_server(), [json.dumps(request).encode()], files)
        self.returncode: int | None = None
        self.stderr = open(errors, errors="replace")  # noqa: SIM115
        self._status = open(status)  # noqa: SIM115
        self.pid = int(self._status.readline())

    def wait(self, timeout: float = 60) -> int:
        """The exit code; what nobody has read of stderr is gone.

        Raises:
            subprocess.TimeoutExpired: the command still runs.
        """
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            with self._status, self.stderr:
                self.returncode = int(self._status.readline())
        return self.returncode

    def communicate(self, timeout: float = 60) -> str:
        """What is left to read of stderr, once no process can write there any more; the command has ended then.

        Raises:
            subprocess.TimeoutExpired: one still can; the command is killed.
        """
        read: list[str] = []
        reader = threading.Thread(target=lambda: read.append(self.stderr.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if not read:
            self.kill()
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        self.wait(timeout)
        return read[0]

    def kill(self) -> None:
        """End it if it still runs."""
        if self.returncode is None and not select.select([self._status], [], [], 0)[0]:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


@functools.cache
def _server() -> socket.socket:
    """The connection to the server, which ends with it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fork_server", str(its.fileno())],
        cwd=ROOT, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    its.close()
    atexit.register(server.wait)
    atexit.register(ours.close)
    return ours


def _serve(requests: socket.socket) -> list[str]:
    """Answer requests until there are no more; returns in the forked processes alone, with a command's arguments."""
    while True:
        message, files, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not message:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            return _start(json.loads(message), *files)
        for file in files:
            os.close(file)


def _start(request: dict[str, Any], stdout: int, stderr: int, status: int) -> list[str]:
    """Wait for the command, a child of this process; returns in it."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    command = os.fork()
    if command:
        os.closerange(0, 3)  # whoever reads the command's output waits for its end alone
        os.write(status, f"{command}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        os.write(status, f"{code}\n".encode())
        os._exit(0)
    os.close(status)
    os.setsid()
    if request["namespaces"]:
        _enter(request["namespaces"])
    if request["obeys_modes"]:
        _obey_modes()
    os.environ.clear()
    os.environ.update(request["environment"])
    return request["arguments"]


def _enter(process: int) -> None:
    """Its user and mount namespaces."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name in ("user", "mnt"):
        if os.readlink(theirs := f"/proc/{process}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
            with open(theirs) as namespace:
                if libc.setns(namespace.fileno(), 0):
                    raise OSError(ctypes.get_errno(), f"cannot enter {theirs}")
    os.chdir(ROOT)


def _obey_modes() -> None:
    """Give up what lets root pass over them: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for i in range(3):
        sets[i] &= ~0b110
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def main() -> None:
    """Serve; in the forked processes, be the command."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    for name in NEEDED:
        importlib.import_module(name)
    gc.freeze()
    sys.argv = _serve(connection)
    if sys.argv[0] == "-c":
        code = sys.argv.pop(1)
        exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
    elif sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
