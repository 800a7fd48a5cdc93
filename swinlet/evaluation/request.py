"""From the words of a command line to an ``EvaluationRequest``; wrong words are told of before torch is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from swinlet.errors import OptionError
from swinlet.options import Precision
from swinlet.options.names import NETWORKS
from swinlet.tiles import overlap_for, tile_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from swinlet.evaluation.evaluate import EvaluationRequest

SCALES = (1, 2, 3, 4, 8)


def evaluation_request(
    weights: Sequence[str],
    testsets: Sequence[str],
    *,
    teacher: str | None,
    download: bool,
    scale: int | None,
    net_types: Sequence[str],
    self_ensemble: bool,
    tile: int | None,
    tile_overlap: int | None,
    precision: str,
    device: str,
    latency_size: int,
    save_images: Path | None,
) -> EvaluationRequest:
    """Check and translate what ``swinlet evaluate`` was given; ``weights`` and ``net_types`` may begin with ``LABEL=``.

    Raises:
        OptionError: naming every fault.
    """
    faults: list[str] = []
    if not testsets:
        faults.append("--testset: missing: name a folder with HR images, e.g. --testset testsets/Set5")
    if scale is not None and scale not in SCALES:
        faults.append(f"--scale {scale}: must be one of {', '.join(map(str, SCALES))}")
    overlap = overlap_for(tile, tile_overlap)
    if tile is not None and (fault := tile_fault(tile, overlap)) is not None:
        faults.append(fault)
    types = net_types_of(net_types, faults)
    folders = folders_of(testsets, faults)
    place = device_of(device, precision, latency_size, faults)
    from swinlet.evaluation.evaluate import EvaluationRequest
    from swinlet.evaluation.models import NamedFile
    from swinlet.inference import RestoreOptions

    return EvaluationRequest(
        weights=tuple(NamedFile(word, label) for label, word in map(labelled, weights)),
        testsets=folders,
        restore=RestoreOptions(place, cast("Precision", precision), self_ensemble, tile, overlap),
        teacher=teacher,
        download=download,
        scale=scale,
        net_types=types,
        save_images=save_images,
        latency_size=latency_size,
    )


def net_types_of(words: Sequence[str], faults: list[str]) -> dict[str | None, str]:
    """``[LABEL=]NAME`` of each ``--net-type``; None is the label of a word without one. Appends to ``faults``."""
    types: dict[str | None, str] = {}
    for word in words:
        label, _, name = word.rpartition("=")
        if name not in NETWORKS:
            faults.append(f"--net-type {word}: must be one of {', '.join(NETWORKS)}")
        types[label or None] = name
    return types


def folders_of(testsets: Sequence[str], faults: list[str]) -> tuple[Path, ...]:
    """The folder of each ``--testset``; an unset shell variable is not the current folder. Appends to ``faults``."""
    if not all(testsets):
        faults.append("--testset: is empty: name a folder")
    return tuple(map(Path, testsets))


def device_of(device: str, precision: str, latency_size: int, faults: list[str]) -> torch.device:
    """The device, after all else: torch is imported for it, and not for words that are wrong.

    Raises:
        OptionError: naming every fault, and those given.
    """
    if precision not in get_args(Precision):
        faults.append(f"--precision {precision}: must be one of {', '.join(get_args(Precision))}")
    if latency_size < 0:
        faults.append(f"--latency-size {latency_size}: must be at least 0")
    if faults:
        raise OptionError("\n".join(faults))
    from swinlet.utils.device import check_precision, inference_device

    place = inference_device(device)
    check_precision("--precision", precision, place.type)
    return place


def labelled(word: str) -> tuple[str | None, str]:
    """``C=models/1_E.pth`` -> label C and the path; a path that has a ``=`` of its own stays whole."""
    label, equals, path = word.partition("=")
    if not equals or not label or not path or "/" in label or "\\" in label or _exists(word):
        return None, word
    return label, path


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except OSError:  # too long for a path: it has a label, then
        return False
