"""One run in a folder: who has it, who is refused, and what a dead owner leaves."""

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from swinlet.errors import CheckpointError
from swinlet.train import train
from swinlet.utils.run_lock import LOCK_FILE, OWNER_FILE, RunLock
from tests.small_run import options, tree
from tests.test_train import ROOT, records, wait_for

FILELOCK = int(filelock.__version__.partition(".")[0])


def start(code: str, *words: object) -> subprocess.Popen[str]:
    """A process that reads lines and writes lines."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def go(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


HOLD = """
import os, pathlib, sys
from swinlet.utils.run_lock import RunLock
from swinlet.errors import CheckpointError
print("ready", flush=True); sys.stdin.readline()
try:
    with RunLock(pathlib.Path(sys.argv[1])):
        print("mine", flush=True); sys.stdin.readline()
except CheckpointError as error: print("refused", error, flush=True)
"""


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A folder whose owner was killed."""
    folder = tmp_path / "dead"
    process = start(HOLD, folder)
    go(process)
    assert [line(process), line(process)] == ["ready", "mine"]
    process.kill()
    process.communicate()
    assert {path.name for path in folder.iterdir()} == {LOCK_FILE, OWNER_FILE}
    return folder


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with RunLock(folder):
        me = json.loads((folder / OWNER_FILE).read_bytes())
        with pytest.raises(CheckpointError) as caught, RunLock(folder):
            pass
        assert json.loads((folder / OWNER_FILE).read_bytes()) == me
        assert {path.name for path in folder.iterdir()} == {LOCK_FILE, OWNER_FILE}
        (folder / "train.log").touch()
    owner = f"user {getpass.getuser()}, process {os.getpid()} on {socket.gethostname()}, since {me['since']}"
    assert str(caught.value) == (
        f"{folder}: another run is at work here ({owner}): choose another task, or stop that run first"
    )
    assert [path.name for path in folder.iterdir()] == ["train.log"]
    with RunLock(folder):
        pass


def test_a_folder_in_which_nothing_was_written_is_left_to_nobody(tmp_path: Path) -> None:
    with RunLock(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_a_dead_owners_lock_is_taken_over(dead: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RunLock(dead):
        assert json.loads((dead / OWNER_FILE).read_bytes())["pid"] == os.getpid()
    assert f"{dead}: taken over from a run that ended without giving it back (user " in caplog.text
    assert not dead.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"user": 1}', b"\xff", None])
def test_an_owner_file_decides_nothing(tmp_path: Path, content: bytes | None) -> None:
    """It may be damaged or missing; also the lock of earlier versions, a file with an owner, is nobody's."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK_FILE).write_text('{"user": "x", "pid": 1, "host": "far", "machine": "far"}')
    (folder / OWNER_FILE).write_bytes(content or b"")
    with RunLock(folder):
        if content is None:
            (folder / OWNER_FILE).unlink()
        else:
            (folder / OWNER_FILE).write_bytes(content)
        with pytest.raises(CheckpointError, match=r"another run is at work here \(owner unknown\)"), RunLock(folder):
            pass
    assert not folder.exists()


def test_a_dead_owners_lock_goes_to_one_of_many(dead: Path) -> None:
    processes = [start(HOLD, dead) for _ in range(3)]
    assert [line(process) for process in processes] == ["ready"] * 3
    go(*processes)
    answers = [line(process) for process in processes]
    go(*processes)
    for process in processes:
        process.communicate(timeout=60)
    assert sorted(answer.partition(" ")[0] for answer in answers) == ["mine", "refused", "refused"]


RACE = """
import os, pathlib, sys
from swinlet.utils.run_lock import RunLock
from swinlet.errors import CheckpointError
folder, inside, rounds = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True); sys.stdin.readline()
while rounds:
    if rounds % 3 == 0 and (child := os.fork()) == 0:
        try:
            RunLock(folder).__enter__()
        finally:
            os._exit(0)  # dies, and leaves what it held
    if rounds % 3 == 0:
        os.waitpid(child, 0)
    try:
        with RunLock(folder):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another holds the folder, too
            os.unlink(inside)
            rounds -= 1
    except CheckpointError as error:
        assert "another run is at work here" in str(error), error
print("done", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_three_that_race_never_hold_it_together(tmp_path: Path) -> None:
    """Each removes the lock's file, and the folder, when it gives it back, while others are about to take it; and some
    die with it."""
    processes = [start(RACE, tmp_path / "run", tmp_path / "inside", 150) for _ in range(3)]
    assert [line(process) for process in processes] == ["ready"] * 3
    go(*processes)
    assert [line(process) for process in processes] == ["done"] * 3
    for process in processes:
        process.communicate(timeout=60)
    assert not (tmp_path / "inside").exists()


FORK = """
import os, pathlib, sys, time
from swinlet.utils.run_lock import RunLock
lock = RunLock(pathlib.Path(sys.argv[1])); lock.__enter__()
if os.fork() == 0:
    sys.stdin.readline(); os._exit(0)  # outlives its parent, as a process that loads images may for seconds
print("mine", flush=True); time.sleep(1000)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or FILELOCK < 4, reason="needs fork, and filelock 4")
def test_forked_processes_do_not_hold_it(tmp_path: Path) -> None:
    process = start(FORK, tmp_path / "run")
    assert line(process) == "mine"
    process.kill()
    process.wait()
    with RunLock(tmp_path / "run"):
        pass
    go(process)  # the child goes, too
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_runs(photos: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The second is refused; after the first is killed its lock is taken over."""
    long = {"total_iter": 10**6, "checkpoint_print": 1, "checkpoint_test": 10**6, "checkpoint_save": 1}
    file = tmp_path / "train.json"
    file.write_text(json.dumps(tree(photos, tmp_path, **long)))
    command = [sys.executable, str(ROOT / "main_train_student.py"), "--opt", str(file)]
    run = tmp_path / "run"
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(command, stderr=errors)
    try:
        wait_for(run / "train.log", "iter:       2")
        before = sorted(path.name for path in (run / "options").iterdir())
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"another run is at work here (user {getpass.getuser()}, process {process.pid} on" in second.stderr
        assert sorted(path.name for path in (run / "options").iterdir()) == before
        process.send_signal(number)
        process.wait(timeout=60)
    finally:
        process.kill()
    assert (run / LOCK_FILE).exists() is (number == signal.SIGKILL)
    done = max(int(path.stem) for path in (run / "models").glob("[0-9]*.json"))
    assert train(options(photos, tmp_path, total_iter=done + 1))
    assert records(run, "start")[-1]["step"] == done
    assert ("taken over from a run" in (run / "train.log").read_text()) is (number == signal.SIGKILL)


@pytest.mark.usefixtures("hanging_up_counts")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_before_the_first_iteration_gives_it_back(tmp_path: Path, name: str) -> None:
    code = (
        "import pathlib, signal, sys\n"
        "from swinlet.utils.run_lock import RunLock\n"
        "from swinlet.utils.signals import cleaning_up\n"
        "with cleaning_up(), RunLock(pathlib.Path(sys.argv[1])):\n"
        f"    signal.raise_signal(signal.{name})\n"
        "    print('survived')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (128 + getattr(signal, name), b"")
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_folder_that_cannot_be_made(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"path\.root: .*file.*: cannot be written: Not a directory"):
        train(options(photos, tmp_path / "file"))
