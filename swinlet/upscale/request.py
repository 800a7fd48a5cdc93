"""From the words of a command line to what ``upscale_files`` needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, get_args

from swinlet.errors import OptionError
from swinlet.evaluation.request import SCALES, device_of
from swinlet.options import Backend, Precision
from swinlet.options.names import NETWORKS
from swinlet.tiles import overlap_for, tile_fault
from swinlet.upscale.jobs import Job, others, plan

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from swinlet.inference import Tile
    from swinlet.upscale.upscaler import Upscaler


@dataclass(frozen=True)
class UpscaleRequest:
    """What to enlarge, and how.

    Attributes:
        jobs: pictures and their results.
        n_skipped: pictures whose result exists.
        others: files in the folders that are no pictures, by suffix.
        upscaler: the network.
    """

    jobs: list[Job]
    n_skipped: int
    others: Counter[str]
    upscaler: Upscaler


def upscale_request(
    pictures: Sequence[str],
    out: str,
    *,
    weights: str | None,
    scale: int | None,
    net_type: str | None,
    download: bool,
    backend: str,
    self_ensemble: bool,
    tile: str,
    tile_overlap: int | None,
    precision: str,
    device: str,
    form: str | None,
    overwrite: bool,
) -> UpscaleRequest:
    """Check and translate what ``swinlet upscale`` was given.

    Raises:
        OptionError: naming every fault.
        DataError: pictures that are not there, results that would collide.
        CheckpointError: the weights.
    """
    faults: list[str] = []
    if scale is not None and scale not in SCALES:
        faults.append(f"--scale {scale}: must be one of {', '.join(map(str, SCALES))}")
    if net_type is not None and net_type not in NETWORKS:
        faults.append(f"--net-type {net_type}: must be one of {', '.join(NETWORKS)}")
    side = _tile(tile, tile_overlap, faults)
    if backend not in get_args(Backend):
        faults.append(f"--backend {backend}: must be one of {', '.join(get_args(Backend))}")
    if precision not in get_args(Precision):
        faults.append(f"--precision {precision}: must be one of {', '.join(get_args(Precision))}")
    if faults:
        raise OptionError("\n".join(faults))
    jobs, n_skipped = plan(pictures, out, form, overwrite)
    if backend == "torch":
        device_of(device, precision, 0, faults)
    from swinlet.upscale.upscaler import load  # and torch, which takes a second: not for wrong words

    upscaler = load(
        weights,
        scale=scale,
        net_type=net_type,
        download=download,
        backend=cast("Backend", backend),
        device=device,
        precision=cast("Precision", precision),
        tile=side,
        tile_overlap=tile_overlap,
        self_ensemble=self_ensemble,
    )
    return UpscaleRequest(jobs, n_skipped, others(pictures, out), upscaler)


def _tile(word: str, overlap: int | None, faults: list[str]) -> Tile:
    if word in ("auto", "none"):
        if (fault := tile_fault(None, overlap_for(None, overlap))) is not None:
            faults.append(fault)
        return "auto" if word == "auto" else None
    if not (word.isascii() and word.isdigit() and len(word) < 10):
        faults.append(f"--tile {word}: must be auto, none or a number of LR pixels")
        return None
    side = int(word)
    fault = tile_fault(side, overlap_for(side, overlap))
    if fault is not None:
        faults.append(fault)
    return side
