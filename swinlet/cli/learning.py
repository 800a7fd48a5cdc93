"""``swinlet prepare | teach | train``: from photographs to weights."""

from pathlib import Path
from typing import Annotated

import typer

from swinlet.cli.common import report_problems, set_up, user_errors
from swinlet.cli.parameters import Device, Dist, Download, OptFile, Overrides, PrecisionName
from swinlet.options import load_options
from swinlet.utils.console import ProgressBar


def prepare_command(
    images: Annotated[Path, typer.Argument(help="Folder of high-resolution images.", metavar="DIR")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make or to bring up to date.")] = None,
    low: Annotated[Path | None, typer.Option("--low", help="Folder of their low-resolution partners.")] = None,
    scale: Annotated[int | None, typer.Option(help="Of the low-resolution images; without --low, bicubic.")] = None,
    filename_tmpl: Annotated[
        str | None, typer.Option("--filename-tmpl", help='Names of --low, such as "{}x4"; default: the usual ones.')
    ] = None,
    n_channels: Annotated[int, typer.Option("--n-channels", help="3 for RGB, 1 for gray.")] = 3,
    on_bad_image: Annotated[str, typer.Option(help="error, or skip to leave bad images out.")] = "error",
    workers: Annotated[int | None, typer.Option(help="Threads; default: one for each processor.", min=1)] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Only check the folder DIR, of prepare or teach.")] = False,
) -> None:
    """Decode images once, into a folder that training reads without decoding; or check such a folder.

    Stopped, it goes on where it was when started again. Exit code 2 if --verify finds damaged files.
    """
    with user_errors():
        from swinlet.data.prepare import prepare, prepare_request, verify_prepared

        with ProgressBar() as bar:
            if verify:
                problems = verify_prepared(images, workers, bar)
            else:
                request = prepare_request(images, low, scale, n_channels, on_bad_image, workers, filename_tmpl)
                prepare(request, out, bar)
                problems = []
        report_problems(problems)


def teach_command(
    teacher: Annotated[str, typer.Option("--teacher", help="The teacher's weights.", metavar="FILE")],
    data: Annotated[
        Path, typer.Option("--data", help="Folder of high-resolution images, or a prepared folder.", metavar="DIR")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to make or to bring up to date.", metavar="DIR")],
    low: Annotated[
        Path | None, typer.Option("--low", help="Folder of their low-resolution partners.", metavar="DIR")
    ] = None,
    scale: Annotated[int | None, typer.Option(help="Of the low-resolution images; default: the teacher's.")] = None,
    on_bad_image: Annotated[str, typer.Option(help="error, or skip to leave bad images out.")] = "error",
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Mean over the 8 flips and turns of each image.")
    ] = False,
    tile: Annotated[int, typer.Option(help="Larger images are restored in tiles of so many LR pixels.")] = 512,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features", help="Store what this stage of a SwinIR (from 0) or module puts out, too.", metavar="NAME"
        ),
    ] = None,
    precision: PrecisionName = "fp32",
    device: Device = "auto",
    download: Download = False,
) -> None:
    """Store a teacher's answers to whole images once, for training without it: datasets.train.dataroot_T.

    Stopped, it goes on where it was when started again; swinlet prepare --verify checks what is there.
    """
    with user_errors("use a smaller --tile"):
        from swinlet.teach import teach, teach_request

        request = teach_request(
            teacher,
            data,
            low,
            out,
            download=download,
            scale=scale,
            on_bad_image=on_bad_image,
            self_ensemble=self_ensemble,
            tile=tile,
            features=features or [],
            precision=precision,
            device=device,
        )
        with ProgressBar() as bar:
            teach(request, bar)


def train_command(opt: OptFile, overrides: Overrides = None, dist: Dist = None) -> None:
    """Train a student, or go on with a run that was stopped."""
    set_up()  # main_train_student.py has no callback
    changes = [*(overrides or []), *([f"dist={dist.lower()}"] if dist is not None else [])]
    with user_errors():
        options = load_options(opt, changes)
        from swinlet.train import train  # torch takes seconds to import: not for --help and wrong options

        train(options)
