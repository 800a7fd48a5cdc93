"""Offline teachers: the answers of a network to whole images, stored once, for training without it."""

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

import swinlet
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.prepare import remove_others
from swinlet.data.prepare_image import stored_array
from swinlet.data.prepared import ARRAYS, INDEX, LOCK
from swinlet.data.taught import VERSION, Answer, TaughtIndex, Teacher, is_taught, read_taught
from swinlet.errors import CheckpointError, DataError, OptionError
from swinlet.evaluation.models import Contender, NamedFile, open_contenders
from swinlet.evaluation.request import SCALES, device_of
from swinlet.inference import RestoreOptions
from swinlet.options import Precision
from swinlet.tiles import overlap_for, tile_fault
from swinlet.utils.console import LOGGER, ProgressBar
from swinlet.utils.files import locked, write_text

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class TeachRequest:
    """What ``swinlet teach`` is to do.

    Attributes:
        teacher: names its weights, see ``find_weights``.
        download: let ``hf://`` weights be fetched.
        data: folder of high-resolution images, or a prepared folder.
        low: folder of their low-resolution images; None: made from them, or as prepared.
        out: the folder to make or to bring up to date.
        scale: of the low-resolution images; None: the teacher's.
        on_bad_image: "error" or "skip".
        restore: how the teacher restores.
    """

    teacher: str
    download: bool
    data: Path
    low: Path | None
    out: Path
    scale: int | None
    on_bad_image: str
    restore: RestoreOptions


def teach_request(
    teacher: str,
    data: Path,
    low: Path | None,
    out: Path,
    *,
    download: bool,
    scale: int | None,
    on_bad_image: str,
    self_ensemble: bool,
    tile: int,
    precision: str,
    device: str,
) -> TeachRequest:
    """Check and translate the words of the command line.

    Raises:
        OptionError: naming every fault.
    """
    faults: list[str] = []
    if scale is not None and scale not in SCALES:
        faults.append(f"--scale {scale}: must be one of {', '.join(map(str, SCALES))}")
    overlap = overlap_for(tile, None)
    if (fault := tile_fault(tile, overlap)) is not None:
        faults.append(fault)
    if on_bad_image not in ("error", "skip"):
        faults.append(f"--on-bad-image {on_bad_image}: use error or skip")
    place = device_of(device, precision, 0, faults)
    if faults:
        raise OptionError("\n".join(faults))
    restore = RestoreOptions(place, cast("Precision", precision), self_ensemble, tile, overlap)
    return TeachRequest(teacher, download, data, low, out, scale, on_bad_image, restore)


def teach(request: TeachRequest, bar: ProgressBar) -> TaughtIndex:
    """Make or bring up to date a taught folder. Answers that are there already are not computed again.

    Raises:
        CheckpointError: the teacher cannot be opened.
        DataError: images are bad, or the folder holds something else.
        OSError: the folder cannot be written; what is done stays, and another call goes on from there.
    """
    teacher = _open_teacher(request)
    scale, out = teacher.network.upscale, request.out
    dataset = DatasetSR(
        request.data,
        request.low,
        scale=scale,
        n_channels=teacher.network.in_chans,
        phase="test",
        on_bad_image="skip" if request.on_bad_image == "skip" else "error",
        name="swinlet teach",
    )
    record = _record(teacher, request)
    try:
        _check_out(out, record, scale)
        (out / ARRAYS).mkdir(parents=True, exist_ok=True)
        with locked(out / LOCK, wait=False):
            index = TaughtIndex(
                swinlet=swinlet.__version__,
                teacher=record,
                n_channels=teacher.network.in_chans,
                scale=scale,
                source_H=os.path.abspath(dataset.root_H),
                source_L=None if dataset.root_L is None else os.path.abspath(dataset.root_L),
                images=_answers(teacher, dataset, record, out / ARRAYS, bar),
            )
            write_text(out / INDEX, json.dumps(index.model_dump(), indent=1) + "\n")
            remove_others(out / ARRAYS, [answer.T for answer in index.images])
    except BlockingIOError as error:
        raise DataError(f"{out} is being made by another process: wait for it") from error
    except OSError as error:
        reason = f"{error.strerror}; what is done stays, and the same command goes on from there"
        raise OSError(error.errno, reason, error.filename or str(out)) from error
    size = sum(answer.T.size for answer in index.images) / 1e6
    LOGGER.info("%d answers of %s in %s (%.1f MB); train with dataroot_T=%s", len(dataset), record.kind, out, size, out)
    return index


def _open_teacher(request: TeachRequest) -> Contender:
    file = NamedFile(request.teacher, origin="--teacher")
    found, problems = open_contenders(
        [], file, scale=request.scale, net_types={}, options=request.restore, download=request.download
    )
    if problems:
        raise CheckpointError("\n".join(problems))
    return found[0]


def _record(teacher: Contender, request: TeachRequest) -> Teacher:
    restore = request.restore
    return Teacher(
        kind=teacher.card.net_type,
        file=os.path.abspath(teacher.card.path),
        sha256=teacher.card.sha256,
        precision=restore.precision,
        self_ensemble=restore.self_ensemble,
        tile=None if restore.tile == "auto" else restore.tile,
        tile_overlap=restore.tile_overlap,
    )


def _check_out(out: Path, record: Teacher, scale: int) -> None:
    """Refuse a folder that holds something else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"--out {out} is not a folder: name another one")
    if not is_taught(out):
        if any(out.iterdir()) and not (out / LOCK).exists():
            raise DataError(f"--out {out} is neither empty nor a folder of swinlet teach: name another one")
        return
    old = read_taught(out)
    before, now = old.teacher.model_dump(exclude={"file"}), record.model_dump(exclude={"file"})
    differences = [f"{key} {before[key]} there, {now[key]} now" for key in now if before[key] != now[key]]
    differences += [f"scale {old.scale} there, {scale} now"] if old.scale != scale else []
    if differences:
        raise DataError(
            f"--out {out} has other answers ({'; '.join(differences)}): name another folder, or remove this one"
        )


def _answers(teacher: Contender, dataset: DatasetSR, record: Teacher, arrays: Path, bar: ProgressBar) -> list[Answer]:
    settings = record.model_dump(exclude={"kind", "file"})
    bar.start(len(dataset))
    answers: list[Answer] = []
    for i, name in enumerate(dataset.names):
        bar.advance(name)
        high, low = dataset.sources(i)
        seen = high.sha256, None if low is None else low.sha256
        made_of = (VERSION, *settings.values(), teacher.network.upscale, teacher.network.in_chans, *seen)
        array, _ = stored_array(arrays, high.path, made_of, partial(_answer, teacher, dataset, i))
        answers.append(Answer(high=high, low=low, T=array))
    return answers


def _answer(teacher: Contender, dataset: DatasetSR, index: int) -> Array:
    return teacher.restorer(dataset[index]["L"].permute(1, 2, 0).numpy())
