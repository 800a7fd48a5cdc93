"""Comparing written files with the network that they were made from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from swinlet import kernels
from swinlet.engines import Backend, open_engine
from swinlet.engines.engine import package
from swinlet.export.request import Format
from swinlet.export.write import Exported
from swinlet.models.network_swinir import SwinIR
from swinlet.models.onnx_graph import WeightPrecision
from swinlet.models.open_network import open_weights
from swinlet.utils.timing import median_seconds

TOLERANCE: Mapping[WeightPrecision, float] = {"fp32": 0.05, "fp16": 1.0, "int8": 4.0}
"""Levels of 255 by which a pixel of noise may differ."""

_ENGINES: Mapping[str, Backend] = {"onnx": "onnx", "openvino": "openvino"}
_PACKAGES: Mapping[Backend, str] = {"onnx": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Verification:
    """How a written file compares.

    Attributes:
        exported: the file.
        difference: the largest from the network, in levels of 255, over ``sizes``.
        milliseconds: median for one image; None: not measured, as the network itself is what computes the file.
    """

    exported: Exported
    difference: float
    milliseconds: float | None


@dataclass(frozen=True)
class Verified:
    """All files of an export.

    Attributes:
        files: them.
        milliseconds: median of the network itself for one image; None: not measured.
        size: of the image, in LR pixels along a side.
        runs: how many each median is of.
    """

    files: Sequence[Verification]
    milliseconds: float | None
    size: int
    runs: int

    def problems(self, precision: WeightPrecision) -> list[str]:
        """What differs by more than it may."""
        limit = TOLERANCE[precision]
        return [
            f"{file.exported.path}: differs from the network by {file.difference:.3f} levels of 255, more than {limit}"
            for file in self.files
            if not file.difference <= limit
        ]


def sizes(window: int) -> list[tuple[int, int, int]]:
    """(batch, height, width) of the images that files are verified with: multiples of the window and others, smaller
    than the window, and two at a time."""
    return [
        (1, 2 * window, 2 * window),
        (1, 4 * window, 3 * window),
        (1, 3 * window + 1, 2 * window - 1),
        (1, max(window - 3, 1), window + 5),
        (2, 2 * window + 3, window),
    ]


def require_engines(formats: Iterable[Format]) -> None:
    """Refuse, before anything is written, what ``verify`` could not compute.

    Raises:
        SwinletError: an engine is not installed.
    """
    for name in formats:
        if name in _ENGINES:
            package(_PACKAGES[_ENGINES[name]])


def verify(network: SwinIR, exported: Sequence[Exported], net_type: str | None, latency_size: int) -> Verified:
    """Read the files back and compare.

    Args:
        network: what they were made from, in eval mode.
        exported: the files.
        net_type: as of the request.
        latency_size: side of the LR image for latency; 0: do not measure.

    Raises:
        CheckpointError: a file cannot be read back or computed.
        SwinletError: its engine is not installed.
    """
    generator, channels = torch.Generator().manual_seed(0), network.in_chans
    images = [torch.rand(n, channels, h, w, generator=generator) for n, h, w in sizes(network.window_size)]
    with torch.inference_mode():
        opened = [_open(file, net_type) for file in exported]
        expected = [network(image) for image in images]
        differences = [max(map(_difference, map(run, images), expected)) for run in opened]
        times: dict[str, float] = {}
        runs = 0
        if latency_size:
            image = torch.rand(1, channels, latency_size, latency_size, generator=generator)
            timed = {file.format: run for file, run in zip(exported, opened, strict=True) if file.format in _ENGINES}
            seconds, runs = median_seconds([partial(run, image) for run in (network, *timed.values())])
            times = {name: 1000 * time for name, time in zip(("eager", *timed), seconds, strict=True)}
    files = [
        Verification(file, difference, times.get(file.format))
        for file, difference in zip(exported, differences, strict=True)
    ]
    return Verified(files, times.get("eager"), latency_size, runs)


def _open(file: Exported, net_type: str | None) -> Callable[[Tensor], Tensor]:
    if file.format in _ENGINES:
        return open_engine(_ENGINES[file.format], file.path, key="--verify")
    return open_weights(file.path, "--verify", net_type)[0]


def _difference(image: Tensor, expected: Tensor) -> float:
    return float((image - expected).abs().max()) * 255 if image.shape == expected.shape else float("inf")


def as_text(verified: Verified) -> str:
    """A table for a terminal."""
    status = kernels.status()
    rows = [["", "size", "difference", "latency"]]
    if verified.milliseconds is not None:
        rows.append([f"torch ({status.path} kernels)", "", "", f"{verified.milliseconds:.0f} ms"])
    for file in verified.files:
        latency = "as torch" if file.exported.format not in _ENGINES else ""
        if file.milliseconds is not None:
            latency = f"{file.milliseconds:.0f} ms"
        size = f"{file.exported.size / 1e6:.2f} MB"
        rows.append([str(file.exported.path), size, f"{file.difference:.4f}", latency])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(n) for cell, n in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    sides = "difference: the largest in levels of 255, over five sizes"
    if verified.milliseconds is not None:
        threads = torch.get_num_threads()
        sides += (
            f"; latency: median of {verified.runs} for {verified.size}x{verified.size} LR pixels, {threads} "
            f"thread{'s' if threads > 1 else ''}"
        )
    return "\n".join([*(line.rstrip() for line in lines), sides])
