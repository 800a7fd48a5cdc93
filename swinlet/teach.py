"""Offline teachers: a network's answers to whole images, and features, stored once, for training without it."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

import swinlet
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.pairs import shown_list
from swinlet.data.prepare import remove_others
from swinlet.data.prepare_image import array_path, stored_array
from swinlet.data.prepared import ARRAYS, INDEX, LOCK, ArrayFile, SourceFile, size_problem
from swinlet.data.taught import (
    VERSION,
    Answer,
    Feature,
    TaughtIndex,
    Teacher,
    array_files,
    is_source,
    is_taught,
    read_taught,
)
from swinlet.errors import CheckpointError, DataError, MachineError
from swinlet.evaluation.models import Contender, NamedFile, open_contenders
from swinlet.evaluation.request import SCALES, device_of
from swinlet.inference import RestoreOptions
from swinlet.models.taps import FeatureMaps
from swinlet.options import Precision
from swinlet.tiles import overlap_for, tile_fault
from swinlet.utils.console import LOGGER, ProgressBar
from swinlet.utils.files import locked, write_text
from swinlet.utils.image_io import to_uint8

Array = NDArray[Any]

_NAME = "swinlet teach"
_OPTIONS = {"dataroot_H": "--data", "dataroot_L": "--low", 'on_bad_image = "skip"': "--on-bad-image skip"}
_HEADER = 128  # bytes of a .npy file before its values


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
        features: stages of a SwinIR, by their numbers, or names of modules whose outputs are stored, too.
    """

    teacher: str
    download: bool
    data: Path
    low: Path | None
    out: Path
    scale: int | None
    on_bad_image: str
    restore: RestoreOptions
    features: tuple[str, ...] = ()


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
    features: Sequence[str] = (),
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
    if self_ensemble and features:
        faults.append("--self-ensemble: is for images alone; what is a feature's mean over views? Leave one out")
    if on_bad_image not in ("error", "skip"):
        faults.append(f"--on-bad-image {on_bad_image}: use error or skip")
    place = device_of(device, precision, 0, faults)
    restore = RestoreOptions(place, cast("Precision", precision), self_ensemble, tile, overlap)
    return TeachRequest(teacher, download, data, low, out, scale, on_bad_image, restore, tuple(features))


def teach(request: TeachRequest, bar: ProgressBar) -> TaughtIndex:
    """Make or bring up to date a taught folder. Answers that are there already are not computed again.

    Features that are stored there stay, and are stored of new images as well.

    Raises:
        CheckpointError: the teacher cannot be opened.
        OptionError: it has no such features.
        DataError: images are bad, or the folder holds something else.
        MachineError: the disk has no room for all.
        OSError: the folder cannot be written; what is done stays, and another call goes on from there.
    """
    teacher = _open_teacher(request)
    scale, out = teacher.network.upscale, request.out
    dataset = _open_images(request, teacher)
    record = _record(teacher, request)
    try:
        old = _check_out(out, record, scale)
        asked = _Asked(teacher, dataset, _words(old, request))
        (out / ARRAYS).mkdir(parents=True, exist_ok=True)
        with locked(out / LOCK, wait=False):
            jobs = list(_jobs(asked, dataset, record, out / ARRAYS))
            begun = TaughtIndex(
                swinlet=swinlet.__version__,
                teacher=record,
                n_channels=teacher.network.in_chans,
                scale=scale,
                source_H=os.path.abspath(dataset.root_H),
                source_L=None if dataset.root_L is None else os.path.abspath(dataset.root_L),
                images=[],
            )
            if old is not None:
                _refuse_to_lose(request, old, dataset, jobs)
            _check_room(out, jobs)
            if old is None:
                _write(out, begun)  # so that another call knows whose the first answers are
            images = _answers(asked, jobs, old, bar)
            index = begun.model_copy(update={"images": images, "features": asked.features})
            _write(out, index)
            remove_others(out / ARRAYS, array_files(index))
    except BlockingIOError as error:
        raise DataError(f"{out} is being made by another process: wait for it") from error
    except OSError as error:
        stays = "; what is done stays, and the same command goes on from there" if (out / INDEX).exists() else ""
        raise OSError(error.errno, f"{error.strerror}{stays}", error.filename or str(out)) from error
    what = "answers" + "".join(f", {feature.name} ({feature.width} wide)" for feature in index.features)
    size = _shown(sum(array.size for array in array_files(index)))
    LOGGER.info("%s of %s for %d images in %s (%s)", what, record.kind, len(jobs), out, size)
    LOGGER.info("train with datasets.train.dataroot_T=%s", out)
    return index


def _write(out: Path, index: TaughtIndex) -> None:
    write_text(out / INDEX, json.dumps(index.model_dump(), indent=1) + "\n")


def _refuse_to_lose(request: TeachRequest, old: TaughtIndex, dataset: DatasetSR, jobs: Sequence["_Job"]) -> None:
    """Answers to images that were changed or removed go with them, but not because another folder is named.

    Raises:
        DataError: it is, and has not all the images, or all are others.
    """
    now = {job.high.path: job.paths[0].name for job in jobs}
    lost = [answer.high.path for answer in old.images if answer.T.file != now.get(answer.high.path)]
    missing = [path for path in lost if path not in now]
    all_lost = len(lost) == len(old.images) and any((request.out / ARRAYS).iterdir())
    if (missing or all_lost) and not is_source(old, dataset.root_H, dataset.root_L):
        listed = shown_list(missing or lost) or "  - the first ones; it was stopped"
        raise DataError(
            f"--out {request.out} has answers to images of {old.source_H}, which would be lost:\n{listed}\n"
            "Name another folder, or remove this one"
        )
    if lost:
        LOGGER.info("%s: answers to images that were changed or removed since (%d) go", request.out, len(lost))


def _words(old: TaughtIndex | None, request: TeachRequest) -> list[str]:
    """What names the features: those that are stored already come first, as runs may have counted them."""
    return [*(feature.name for feature in (old.features if old is not None else [])), *request.features]


def _open_images(request: TeachRequest, teacher: Contender) -> DatasetSR:
    try:
        return DatasetSR(
            request.data,
            request.low,
            scale=teacher.network.upscale,
            n_channels=teacher.network.in_chans,
            phase="test",
            on_bad_image="skip" if request.on_bad_image == "skip" else "error",
            name=_NAME,
        )
    except DataError as error:  # which speaks of an option file
        text = str(error)
        for key, option in _OPTIONS.items():
            text = text.replace(f"{_NAME}.{key}", option)
        raise DataError(text) from error


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


def _check_out(out: Path, record: Teacher, scale: int) -> TaughtIndex | None:
    """The index that is there; a folder that holds something else is refused."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise DataError(f"--out {out} is not a folder: name another one")
    if not is_taught(out):
        if any(out.iterdir()) and not (out / LOCK).exists():
            raise DataError(f"--out {out} is neither empty nor a folder of swinlet teach: name another one")
        return None
    old = read_taught(out)
    before, now = old.teacher.model_dump(exclude={"file"}), record.model_dump(exclude={"file"})
    differences = [f"{key} {before[key]} there, {now[key]} now" for key in now if before[key] != now[key]]
    differences += [f"scale {old.scale} there, {scale} now"] if old.scale != scale else []
    if differences:
        raise DataError(
            f"--out {out} has other answers ({'; '.join(differences)}): name another folder, or remove this one"
        )
    return old


class _Asked:
    """A teacher that answers to the images of a data set, with the outputs of some of its modules.

    Args:
        teacher: it.
        dataset: whole images.
        words: what ``FeatureMaps`` takes.
    """

    def __init__(self, teacher: Contender, dataset: DatasetSR, words: Sequence[str]) -> None:
        self._restorer, self._dataset = teacher.restorer, dataset
        self.network = teacher.network
        self._compute = FeatureMaps(self.network, words, "--features") if words else None
        found = zip(self._compute.names, self._compute.widths, strict=True) if self._compute is not None else ()
        self.features = [Feature(name=name, width=width) for name, width in found]
        self.answer = lru_cache(maxsize=1)(self._answer)  # one image has several arrays

    def _answer(self, index: int) -> list[Array]:
        """The restored image, uint8 (H, W, C), and features, float16 (h, w, width)."""
        image = self._dataset[index]["L"]
        if self._compute is None:
            return [self._restorer(image.permute(1, 2, 0).numpy())]
        scales = [self.network.upscale, *(1 for _ in self.features)]
        on_device = image[None].to(self._restorer.options.device).float() / 255
        restored, *maps = self._restorer.maps(on_device, self._compute, scales)
        arrays = [to_uint8(restored[0])]
        for feature, tokens in zip(self.features, maps, strict=True):
            array = tokens[0].permute(1, 2, 0).half().contiguous().cpu().numpy()
            if not np.isfinite(array).all():
                raise CheckpointError(
                    f"--features {feature.name}: of {self._dataset.names[index]} it has values that are no numbers, "
                    "or beyond 65,504, which float16 cannot hold: name other modules"
                )
            arrays.append(array)
        return arrays


class _Job(NamedTuple):
    """One image: its number, its files, and where its answer and features are, with the bytes that these take."""

    number: int
    high: SourceFile
    low: SourceFile | None
    paths: list[Path]
    sizes: list[int]


def _jobs(asked: _Asked, dataset: DatasetSR, record: Teacher, arrays: Path) -> Iterator[_Job]:
    settings = record.model_dump(exclude={"kind", "file"}).values()
    scale, channels = asked.network.upscale, asked.network.in_chans
    for i in range(len(dataset)):
        high, low = dataset.sources(i)
        made_of = (VERSION, *settings, scale, channels, high.sha256, None if low is None else low.sha256)
        names = [(), *((feature.name,) for feature in asked.features)]
        height, width = dataset.L_size(i)
        values = [channels * scale**2, *(2 * feature.width for feature in asked.features)]
        yield _Job(
            number=i,
            high=high,
            low=low,
            paths=[array_path(arrays, high.path, (*made_of, *name)) for name in names],
            sizes=[_HEADER + height * width * value for value in values],
        )


def _check_room(out: Path, jobs: Sequence[_Job]) -> None:
    """Say what is still to be written, and refuse to begin what the disk cannot hold."""
    sizes = [size for job in jobs for path, size in zip(job.paths, job.sizes, strict=True) if size_problem(path, size)]
    needed, free = sum(sizes), shutil.disk_usage(out).free
    LOGGER.info("%s: %d arrays to be written, %s", out, len(sizes), _shown(needed))
    if needed > free:
        raise MachineError(
            f"--out {out}: {_shown(needed)} are to be written, and {_shown(free)} are free on its disk: name fewer "
            "--features, fewer images, or a folder on another disk"
        )


def _answers(asked: _Asked, jobs: Sequence[_Job], old: TaughtIndex | None, bar: ProgressBar) -> list[Answer]:
    bar.start(len(jobs))
    checksums = {array.file: array.sha256 for array in array_files(old)} if old is not None else {}
    answers: list[Answer] = []
    for job in jobs:
        bar.advance(job.high.path)
        arrays = [_stored(asked, job, which, checksums) for which in range(len(job.paths))]
        answers.append(Answer(high=job.high, low=job.low, T=arrays[0], features=arrays[1:]))
    return answers


def _stored(asked: _Asked, job: _Job, which: int, checksums: Mapping[str, str]) -> ArrayFile:
    kind, path = np.float16 if which else np.uint8, job.paths[which]
    return stored_array(path, lambda: asked.answer(job.number)[which], kind, checksums.get(path.name))[0]


def _shown(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
