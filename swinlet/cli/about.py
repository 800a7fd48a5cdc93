"""``swinlet info | schema``: about the program itself."""

import json
from typing import Annotated

import typer

from swinlet.cli.common import user_errors
from swinlet.options import json_schema, markdown_reference


def info_command() -> None:
    """Say which versions are installed and which path computes blocks and convolutions on the CPU."""
    with user_errors():
        from swinlet.installation import describe

        for name, value in describe().items():
            typer.echo(f"{name + ':':<17}{value}")


def schema_command(markdown: Annotated[bool, typer.Option(help="Write a page for people instead.")] = False) -> None:
    """Write the JSON Schema of option files to standard output."""
    typer.echo(markdown_reference().rstrip() if markdown else json.dumps(json_schema(), indent=2))
