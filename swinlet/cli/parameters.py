"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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
WeightsArgument = Annotated[
    str,
    typer.Argument(help="A .pth or .safetensors, a run's folder, or hf://user/model.", metavar="WEIGHTS"),
]
TestSets = Annotated[
    list[str] | None,
    typer.Option(
        "--testset",
        help="Folder of images, or with HR/ and optionally LR_bicubic/X4/ (other layouts: docs); repeat for more.",
        metavar="DIR",
    ),
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
