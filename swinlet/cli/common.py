"""What every command needs: the console, exit codes, messages instead of tracebacks."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import typer

from swinlet.errors import (
    CheckpointError,
    MachineError,
    SharedError,
    SwinletError,
    TrainingError,
    UnreachableError,
)
from swinlet.utils.console import LOGGER, log_to_console
from swinlet.utils.files import refusal
from swinlet.utils.memory import is_out_of_memory

FAILURE, USAGE_ERROR, INTERRUPTED = 1, 2, 130


def set_up() -> None:
    """Before any command, and before torch is imported; safe to call twice."""
    # Threads that wait for others spin less long before they sleep: GNU OpenMP's own limit is 300,000 rounds, paid
    # where the machine has other work (benchmarks/openmp_spin.py). Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    log_to_console()


@contextmanager
def user_errors(
    less_memory: str = "lower datasets.train.dataloader_batch_size or H_size",
) -> Generator[None, None, None]:
    """Show what a user can mend as a message alone; anything else is a fault of this program and keeps its traceback.

    ``less_memory`` is advice for where memory runs out.

    Exit codes: 2 for options, images and weights; 1 for what the machine refuses (disk, rights, memory,
    processes) and for a run that went astray.
    """
    try:
        yield
    except SharedError as error:
        raise typer.Exit(FAILURE) from error
    except SwinletError as error:
        LOGGER.error("%s", error)
        unwritten = isinstance(error, CheckpointError) and isinstance(error.__cause__, OSError)
        failed = unwritten or isinstance(error, MachineError | TrainingError | UnreachableError)
        raise typer.Exit(FAILURE if failed else USAGE_ERROR) from error
    except OSError as error:
        LOGGER.error("%s", f"{error.filename}: {refusal(error)}" if error.filename and error.strerror else error)
        raise typer.Exit(FAILURE) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        LOGGER.error("out of memory: %s (%s)", less_memory, error)
        raise typer.Exit(FAILURE) from error


def check_writable(*files: Path) -> None:
    """Before work that takes long: fail now rather than at its end."""
    if len({os.path.realpath(path) for path in files}) < len(files):
        raise SwinletError(f"{files[-1]} is named for more than one output: name different files")
    for path in files:
        if path.is_dir():
            raise SwinletError(f"{path} is a folder: name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))


def report_problems(problems: list[str]) -> None:
    """Say what could not be done; exit code 2 if there is anything."""
    for problem in problems:
        LOGGER.error("%s", problem)
    if problems:
        raise typer.Exit(USAGE_ERROR)
