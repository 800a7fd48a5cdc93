"""The command line: ``swinlet prepare | train | evaluate | ...``, and the seed's ``main_train_student.py``."""

import errno
import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from swinlet.errors import (
    CheckpointError,
    MachineError,
    SharedError,
    SwinletError,
    TrainingError,
    UnreachableError,
)
from swinlet.options import json_schema, load_options, markdown_reference
from swinlet.utils.console import LOGGER, ProgressBar, log_to_console
from swinlet.utils.files import write_bytes, write_text
from swinlet.utils.memory import is_out_of_memory

FAILURE, USAGE_ERROR, INTERRUPTED = 1, 2, 130

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

OptFile = Annotated[Path, typer.Option("--opt", help="Option file (JSON with comments).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the option file: key.path=value ...", metavar="KEY.PATH=VALUE"),
]
Dist = Annotated[
    str | None, typer.Option("--dist", help="Same as dist=true or dist=false, as in the reference.", hidden=True)
]
WeightFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        help="A student's .pth or .safetensors, a run's folder, or hf://user/model; repeat to compare.",
        metavar="[LABEL=]FILE",
    ),
]
TestSets = Annotated[
    list[str] | None,
    typer.Option("--testset", help="Folder with HR/ and optionally LR_bicubic/X4/; repeat for more.", metavar="DIR"),
]
TeacherFile = Annotated[str | None, typer.Option("--teacher", help="The teacher's weights.", metavar="FILE")]
Download = Annotated[
    bool, typer.Option("--download", help="Let hf:// weights be fetched; without, those in the cache are used.")
]
NetTypes = Annotated[
    list[str] | None,
    typer.Option("--net-type", help="Network of weight files that do not tell SwinIR from V2.", metavar="[LABEL=]NAME"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="fp32, bf16 or fp16.")]
TileOverlap = Annotated[
    int | None, typer.Option(help="LR pixels that tiles share; default: 48, at most a third of the tile.")
]
LatencySize = Annotated[int, typer.Option(help="Side of the LR image for latency; 0: do not measure.")]


def set_up() -> None:
    """Before any command, and before torch is imported; safe to call twice."""
    # Threads that wait for others spin less long before they sleep: GNU OpenMP's own limit is 300,000 rounds, paid
    # where the machine has other work (benchmarks/openmp_spin.py). Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    log_to_console()


@app.callback()
def main() -> None:
    """Compact SwinIR students, trained by knowledge distillation."""
    set_up()


@app.command("prepare")
def prepare_command(
    images: Annotated[Path, typer.Argument(help="Folder of high-resolution images.", metavar="DIR")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make or to bring up to date.")] = None,
    low: Annotated[Path | None, typer.Option("--low", help="Folder of their low-resolution partners.")] = None,
    scale: Annotated[int | None, typer.Option(help="Of the low-resolution images; without --low, bicubic.")] = None,
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
                request = prepare_request(images, low, scale, n_channels, on_bad_image, workers)
                prepare(request, out, bar)
                problems = []
        report_problems(problems)


@app.command("teach")
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


@app.command("train")
def train_command(opt: OptFile, overrides: Overrides = None, dist: Dist = None) -> None:
    """Train a student, or go on with a run that was stopped."""
    set_up()  # main_train_student.py has no callback
    changes = [*(overrides or []), *([f"dist={dist.lower()}"] if dist is not None else [])]
    with user_errors():
        options = load_options(opt, changes)
        from swinlet.train import train  # torch takes seconds to import: not for --help and wrong options

        train(options)


@app.command("evaluate")
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
        from swinlet.evaluation import evaluate, tables
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


@app.command("upscale")
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
        from swinlet.upscale.run import upscale_files

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
        try:
            with ProgressBar() as bar:
                problems = upscale_files(request.jobs, request.upscaler, quality, bar)
        except KeyboardInterrupt as error:
            LOGGER.info("stopped: what is written is whole; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from error
        skipped = f", {request.n_skipped} were there already (--overwrite)" if request.n_skipped else ""
        LOGGER.info("enlarged x%d: %d%s", request.upscaler.scale, len(request.jobs) - len(problems), skipped)
        report_problems(problems)


@app.command("report")
def report_command(
    runs: Annotated[
        list[str], typer.Argument(help="Folders of runs, or their metrics.jsonl or train.log.", metavar="[LABEL=]RUN")
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
    """Write one HTML page about one run or several: curves, scores, pictures, token maps, options.

    The page needs no other file and no network. Runs may be going on. Teacher and test sets are those of the runs'
    options, unless others are named. Exit code 2 if anything is missing on the page.
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


@app.command("web")
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


@app.command("export")
def export_command(
    weights: Annotated[str, typer.Argument(help="A .pth or .safetensors, or a run's folder.", metavar="WEIGHTS")],
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
        from swinlet.export import as_text, export, export_request, verify

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
        network, exported = export(request)
        for file in exported:
            LOGGER.info("written: %s (%.2f MB)", file.path, file.size / 1e6)
        if check:
            verified = verify(network, exported, request.net_type, latency_size)
            typer.echo(as_text(verified))
            report_problems(verified.problems(request.precision))


@app.command("push-to-hub")
def push_command(
    weights: Annotated[str, typer.Argument(help="A .pth or .safetensors, or a run's folder.", metavar="WEIGHTS")],
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
            check_writable(*(out / name for name in files))
            for name, content in files.items():
                write_bytes(out / name, content)
        for name, content in files.items():
            typer.echo(f"{name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
        if dry_run:
            typer.echo(f"nothing was sent; without --dry-run these go to {model}{' (private)' * private}")
        else:
            typer.echo(f"published: {upload(model, files, private=private, message=message)}")
            typer.echo(f"name it {PREFIX}{model}")


@app.command("info")
def info_command() -> None:
    """Say which versions are installed and which path computes blocks and convolutions on the CPU."""
    with user_errors():
        from swinlet.installation import describe

        for name, value in describe().items():
            typer.echo(f"{name + ':':<17}{value}")


@app.command("schema")
def schema_command(markdown: Annotated[bool, typer.Option(help="Write a page for people instead.")] = False) -> None:
    """Write the JSON Schema of option files to standard output."""
    typer.echo(markdown_reference().rstrip() if markdown else json.dumps(json_schema(), indent=2))


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


def refuse_other_content(page: Path) -> None:
    """A page is written over an older page, never over a run's log that was named by mistake."""
    if page.is_file():
        with page.open("rb") as file:
            head = file.read(100).lstrip().lower()
        if head and not head.startswith(b"<!doctype html"):
            raise SwinletError(f"--out {page}: this file exists and is no HTML page: name another one")


def report_problems(problems: list[str]) -> None:
    """Say what could not be done; exit code 2 if there is anything."""
    for problem in problems:
        LOGGER.error("%s", problem)
    if problems:
        raise typer.Exit(USAGE_ERROR)


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
        LOGGER.error("%s", f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error)
        raise typer.Exit(FAILURE) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        LOGGER.error("out of memory: %s (%s)", less_memory, error)
        raise typer.Exit(FAILURE) from error


def run() -> None:
    """Entry point of ``swinlet``."""
    app()


def run_train() -> None:
    """Entry point of ``main_train_student.py``."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(train_command)
    program()
