"""``swinlet upscale | web``: pictures, enlarged."""

from typing import Annotated

import typer

from swinlet.cli.common import INTERRUPTED, report_problems, user_errors
from swinlet.cli.parameters import Device, Download, NetTypes, PrecisionName, TeacherFile, TileOverlap, WeightFiles
from swinlet.utils.console import LOGGER, ProgressBar


def upscale_command(
    pictures: Annotated[
        list[str],
        typer.Argument(
            help='Files, folders, patterns such as "photos/*.png", or - for standard input.', metavar="PICTURE"
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="Folder, or file for one picture; - for standard output.")],
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="A .pth or .safetensors, a run's folder, or hf://user/model; default: the student that comes along.",
        ),
    ] = None,
    download: Download = False,
    scale: Annotated[int | None, typer.Option(help="Checked against the weights; chooses among those here.")] = None,
    net_type: Annotated[
        str | None, typer.Option("--net-type", help="Network of weights that do not tell SwinIR from V2.")
    ] = None,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Mean over the 8 flips and turns: 8 times the work.")
    ] = False,
    tile: Annotated[
        str, typer.Option(help="auto: as the memory allows; none; or a side in LR pixels.", metavar="auto|none|N")
    ] = "auto",
    tile_overlap: TileOverlap = None,
    backend: Annotated[str, typer.Option(help="torch; on the CPU also onnx (onnxruntime) or openvino.")] = "torch",
    precision: PrecisionName = "fp32",
    device: Device = "auto",
    form: Annotated[
        str | None, typer.Option("--format", help="png, jpg, webp, tiff or bmp; default: that of each picture.")
    ] = None,
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP; WebP of 100 is lossless.", min=1, max=100)] = 95,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Enlarge what is there already again.")] = False,
) -> None:
    """Enlarge pictures; colour profiles, EXIF, alpha, gray and 16 bits stay.

    What exists is left as it is, so a stopped command goes on where it was. Exit code 2 if a picture could not be
    enlarged; the others are, all the same.
    """
    with user_errors("use --tile with a smaller number"):
        from swinlet.upscale.request import upscale_request

        request = upscale_request(
            pictures,
            out,
            weights=weights,
            scale=scale,
            net_type=net_type,
            download=download,
            backend=backend,
            self_ensemble=self_ensemble,
            tile=tile,
            tile_overlap=tile_overlap,
            precision=precision,
            device=device,
            form=form,
            overwrite=overwrite,
        )
        from swinlet.upscale.run import upscale_files
        from swinlet.utils.image_io import counted

        try:
            with ProgressBar() as bar:
                problems = upscale_files(request.jobs, request.upscaler, quality, bar)
        except KeyboardInterrupt as error:
            LOGGER.info("stopped: what is written is whole; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from error
        skipped = f", {request.n_skipped} were there already (--overwrite)" if request.n_skipped else ""
        LOGGER.info("enlarged x%d: %d%s", request.upscaler.scale, len(request.jobs) - len(problems), skipped)
        if request.others:
            LOGGER.info("left out, as they are no pictures that are read: %s", counted(request.others))
        report_problems(problems)


def web_command(
    weights: WeightFiles = None,
    teacher: TeacherFile = None,
    scale: Annotated[int | None, typer.Option(help="Checked against the weights; chooses among those here.")] = None,
    net_type: NetTypes = None,
    download: Download = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other lets others in, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="To listen on; 0: any that is free.")] = 7860,
    device: Device = "auto",
    precision: PrecisionName = "fp32",
    max_pixels: Annotated[int, typer.Option(help="Of a picture that is enlarged; of larger ones a part is.")] = 500_000,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only say where the page is.")] = False,
) -> None:
    """Show a page to try networks: drop a picture, compare bicubic, students and teacher, with scores and times.

    Without --weights the student that comes along is shown, for --scale 2 or 4 (default). Nothing leaves this
    machine. Ctrl-C ends it.
    """
    with user_errors("lower --max-pixels"):
        from swinlet.web.request import web_request
        from swinlet.web.serve import serve

        request = web_request(
            weights or [],
            teacher=teacher,
            scale=scale,
            net_types=net_type or [],
            download=download,
            host=host,
            port=port,
            device=device,
            precision=precision,
            max_pixels=max_pixels,
            opens_browser=not no_browser,
        )
        serve(request)
