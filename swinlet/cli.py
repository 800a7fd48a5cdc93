"""The command line: ``swinlet train``, ``swinlet schema``, and the seed's ``main_train_student.py``."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from swinlet.errors import CheckpointError, SwinletError, TrainingError
from swinlet.options import json_schema, load_options, markdown_reference
from swinlet.utils.console import LOGGER, log_to_console

FAILURE, USAGE_ERROR = 1, 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

OptFile = Annotated[Path, typer.Option("--opt", help="Option file (JSON with comments).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the option file: key.path=value ...", metavar="KEY.PATH=VALUE"),
]
Dist = Annotated[
    str | None, typer.Option("--dist", help="Same as dist=true or dist=false, as in the reference.", hidden=True)
]


@app.callback()
def main() -> None:
    """Compact SwinIR students, trained by knowledge distillation."""
    log_to_console()


@app.command("train")
def train_command(opt: OptFile, overrides: Overrides = None, dist: Dist = None) -> None:
    """Train a student, or go on with a run that was stopped."""
    log_to_console()
    changes = [*(overrides or []), *([f"dist={dist.lower()}"] if dist is not None else [])]
    with user_errors():
        options = load_options(opt, changes)
        # Threads that wait for others spin less long before they sleep: GNU OpenMP's own limit is 300,000 rounds, paid
        # where the machine has other work (benchmarks/openmp_spin.py). Read when torch is imported.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        from swinlet.train import train  # torch takes seconds to import: not for --help and wrong options

        train(options)


@app.command("schema")
def schema_command(markdown: Annotated[bool, typer.Option(help="Write a page for people instead.")] = False) -> None:
    """Write the JSON Schema of option files to standard output."""
    typer.echo(markdown_reference().rstrip() if markdown else json.dumps(json_schema(), indent=2))


@contextmanager
def user_errors() -> Generator[None, None, None]:
    """Show what a user can mend as a message alone; anything else is a fault of this program and keeps its traceback.

    Exit codes: 2 for options, images and weights; 1 for what the machine refuses (disk, rights, memory) and for a run
    that went astray.
    """
    try:
        yield
    except SwinletError as error:
        LOGGER.error("%s", error)
        unwritten = isinstance(error, CheckpointError) and isinstance(error.__cause__, OSError)
        raise typer.Exit(FAILURE if unwritten or isinstance(error, TrainingError) else USAGE_ERROR) from error
    except OSError as error:
        LOGGER.error("%s", f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error)
        raise typer.Exit(FAILURE) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        LOGGER.error("out of memory: lower datasets.train.dataloader_batch_size or H_size (%s)", error)
        raise typer.Exit(FAILURE) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Of Python, of a GPU, of the CPU; told by name, as torch must not be imported for a wrong option."""
    is_torch_error = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or is_torch_error


def run() -> None:
    """Entry point of ``swinlet``."""
    app()


def run_train() -> None:
    """Entry point of ``main_train_student.py``."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(train_command)
    program()
