"""Making prepared folders: decode every image once, several at a time, so that a killed run can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

import swinlet
from swinlet.data import prepared, taught
from swinlet.data.pairs import find_pairs, report_problems
from swinlet.data.prepare_image import Preparer, Request
from swinlet.data.prepared import ARRAYS, INDEX, LOCK, ArrayFile, Image, Index
from swinlet.errors import DataError, OptionError
from swinlet.options.schema import file_name_template
from swinlet.utils.console import LOGGER, ProgressBar
from swinlet.utils.files import locked, write_text
from swinlet.utils.image_io import list_images

T = TypeVar("T")
R = TypeVar("R")


def prepare_request(
    images: Path,
    low: Path | None,
    scale: int | None,
    n_channels: int,
    on_bad_image: str,
    workers: int | None,
    filename_tmpl: str | None = None,
) -> Request:
    """What the command line asks for.

    Raises:
        OptionError: a value is not allowed.
        DataError: a folder is missing, or holds no image.
    """
    if scale not in (None, 1, 2, 3, 4, 8):
        raise OptionError(f"--scale {scale}: use 1, 2, 3, 4 or 8")
    if n_channels not in (1, 3):
        raise OptionError(f"--n-channels {n_channels}: use 3 for RGB or 1 for gray")
    if on_bad_image not in ("error", "skip"):
        raise OptionError(f"--on-bad-image {on_bad_image}: use error or skip")
    if low is not None and scale is None:
        raise OptionError("--low needs --scale: which scale have these images?")
    if filename_tmpl is not None:
        try:
            file_name_template(filename_tmpl)
        except ValueError as error:
            raise OptionError(f"--filename-tmpl {filename_tmpl}: {error}") from error
    for folder in (images, low):
        if folder is not None:
            list_images(folder)
    return Request(images, low, scale, n_channels, on_bad_image, workers, filename_tmpl=filename_tmpl)


def prepare(request: Request, out: Path | None, bar: ProgressBar) -> Index:
    """Make or bring up to date a prepared folder.

    Images that are there already and whose files have not changed are not decoded again.

    Args:
        request: what to prepare.
        out: the folder; it must be missing, empty, or from the same request.
        bar: shows the progress.

    Raises:
        OptionError: ``out`` is None.
        DataError: images are bad, or the folder holds something else.
        OSError: the folder cannot be written; what was done stays, and another call goes on from there.
    """
    if out is None:
        raise OptionError("--out: missing; name the folder to make")
    try:
        old = _check_out(request, out)
        (out / ARRAYS).mkdir(parents=True, exist_ok=True)
        with locked(out / LOCK, wait=False):
            index = fill(request, out, bar, old)
    except BlockingIOError as error:
        raise DataError(f"{out} is being prepared by another process: wait for it") from error
    except OSError as error:
        reason = f"{error.strerror}; what is done stays, and the same command goes on from there"
        raise OSError(error.errno, reason, error.filename or str(out)) from error
    size = sum(array.size for array in prepared.array_files(index)) / 1e6
    LOGGER.info("%d images in %s (%.1f MB); train with dataroot_H=%s", len(index.images), out, size, out)
    return index


def fill(request: Request, out: Path, bar: ProgressBar, old: Index | None) -> Index:
    """Write arrays and index; the caller holds the folder's lock.

    Args:
        request, out, bar: as of ``prepare``.
        old: what the folder held before, to be used where nothing has changed.

    Raises:
        DataError, OSError: as ``prepare``.
    """
    pairs, problems = find_pairs(
        request.dataroot_H, request.dataroot_L, request.scale, request.option, request.filename_tmpl
    )
    listed = _listed(request.dataroot_H), _listed(request.dataroot_L)
    known = {image.high.path: image for image in old.images} if old else {}
    checksums = {array.file: array.sha256 for array in prepared.array_files(old)} if old else {}
    worker = Preparer(request, out / ARRAYS, known, checksums)
    results = list(in_threads(worker, pairs, request.workers, bar, lambda pair: pair.name))
    images = [result for result in results if isinstance(result, Image)]
    problems += [problem for result in results if not isinstance(result, Image) for problem in result]
    report_problems(problems, len(images), request.on_bad_image, request.option, "--on-bad-image skip")
    index = _index(request, images, problems, listed)
    write_text(out / INDEX, json.dumps(index.model_dump(), indent=1) + "\n")
    remove_others(out / ARRAYS, prepared.array_files(index))
    return index


def in_threads(
    work: Callable[[T], R], items: Iterable[T], workers: int | None, bar: ProgressBar, name: Callable[[T], str]
) -> Iterator[R]:
    """Results in the order of the items. Where one fails, those not begun are not begun any more."""
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        jobs = {pool.submit(work, item): item for item in items}
        bar.start(len(jobs))
        for job in as_completed(jobs):
            bar.advance(name(jobs[job]))
            job.result()
        yield from (job.result() for job in jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def verify_prepared(folder: Path, workers: int | None, bar: ProgressBar) -> list[str]:
    """Read every array of a prepared folder, or of a taught one.

    Returns:
        One text for each array that is missing or is not what was written.

    Raises:
        DataError: the folder is not a prepared one.
    """
    if taught.is_taught(folder):
        arrays, command = list(taught.array_files(taught.read_taught(folder))), "swinlet teach"
    elif prepared.is_prepared(folder):
        arrays, command = list(prepared.array_files(prepared.read_index(folder))), "swinlet prepare"
    else:
        raise DataError(f"{folder} is no prepared folder: it has no {INDEX} of swinlet prepare or swinlet teach")

    def check(array: ArrayFile) -> str | None:
        return prepared.wrong_checksum(folder, array)

    problems = [problem for problem in in_threads(check, arrays, workers, bar, lambda array: array.file) if problem]
    if not arrays:
        return [f"{folder} is not finished: run {command} again as before"]
    if problems:
        return [*problems, f"{folder}: remove these files, and run {command} again as before"]
    LOGGER.info("%s: all %d arrays are what was written", folder, len(arrays))
    return []


def _check_out(request: Request, out: Path) -> Index | None:
    """The index of an earlier call with the same request.

    Raises:
        DataError: the folder holds something else.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise DataError(f"{out} is not a folder: name another one")
    if not prepared.is_prepared(out):
        if any(out.iterdir()) and not (out / LOCK).exists():
            raise DataError(f"{out} is neither empty nor a prepared folder: name another one")
        return None
    old = prepared.read_index(out)
    before = (old.source_H, old.source_L, old.scale, old.n_channels)
    now = (*_sources(request), request.scale, request.n_channels)
    if before != now:
        names = ("images", "low-resolution images", "scale", "channels")
        differences = [f"{name} {a} there, {b} now" for name, a, b in zip(names, before, now, strict=True) if a != b]
        advice = "name another folder, or remove this one"
        raise DataError(f"{out} was prepared from something else ({'; '.join(differences)}): {advice}")
    return old


def _sources(request: Request) -> tuple[str, str | None]:
    low = request.dataroot_L
    return os.path.abspath(request.dataroot_H), None if low is None else os.path.abspath(low)


def _listed(root: Path | None) -> set[str]:
    return set() if root is None else {path.relative_to(root).as_posix() for path in list_images(root)}


def _index(request: Request, images: list[Image], left_out: list[str], listed: tuple[set[str], set[str]]) -> Index:
    source_H, source_L = _sources(request)
    used_H = {image.high.path for image in images}
    used_L = {image.low.path for image in images if image.low is not None}
    return Index(
        swinlet=swinlet.__version__,
        n_channels=request.n_channels,
        scale=request.scale,
        source_H=source_H,
        source_L=source_L,
        images=images,
        left_out=left_out,
        unused_H=sorted(listed[0] - used_H),
        unused_L=sorted(listed[1] - used_L),
    )


def remove_others(folder: Path, arrays: Iterable[ArrayFile]) -> None:
    """Arrays of images that have changed since, or were removed, and what a killed process left half written."""
    wanted = {array.file for array in arrays}
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
