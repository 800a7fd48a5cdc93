"""The command line: ``swinlet prepare | train | evaluate | ...``, and the seed's ``main_train_student.py``."""

import gc

import typer

from swinlet.cli.about import info_command, schema_command
from swinlet.cli.common import set_up
from swinlet.cli.judging import evaluate_command, report_command
from swinlet.cli.learning import prepare_command, teach_command, train_command
from swinlet.cli.sharing import export_command, push_command
from swinlet.cli.studying import study_command
from swinlet.cli.using import upscale_command, web_command

_COMMANDS = {
    "prepare": prepare_command,
    "teach": teach_command,
    "train": train_command,
    "study": study_command,
    "evaluate": evaluate_command,
    "upscale": upscale_command,
    "report": report_command,
    "web": web_command,
    "export": export_command,
    "push-to-hub": push_command,
    "info": info_command,
    "schema": schema_command,
}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Compact SwinIR students, trained by knowledge distillation."""
    set_up()


for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def run() -> None:
    """Entry point of ``swinlet``."""
    _run(app)


def run_train() -> None:
    """Entry point of ``main_train_student.py``."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(train_command)
    _run(program)


def _run(program: typer.Typer) -> None:
    try:
        program(prog_name="swinlet" if program is app else None)
    finally:
        # Python goes through all objects of torch and gradio once more before it ends, for seconds; nothing is gained.
        gc.freeze()
