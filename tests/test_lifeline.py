"""No process of a run waits for one that has gone: forked processes that hang, as in a collective operation."""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from swinlet.errors import DataError, SharedError
from swinlet.utils import lifeline
from swinlet.utils.lifeline import Lifeline
from swinlet.utils.processes import Processes

T = TypeVar("T")
COUNT = 3

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


class Stand(Processes):
    """Processes that hand over by files, without torch.distributed."""

    def __init__(self, rank: int, folder: Path) -> None:
        super().__init__(rank, COUNT, rank, COUNT)
        self._file = folder / "from_main"

    def from_main(self, make: Callable[[], T]) -> T:
        if self.is_main:
            answer: Any = make()
            self._file.with_suffix(".new").write_text(json.dumps(answer))
            self._file.with_suffix(".new").rename(self._file)
            return answer
        while not self._file.exists():
            time.sleep(0.01)
        return json.loads(self._file.read_text())


def run(folder: Path, work: Callable[[Stand], None]) -> list[int]:
    """Processes with a lifeline around ``work``; their numbers."""
    pids: list[int] = []
    for rank in range(COUNT):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                logging.getLogger("swinlet").addHandler(logging.FileHandler(folder / f"{rank}.log"))
                lifeline.GRACE_SECONDS = 1.0
                stand = Stand(rank, folder)
                with Lifeline(stand):
                    (folder / f"{rank}.ready").touch()
                    work(stand)
                code = 0
            except SharedError:
                code = 3
            except DataError:
                code = 4
            except BaseException as error:
                sys.stderr.write(f"{error!r}\n")
            finally:
                os._exit(code)
        pids.append(pid)
    while len(list(folder.glob("*.ready"))) < COUNT:
        time.sleep(0.01)
    return pids


def codes(pids: list[int]) -> list[int]:
    """Exit codes, all within seconds."""
    begin = time.monotonic()
    found: list[int] = []
    for pid in pids:
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            assert time.monotonic() - begin < 20, "a process hangs"
            time.sleep(0.02)
        found.append(os.waitstatus_to_exitcode(ended[1]))
    return found


def hang(_: Stand) -> None:
    time.sleep(100)


def told(folder: Path) -> list[str]:
    return [(folder / f"{rank}.log").read_text().strip() for rank in range(COUNT)]


@pytest.mark.parametrize("victim", range(COUNT))
def test_one_is_killed(tmp_path: Path, victim: int) -> None:
    pids = run(tmp_path, hang)
    os.kill(pids[victim], signal.SIGKILL)
    expected = [1] * COUNT
    expected[victim] = -signal.SIGKILL
    assert codes(pids) == expected
    lines = told(tmp_path)
    teller = 0 if victim else 1
    assert lines[teller].startswith(f"process {victim} of 3 has ended without a word: killed from outside")
    assert not any(lines[:teller] + lines[teller + 1 :])


@pytest.mark.parametrize("culprit", range(COUNT))
def test_one_fails(tmp_path: Path, culprit: int) -> None:
    def fail(stand: Stand) -> None:
        if stand.rank == culprit:
            raise DataError("photo.png: gone")
        hang(stand)

    pids = run(tmp_path, fail)
    expected = [1] * COUNT
    expected[culprit] = 4
    assert codes(pids) == expected
    # The main process tells of others' errors; its own are the caller's to tell.
    # As it hangs, it is ended then.
    first, *others = told(tmp_path)
    waits = "this process waits for what will never come, and is ended: the last checkpoint counts"
    assert first.splitlines() == ([f"process {culprit} of 3: photo.png: gone", waits] if culprit else [])
    assert others == ["", ""]


def test_a_failing_operation_becomes_a_shared_error(tmp_path: Path) -> None:
    def work(stand: Stand) -> None:
        if stand.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.3)
        raise RuntimeError("connection closed by peer")

    assert codes(run(tmp_path, work)) == [3, -signal.SIGKILL, 3]


@pytest.mark.parametrize(
    ("error", "reason"), [(KeyboardInterrupt(), "ended by a signal"), (AssertionError(), "AssertionError()")]
)
def test_a_reason_is_given(tmp_path: Path, error: BaseException, reason: str) -> None:
    def fail(stand: Stand) -> None:
        if stand.rank == 1:
            raise error
        hang(stand)

    assert codes(run(tmp_path, fail)) == [1, 1, 1]
    assert told(tmp_path)[0].startswith(f"process 1 of 3: {reason}")


def test_the_main_process_tells_its_own_error_too(tmp_path: Path) -> None:
    def fail(stand: Stand) -> None:
        if stand.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if stand.is_main:
            time.sleep(0.5)
            raise DataError("disk full")
        hang(stand)

    assert codes(run(tmp_path, fail)) == [4, -signal.SIGKILL, 1]


def test_an_error_of_all_is_nobodys_news(tmp_path: Path) -> None:
    def work(stand: Stand) -> None:
        raise DataError("all") if stand.is_main else SharedError("all")

    assert codes(run(tmp_path, work)) == [4, 3, 3]
    assert told(tmp_path) == ["", "", ""]


def test_leaving_one_after_the_other_is_no_crash(tmp_path: Path) -> None:
    for name, seconds in {"main first": (0.0, 0.5, 1.0), "main last": (1.0, 0.5, 0.0)}.items():
        (tmp_path / name).mkdir()
        assert codes(run(tmp_path / name, lambda stand, s=seconds: time.sleep(s[stand.rank]))) == [0, 0, 0]
        assert told(tmp_path / name) == ["", "", ""]


def test_one_process_has_none() -> None:
    with pytest.raises(DataError), Lifeline(Processes()):
        raise DataError("as it is")
