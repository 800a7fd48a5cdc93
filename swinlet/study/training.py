"""One run of a study, trained by a process of its own: its crash, memory and signals stay its own."""

import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swinlet.errors import CheckpointError
from swinlet.study.plan import PlannedRun, Run, progress_of
from swinlet.utils.run_lock import LOCK_FILE, RunLock
from swinlet.utils.signals import StopRequest, stop_signals

LOGGER = logging.getLogger("swinlet")

_POLL = 0.2  # seconds between looks at signals, while a run is trained


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        run: the run.
        state: "locked": another process is at work there; "stopped": before its last iteration, and saved.
        note: more about it, for people.
    """

    run: Run
    state: Literal["finished", "stopped", "failed", "locked"]
    note: str = ""


class StudyStoppedError(Exception):
    """A signal has stopped a run, which is saved, and the study.

    Args:
        number: of the signal.

    Attributes:
        code: for the shell.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def train_run(run: Run, total_iter: int) -> Outcome:
    """Train a run, whose option file is there, to its end, or go on with it.

    Raises:
        StudyStoppedError: by a signal, which was handed on; the run has saved itself.
        CheckpointError: its folder cannot be written.
    """
    with ExitStack() as held:
        # The training locks the run's folder itself, but some seconds after its start.
        claim = run.root / f".{run.folder.name}.claim"
        holder = _holder_of(claim, held) or _holder(run.folder)
        if holder is not None:
            return Outcome(run, "locked", holder)
        if progress_of(run, total_iter).is_finished:  # by another study, since this one has looked
            return Outcome(run, "finished")
        return _train(run, total_iter)


def _train(run: Run, total_iter: int) -> Outcome:
    _note_start(run)
    with stop_signals() as stop:
        code = _wait_for(run.command, stop)
    done = progress_of(run, total_iter)
    if done.is_finished:
        outcome = Outcome(run, "finished")
    elif code == 0:
        outcome = Outcome(run, "stopped", f"after iteration {done.step} of {total_iter}")
    elif (holder := _holder(run.folder)) is not None:  # somebody has started the same training by hand
        outcome = Outcome(run, "locked", holder)
    else:
        ended = f"ended by a signal ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code}"
        outcome = Outcome(run, "failed", f"{ended}; {run.folder / 'train.log'}; to try again: {run.shown_command}")
    if stop.number:
        raise StudyStoppedError(stop.number)
    return outcome


def _wait_for(command: list[str], stop: StopRequest) -> int:
    """Run a command to its end, and hand on what asks to stop; its exit code, negative for a signal."""
    # In a session of its own: a Ctrl-C would reach it from the terminal and once more from here, and the second one
    # ends a training without saving. On Windows, where it cannot be handed on, it comes from the console alone.
    # It is handed on as SIGTERM, which a training takes alike, but which ends one that is still starting in silence.
    with subprocess.Popen(command, start_new_session=True) as process:
        handed_on = False
        while True:
            try:
                return process.wait(_POLL)
            except subprocess.TimeoutExpired:
                if stop.number and not handed_on and sys.platform != "win32":
                    process.send_signal(signal.SIGTERM if stop.number == signal.SIGINT else stop.number)
                    handed_on = True
            except KeyboardInterrupt:  # the second one: stop at once
                process.terminate() if sys.platform == "win32" else process.send_signal(signal.SIGINT)
                process.wait()
                raise


def _holder(folder: Path) -> str | None:
    """Who trains in a run's folder; None: nobody. What somebody who has died left there is removed."""
    if not (folder / LOCK_FILE).exists():  # do not take it even for a moment: a training may be about to
        return None
    with ExitStack() as held:
        return _holder_of(folder, held)


def _holder_of(folder: Path, held: ExitStack) -> str | None:
    """Lock a folder until ``held`` is closed, or tell who has it.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        held.enter_context(RunLock(folder))
    except CheckpointError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return f"{str(error).partition('): ')[0]})"  # without advice for those who train by hand
    return None


def starts_file(run: Run) -> Path:
    """Where the starts of a run's training are noted, one JSON object a line."""
    return run.root / f"{run.folder.name}.starts.jsonl"


def _note_start(run: Run) -> None:
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": shlex.join(run.command),
    }
    with starts_file(run).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def problems_of(outcomes: Sequence[Outcome], waiting: Sequence[PlannedRun]) -> list[str]:
    """What went wrong; what the same command does later, as others are at work or have to be first, goes to the log."""
    for planned in waiting:
        LOGGER.info("%s: %s: start the command again when they are finished", planned.run.name, planned.state)
    problems: list[str] = []
    for outcome in outcomes:
        if outcome.state == "failed":
            problems.append(f"{outcome.run.name}: failed: {outcome.note}")
        elif outcome.state != "finished":
            kind = "passed over" if outcome.state == "locked" else "stopped"
            LOGGER.info("%s: %s: %s; start the command again to go on", outcome.run.name, kind, outcome.note)
    return problems
