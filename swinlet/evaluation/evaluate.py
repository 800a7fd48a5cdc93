"""One evaluation, from files to results."""

import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import swinlet
from swinlet.errors import DataError, SwinletError
from swinlet.evaluation.latency import measure_latency
from swinlet.evaluation.models import Contender, NamedFile, open_contenders
from swinlet.evaluation.results import Evaluation, TestSetResult
from swinlet.evaluation.scoring import Image, Picture, score_testset
from swinlet.evaluation.testsets import OpenTestSet, open_testset
from swinlet.inference import RestoreOptions
from swinlet.utils.console import ProgressBar
from swinlet.utils.image_io import save_image
from swinlet.utils.memory import is_out_of_memory
from swinlet.utils.names import distinct, printable

SetObserver = Callable[[OpenTestSet, Picture, Mapping[str, Image]], None]


@dataclass(frozen=True)
class EvaluationRequest:
    """What to score, on what, and how.

    Attributes:
        weights: the students.
        testsets: folders, see ``open_testset``.
        restore: device, precision, tiles, self-ensemble.
        teacher: weight file, as ``NamedFile.word``.
        download: let ``hf://`` weights be fetched.
        scale: needed without networks; otherwise theirs, and others are refused.
        net_types: label (None: all) -> net_type of weight files that do not tell V1 from V2.
        save_images: folder for all pictures, ``<folder>/<test set>/<model>/<image>.png``.
        latency_size: side of the LR image that latency is measured with; 0: not at all.
    """

    weights: tuple[NamedFile, ...]
    testsets: tuple[Path, ...]
    restore: RestoreOptions
    teacher: str | None = None
    download: bool = False
    scale: int | None = None
    net_types: Mapping[str | None, str] = field(default_factory=dict[str | None, str])
    save_images: Path | None = None
    latency_size: int = 128


def evaluate(request: EvaluationRequest, bar: ProgressBar) -> Evaluation:
    """Score everything that can be scored; what cannot be is told in ``problems``.

    Raises:
        SwinletError: nothing can be scored at all.
    """
    begin = time.time()
    contenders, problems = open_contenders(
        request.weights,
        None if request.teacher is None else NamedFile(request.teacher, origin="--teacher"),
        scale=request.scale,
        net_types=request.net_types,
        options=request.restore,
        download=request.download,
    )
    scale = request.scale or (contenders[0].network.upscale if contenders else None)
    if scale is None:
        raise SwinletError("\n".join(problems or ["no scale is known: pass --scale, e.g. --scale 4"]))
    testsets = _open_testsets(request.testsets, scale, contenders, problems)
    if not testsets:
        raise DataError("\n".join(problems))
    observe = None if request.save_images is None else _image_saver(request.save_images)
    sets, faults = score_testsets(testsets, contenders, scale, bar, observe)
    faults += measure(contenders, request.latency_size, bar)
    cards = [contender.card for contender in contenders]
    return Evaluation(scale, sets, cards, problems + faults, provenance(request.restore, begin))


def score_testsets(
    testsets: Sequence[OpenTestSet],
    contenders: Sequence[Contender],
    scale: int,
    bar: ProgressBar,
    observe: SetObserver | None = None,
) -> tuple[list[TestSetResult], list[str]]:
    """Score all contenders on all test sets; the second result tells what is wrong with images left out."""
    bar.start(sum(len(testset.dataset) for testset in testsets) * len(contenders))
    sets: list[TestSetResult] = []
    problems: list[str] = []
    for testset in testsets:
        watch = None if observe is None else partial(observe, testset)
        result, faults = score_testset(testset, contenders, scale, observe=watch, advance=bar.advance)
        sets.append(result)
        problems += faults
    return sets, problems


def measure(contenders: Sequence[Contender], size: int, bar: ProgressBar) -> list[str]:
    """Note the latency on the contenders' cards, not at all with ``size`` 0; returns what is wrong."""
    if contenders and size:
        bar.show("measuring latency")
        try:
            times = measure_latency([contender.restorer for contender in contenders], size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return [f"--latency-size {size}: out of memory: choose less"]
        for contender, latency in zip(contenders, times, strict=True):
            contender.card.latency = latency
    return []


def _open_testsets(
    folders: tuple[Path, ...], scale: int, contenders: list[Contender], problems: list[str]
) -> list[OpenTestSet]:
    n_channels = contenders[0].network.in_chans if contenders else 3
    found: list[OpenTestSet] = []
    for folder in folders:
        try:
            testset = open_testset(folder, scale, n_channels)
            found.append(replace(testset, name=distinct(testset.name, [other.name for other in found])))
        except DataError as error:
            problems.append(str(error))
    return found


def _image_saver(folder: Path) -> SetObserver:
    folders: dict[str, str] = {}  # label -> folder name

    def save(testset: OpenTestSet, picture: Picture, restored: Mapping[str, Image]) -> None:
        for label, image in restored.items():
            if label not in folders:
                folders[label] = distinct(_as_folder_name(label), folders.values())
            save_image(folder / _as_folder_name(testset.name) / folders[label] / f"{picture.name}.png", image)

    return save


def _as_folder_name(text: str) -> str:
    """Without what leads elsewhere, or what some system does not allow."""
    plain = re.sub(r'[\\/:*?"<>|]', "_", printable(text))
    return plain.strip(". ") or "_"


def provenance(restore: RestoreOptions, begin: float) -> dict[str, Any]:
    """Where numbers come from: versions, machine, settings, command line; ``begin`` is in seconds since 1970."""
    device = restore.device
    return {
        "swinlet": swinlet.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(device),
        "threads": torch.get_num_threads(),
        "precision": restore.precision,
        "self_ensemble": restore.self_ensemble,
        "tile": restore.tile,
        "tile_overlap": restore.tile_overlap if restore.tile is not None else None,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin)),
        "seconds": round(time.time() - begin, 1),
    }


def _processor(device: torch.device) -> str:
    """The processor's name where the system tells it."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{device.type}: {name}"
