"""One run in a folder: who has it, who is refused, and what a dead owner leaves."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swinlet.errors import CheckpointError
from swinlet.train import train
from swinlet.utils import run_lock
from swinlet.utils.run_lock import LOCK_FILE, OLD_SECONDS, Owner, RunLock
from tests.small_run import options, tree
from tests.test_train import ROOT, records, wait_for


def write(folder: Path, age: float = 0.0, **changes: Any) -> Path:
    """A lock such as this process would have left, changed, and last touched so many seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    path.write_text(json.dumps(dataclasses.asdict(Owner.this_process()) | changes))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with RunLock(folder):
        content = (folder / LOCK_FILE).read_bytes()
        me = Owner(**json.loads(content))
        with pytest.raises(CheckpointError) as caught, RunLock(folder):
            pass
        assert (folder / LOCK_FILE).read_bytes() == content
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
        (folder / "train.log").touch()
    owner = f"user {me.user}, process {os.getpid()} on {me.host}, since {me.since}; last sign of life 0 s ago"
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


OLD = OLD_SECONDS + 60


@pytest.mark.parametrize(
    ("age", "changes"),
    [
        (0, lambda: {"pid": dead_pid()}),
        (0, lambda: {"started": 1e9}),  # this process has got the number of a dead one
        (OLD, lambda: {"pid": os.getppid(), "started": 1e9}),  # another has
        (OLD, lambda: {"machine": "elsewhere"}),
        (OLD, lambda: {"pid": "x"}),
    ],
)
def test_a_stale_lock_is_taken_over(
    tmp_path: Path, age: float, changes: Callable[[], dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, age, **changes())
    with RunLock(tmp_path):
        assert json.loads(path.read_bytes())["pid"] == os.getpid()
        assert [p.name for p in tmp_path.iterdir()] == [LOCK_FILE]
    assert f"{path}: taken over from a run that ended without giving it back (" in caplog.text


@pytest.mark.parametrize(
    ("age", "changes", "advice"),
    [
        (OLD, {}, "stop that run first"),  # it lives, though it was suspended
        (0, {"pid": os.getppid(), "started": 1e9}, "stop that run first"),  # perhaps the clock was set
        (OLD - 120, {"machine": "x", "host": "far"}, r"on far, since .*cannot be seen from here.* remove .*run\.lock$"),
        (0, {"pid": "x"}, r"unknown owner: the file cannot be read.* remove .*run\.lock$"),
    ],
)
def test_an_owner_that_may_live_is_not_disturbed(
    tmp_path: Path, age: float, changes: dict[str, Any], advice: str
) -> None:
    path = write(tmp_path, age, **changes)
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=advice), RunLock(tmp_path):
        pass
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [LOCK_FILE]


def test_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.02)
    with RunLock(tmp_path):
        path = tmp_path / LOCK_FILE
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime < 1e9:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        other = write(tmp_path, pid=1, token="other").read_bytes()
        while "another run has taken this folder" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert path.read_bytes() == other  # not ours to remove


def test_a_stale_lock_goes_to_one_of_many(tmp_path: Path) -> None:
    write(tmp_path, pid=dead_pid())
    code = (
        "import sys, time, pathlib\n"
        "from swinlet.utils.run_lock import RunLock\n"
        "from swinlet.errors import CheckpointError\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    with RunLock(pathlib.Path(sys.argv[1])):\n"
        "        print('mine', flush=True); sys.stdin.readline()\n"
        "except CheckpointError: print('refused', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(6)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 6
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate("\n", timeout=60)
    assert sorted(answers) == ["mine\n"] + ["refused\n"] * 5


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
        assert (
            f"another run is at work here (user {Owner.this_process().user}, process {process.pid} on" in second.stderr
        )
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
