"""From the words of a command line to a ``ReportRequest``."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from swinlet.errors import DataError
from swinlet.evaluation.detail import Crop
from swinlet.evaluation.request import device_of, folders_of, labelled, net_types_of
from swinlet.inference import RestoreOptions
from swinlet.options import Precision
from swinlet.report.build import ReportRequest
from swinlet.report.evidence import parse_crop

MIN_SIDE = 8


def report_request(
    runs: Sequence[str],
    *,
    teacher: str | None,
    download: bool,
    testsets: Sequence[str],
    net_types: Sequence[str],
    crops: Sequence[str],
    crop_side: int,
    precision: str,
    device: str,
    latency_size: int,
    curves_only: bool,
) -> ReportRequest:
    """Check and translate what ``swinlet report`` was given.

    Raises:
        OptionError: naming every fault.
    """
    faults: list[str] = []
    if crop_side < MIN_SIDE:
        faults.append(f"--crop-side {crop_side}: must be at least {MIN_SIDE}")
    chosen: dict[str, Crop] = {}
    for word in crops:
        try:
            name, crop = parse_crop(word)
            chosen[name] = crop
        except DataError as error:
            faults.append(f"--crop: {error}")
    types = net_types_of(net_types, faults)
    folders = folders_of(testsets, faults)
    place = device_of(device, precision, latency_size, faults)
    return ReportRequest(
        runs=tuple((label, Path(word)) for label, word in map(labelled, runs)),
        restore=RestoreOptions(place, cast("Precision", precision)),
        teacher=teacher,
        download=download,
        testsets=folders,
        net_types=types,
        crops=chosen,
        crop_side=crop_side,
        latency_size=latency_size,
        curves_only=curves_only,
    )
