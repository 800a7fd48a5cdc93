"""From the words of a command line to an ``ExportRequest``."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from swinlet.errors import OptionError
from swinlet.find_weights import find_weights
from swinlet.models.onnx_graph import WeightPrecision
from swinlet.options.names import NETWORKS

Format = Literal["safetensors", "pth", "onnx", "openvino"]

SUFFIXES: Mapping[Format, str] = {"safetensors": ".safetensors", "pth": ".pth", "onnx": ".onnx", "openvino": ".xml"}


@dataclass(frozen=True)
class ExportRequest:
    """What is exported, and where to.

    Attributes:
        weights: the weight file.
        outputs: the file of each format; of OpenVINO's two the .xml.
        precision: of the weights in them.
        net_type: of a weight file that does not tell V1 from V2.
        options: the training's option file, whose checksum is written into the files.
    """

    weights: Path
    outputs: Mapping[Format, Path]
    precision: WeightPrecision
    net_type: str | None
    options: Path | None


def export_request(
    weights: str,
    formats: Sequence[str],
    *,
    out: Path | None,
    precision: str,
    net_type: str | None,
    options: Path | None,
    overwrite: bool,
    download: bool = False,
) -> ExportRequest:
    """Check and translate what ``swinlet export`` was given.

    Args:
        weights: a word for ``find_weights``.
        formats: none: that of the suffix of ``out``, or safetensors.
        out: a file, where there is one format; or a folder; None: the current folder.
        precision: "fp32", "fp16" or "int8".
        net_type: of weight files that do not tell V1 from V2.
        options: None: the newest in the folder of the run that the weights lie in.
        overwrite: existing files, but never the weights themselves.
        download: as for ``find_weights``.

    Raises:
        CheckpointError: a folder without weights.
        HubError: see ``find_weights``.
        OptionError: naming every fault.
    """
    faults = [f"--format {word}: must be one of {', '.join(SUFFIXES)}" for word in formats if word not in SUFFIXES]
    if precision not in get_args(WeightPrecision):
        faults.append(f"--precision {precision}: must be one of {', '.join(get_args(WeightPrecision))}")
    if net_type is not None and net_type not in NETWORKS:
        faults.append(f"--net-type {net_type}: must be one of {', '.join(NETWORKS)}")
    if options is not None and not options.is_file():
        faults.append(f"--options {options}: there is no such file")
    if faults:
        raise OptionError("\n".join(faults))
    file = find_weights(weights, "WEIGHTS", download=download)
    wanted = cast("list[Format]", list(dict.fromkeys(formats))) or [_format_of(out)]
    name = Path(os.path.abspath(weights)).name if Path(weights).is_dir() else file.stem  # of "..", too
    if precision != "fp32":
        name = f"{name}_{precision}"
    outputs = _outputs(wanted, out, name)
    faults += _unsuitable(wanted, precision)
    faults += _in_the_way(outputs.values(), file, overwrite)
    if faults:
        raise OptionError("\n".join(faults))
    return ExportRequest(file, outputs, cast("WeightPrecision", precision), net_type, options or options_of(file))


def files_of(path: Path) -> list[Path]:
    """The files that are written for one of ``ExportRequest.outputs``, in their order."""
    return [path.with_suffix(".bin"), path] if path.suffix.lower() == ".xml" else [path]


def _format_of(out: Path | None) -> Format:
    """What the suffix of a file asks for."""
    suffix = "" if out is None or out.is_dir() else out.suffix.lower()
    for name, own in SUFFIXES.items():
        if own == suffix:
            return name
    return "safetensors"


def _outputs(formats: Sequence[Format], out: Path | None, name: str) -> dict[Format, Path]:
    known = out is not None and not out.is_dir() and out.suffix.lower() in SUFFIXES.values()
    if out is not None and not known and not out.is_dir() and re.fullmatch(r"\.[a-zA-Z]+", out.suffix):
        ends = ", ".join(SUFFIXES.values())
        raise OptionError(f"--out {out}: ends with none of {ends}; a folder of this name has to exist")
    if out is None or not known:
        folder = Path() if out is None else out
        return {kind: folder / f"{name}{SUFFIXES[kind]}" for kind in formats}
    if len(formats) > 1:
        raise OptionError(f"--out {out}: is one file for {len(formats)} formats: name a folder")
    if out.suffix.lower() != SUFFIXES[formats[0]]:
        raise OptionError(f"--out {out}: files of format {formats[0]} end with {SUFFIXES[formats[0]]}")
    return {formats[0]: out}


def _unsuitable(formats: Sequence[Format], precision: str) -> list[str]:
    """int8 where it serves nobody; measured in docs/export.md."""
    reasons = {
        "safetensors": "weight files have no integers: other programs could not read them",
        "pth": "weight files have no integers: other programs could not read them",
        "openvino": "OpenVINO takes longer for it than for fp32; it computes any export in bf16 if asked to",
    }
    return [
        f"--precision int8 is for --format onnx alone, not {kind}: {reasons[kind]}"
        for kind in formats
        if precision == "int8" and kind in reasons
    ]


def _in_the_way(outputs: Iterable[Path], weights: Path, overwrite: bool) -> list[str]:
    faults: list[str] = []
    for path in [file for output in outputs for file in files_of(output)]:
        if path.exists() and weights.exists() and path.samefile(weights):
            faults.append(f"--out: {path} is the file to be exported: name another one")
        elif path.is_dir():
            faults.append(f"--out: {path} is a folder")
        elif path.exists() and not overwrite:
            faults.append(f"--out: {path} exists: name another file, or pass --overwrite")
    return faults


def options_of(weights: Path) -> Path | None:
    """The newest option file of the run that weights lie in: the names of ``swinlet train`` and KAIR hold the time."""
    if weights.absolute().parent.name != "models":
        return None
    return max((weights.absolute().parents[1] / "options").glob("*.json"), default=None)
