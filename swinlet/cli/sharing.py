"""``swinlet export | push-to-hub``: weights for other programs and people."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from swinlet.cli.common import check_writable, report_problems, user_errors
from swinlet.cli.parameters import Download, WeightsArgument
from swinlet.errors import SwinletError
from swinlet.utils.console import LOGGER
from swinlet.utils.files import write_bytes


def export_command(
    weights: WeightsArgument,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="safetensors (default), pth, onnx, openvino; repeat for more.", metavar="NAME"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File or folder; default: the current folder.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="Of the weights: fp32, fp16, int8 (onnx).")] = "fp32",
    net_type: Annotated[
        str | None, typer.Option("--net-type", help="Network of a file that does not tell SwinIR from V2.")
    ] = None,
    options: Annotated[
        Path | None,
        typer.Option("--options", help="The training's option file, to note its checksum; default: the run's."),
    ] = None,
    download: Download = False,
    check: Annotated[bool, typer.Option("--verify", help="Compare with the network, and measure.")] = False,
    latency_size: Annotated[
        int, typer.Option(min=0, help="Side of the LR image for latency; 0: do not measure.")
    ] = 128,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Write trained weights as files for other programs: safetensors, KAIR's .pth, ONNX, OpenVINO.

    Exit code 2 if --verify finds more than rounding errors.
    """
    with user_errors("pass a smaller --latency-size"):
        from swinlet.export.request import export_request
        from swinlet.export.sanity import untrained
        from swinlet.export.verification import as_text, require_engines, verify
        from swinlet.export.write import export

        request = export_request(
            weights,
            formats or [],
            out=out,
            precision=precision,
            net_type=net_type,
            options=options,
            overwrite=overwrite,
            download=download,
        )
        if check:
            require_engines(request.outputs)
        network, exported = export(request)
        for file in exported:
            LOGGER.info("written: %s (%.2f MB)", file.path, file.size / 1e6)
        if check:
            verified = verify(network, exported, request.net_type, latency_size)
            typer.echo(as_text(verified))
            if (remark := untrained(network)) is not None:
                LOGGER.warning("%s", remark)
            report_problems(verified.problems(request.precision))


def push_command(
    weights: WeightsArgument,
    model: Annotated[str, typer.Argument(help="Where to, on the Hugging Face hub.", metavar="USER/MODEL")],
    private: Annotated[bool, typer.Option("--private", help="A new model is shown to its owners alone.")] = False,
    card: Annotated[
        Path | None, typer.Option("--card", help="README.md of the model; default: one is made.", metavar="FILE")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option("--scores", help="Of swinlet evaluate --json, for the card.", metavar="FILE")
    ] = None,
    licence: Annotated[str | None, typer.Option("--license", help="Of the weights, e.g. apache-2.0.")] = None,
    net_type: Annotated[
        str | None, typer.Option("--net-type", help="Network of weights that do not tell SwinIR from V2.")
    ] = None,
    download: Download = False,
    message: Annotated[str, typer.Option("--message", help="Of the commit.")] = "Upload weights with swinlet",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write the files to.", metavar="DIR")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files of --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; say what would be sent.")] = False,
) -> None:
    """Publish a network on the Hugging Face hub: model.safetensors and a model card.

    Files of these names that the model has are replaced, in one commit. Log in first with `hf auth login`, or set
    HF_TOKEN.
    """
    with user_errors():
        from swinlet.hub import PREFIX, upload
        from swinlet.publish import files_to_publish

        if not message:
            raise SwinletError("--message: is empty")
        files = files_to_publish(
            weights, model, net_type=net_type, card=card, scores=scores, licence=licence, download=download
        )
        if out is not None:
            copies = {out / name: content for name, content in files.items()}
            check_writable(*copies)
            refuse_to_replace(copies, Path(weights), overwrite)
            for path, content in copies.items():
                write_bytes(path, content)
        for name, content in files.items():
            typer.echo(f"{name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
        if dry_run:
            typer.echo(f"nothing was sent; without --dry-run these go to {model}{' (private)' * private}")
        else:
            typer.echo(f"published: {upload(model, files, private=private, message=message)}")
            typer.echo(f"name it {PREFIX}{model}")


def refuse_to_replace(files: Mapping[Path, bytes], weights: Path, overwrite: bool) -> None:
    """Other content stays unless ``overwrite`` is given, what is published in any case."""
    for path, content in files.items():
        if not path.exists():
            continue
        if weights.exists() and path.samefile(weights):
            raise SwinletError(f"--out: {path} is the file to be published: name another folder")
        if not overwrite and path.read_bytes() != content:
            raise SwinletError(f"--out: {path} exists: name another folder, or pass --overwrite")
