"""``swinlet evaluate | report``: how good students are."""

from pathlib import Path
from typing import Annotated

import typer

from swinlet.cli.common import check_writable, report_problems, user_errors
from swinlet.cli.parameters import (
    Device,
    Download,
    LatencySize,
    NetTypes,
    PrecisionName,
    TeacherFile,
    TestSets,
    TileOverlap,
    WeightFiles,
)
from swinlet.errors import SwinletError
from swinlet.utils.console import LOGGER, ProgressBar
from swinlet.utils.files import write_text


def evaluate_command(
    weights: WeightFiles = None,
    teacher: TeacherFile = None,
    testset: TestSets = None,
    scale: Annotated[int | None, typer.Option(help="Needed without weights; else theirs.")] = None,
    download: Download = False,
    net_type: NetTypes = None,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Mean over the 8 flips and turns of each image.")
    ] = False,
    tile: Annotated[int | None, typer.Option(help="Restore in tiles of so many LR pixels: less memory.")] = None,
    tile_overlap: TileOverlap = None,
    precision: PrecisionName = "fp32",
    device: Device = "auto",
    latency_size: LatencySize = 128,
    save_images: Annotated[Path | None, typer.Option(help="Folder for the restored images.", metavar="DIR")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all results.", metavar="FILE")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write per-image values.", metavar="FILE")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the page.", metavar="FILE")] = None,
) -> None:
    """Score students, teacher and bicubic: PSNR and SSIM of Y and RGB, size, work, latency.

    Exit code 2 if anything could not be scored; the rest is, all the same.
    """
    with user_errors("use --tile"):
        from swinlet.evaluation.request import evaluation_request

        request = evaluation_request(
            weights or [],
            testset or [],
            teacher=teacher,
            download=download,
            scale=scale,
            net_types=net_type or [],
            self_ensemble=self_ensemble,
            tile=tile,
            tile_overlap=tile_overlap,
            precision=precision,
            device=device,
            latency_size=latency_size,
            save_images=save_images,
        )
        from swinlet.evaluation import tables
        from swinlet.evaluation.evaluate import evaluate

        outputs = [(json_file, tables.as_json), (csv_file, tables.as_csv), (markdown_file, tables.as_markdown)]
        wanted = [(path, form) for path, form in outputs if path is not None]
        check_writable(*(path for path, _ in wanted))
        if save_images is not None:
            check_writable(save_images / "any")
        with ProgressBar() as bar:
            evaluation = evaluate(request, bar)
        typer.echo(tables.as_text(evaluation))
        for path, form in wanted:
            write_text(path, form(evaluation))
        report_problems(evaluation.problems)


def report_command(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders of runs, or their metrics.jsonl or train.log; folders of studies, or their results.json.",
            metavar="[LABEL=]RUN",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.", metavar="FILE")],
    teacher: TeacherFile = None,
    download: Download = False,
    testset: TestSets = None,
    net_type: NetTypes = None,
    crop: Annotated[
        list[str] | None,
        typer.Option("--crop", help="Detail of a test image to show.", metavar="NAME:LEFT,TOP,SIDE"),
    ] = None,
    crop_side: Annotated[int, typer.Option(help="Side of the details that are found, in HR pixels.")] = 64,
    precision: PrecisionName = "fp32",
    device: Device = "auto",
    latency_size: LatencySize = 128,
    curves_only: Annotated[bool, typer.Option("--curves-only", help="No scores, no pictures: fast.")] = False,
) -> None:
    """Write one HTML page about one run or several, or studies: curves, scores, pictures, token maps, options.

    The page needs no other file and no network. Runs and studies may be going on. Teacher and test sets are those of
    the runs' options, unless others are named. Exit code 2 if anything is missing on the page.
    """
    with user_errors("use --curves-only"):
        try:
            from swinlet.report.build import build_report
            from swinlet.report.request import report_request
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "matplotlib":
                raise
            raise SwinletError("swinlet report draws with matplotlib: pip install 'swinlet[report]'") from error

        request = report_request(
            runs,
            teacher=teacher,
            download=download,
            testsets=testset or [],
            net_types=net_type or [],
            crops=crop or [],
            crop_side=crop_side,
            precision=precision,
            device=device,
            latency_size=latency_size,
            curves_only=curves_only,
        )
        check_writable(out)
        refuse_other_content(out)
        with ProgressBar() as bar:
            page, problems = build_report(request, bar)
        write_text(out, page)
        LOGGER.info("written: %s (%.1f MB)", out, len(page) / 1e6)
        report_problems(problems)


def refuse_other_content(page: Path) -> None:
    """A page is written over an older page, never over a run's log that was named by mistake."""
    if page.is_file():
        with page.open("rb") as file:
            head = file.read(100).lstrip().lower()
        if head and not head.startswith(b"<!doctype html"):
            raise SwinletError(f"--out {page}: this file exists and is no HTML page: name another one")
