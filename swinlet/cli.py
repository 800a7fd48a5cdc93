"""The command line: ``swinlet train``, ``swinlet schema``, and the seed's ``main_train_student.py``."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from swinlet.errors import SwinletError
from swinlet.options import json_schema, load_options
from swinlet.utils.console import LOGGER, log_to_console

USAGE_ERROR = 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

OptFile = Annotated[Path, typer.Option("--opt", help="Option file (JSON with comments).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the option file: key.path=value ...", metavar="[KEY.PATH=VALUE]..."),
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
        from swinlet.train import train  # torch takes seconds to import: not for --help and wrong options

        train(options)


@app.command("schema")
def schema_command() -> None:
    """Write the JSON Schema of option files to standard output."""
    typer.echo(json.dumps(json_schema(), indent=2))


@contextmanager
def user_errors() -> Generator[None, None, None]:
    """Show an error meant for users as its message alone, and leave with exit code 2."""
    try:
        yield
    except SwinletError as error:
        LOGGER.error("%s", error)
        raise typer.Exit(USAGE_ERROR) from error


def run() -> None:
    """Entry point of ``swinlet``."""
    app()


def run_train() -> None:
    """Entry point of ``main_train_student.py``."""
    typer.run(train_command)
