"""Enlarging pictures one after the other, while others are read and written."""

import errno
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast, get_args

from swinlet.errors import DataError, MachineError
from swinlet.upscale.jobs import Job
from swinlet.upscale.upscaler import Upscaler
from swinlet.utils.console import LOGGER, ProgressBar
from swinlet.utils.files import refusal, write_atomic
from swinlet.utils.picture import HOLD_ALPHA, Format, Picture, encode, opaque, read_picture, refusal_of

AHEAD = 2
"""Pictures that are read, and that wait to be written, while one is enlarged."""

# What stands in the way of one result; others, as a full disk, stand in the way of all.
_OF_ONE_FILE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL, errno.ELOOP, errno.EILSEQ)


def upscale_files(jobs: Sequence[Job], upscaler: Upscaler, quality: int, bar: ProgressBar) -> list[str]:
    """Enlarge pictures; one that cannot be read or enlarged leaves the others alone.

    Args:
        jobs: what and where to.
        upscaler: how.
        quality: of JPEG and WebP.
        bar: is advanced with each picture.

    Returns:
        What could not be enlarged, and why.

    Raises:
        MachineError: a result cannot be written.
    """
    problems: list[str] = []
    writing: deque[tuple[Job, Future[None]]] = deque()

    def refuse(job: Job, error: DataError) -> None:
        text = str(error)
        problems.append(text if job.name in text else f"{job.name}: {text}")

    def finish_one() -> None:
        job, written = writing.popleft()
        try:
            written.result()
        except MachineError:
            raise
        except DataError as error:
            refuse(job, error)

    bar.start(len(jobs))
    with ThreadPoolExecutor(2 * AHEAD) as pool:
        for job, reading in _read_ahead(jobs, pool):
            bar.advance(job.name)
            try:
                picture = reading.result()
                form = _format(job, picture)
                if form not in HOLD_ALPHA:
                    picture = opaque(picture)
                _refuse_early(job, picture, form, upscaler)
                result = upscaler.upscale_picture(picture)
            except DataError as error:
                refuse(job, error)
                continue
            while len(writing) >= AHEAD:
                finish_one()
            writing.append((job, pool.submit(_write, job, result, form, quality)))
        bar.show("writing")
        while writing:
            finish_one()
    return problems


def _read_ahead(jobs: Sequence[Job], pool: ThreadPoolExecutor) -> Iterator[tuple[Job, Future[Picture]]]:
    waiting: deque[tuple[Job, Future[Picture]]] = deque()
    for job in jobs:
        waiting.append((job, pool.submit(_read, job)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def _read(job: Job) -> Picture:
    if job.source is not None:
        return read_picture(job.source)
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  (it is where it was closed)
        raise DataError("cannot read standard input: it is closed")
    return read_picture("standard input", sys.stdin.buffer.read())


def _format(job: Job, picture: Picture) -> Format:
    if job.format is not None:
        return job.format
    return cast("Format", picture.format) if picture.format in get_args(Format) else "PNG"


def _refuse_early(job: Job, picture: Picture, form: Format, upscaler: Upscaler) -> None:
    height, width = (side * upscaler.scale for side in picture.size)
    fault = refusal_of(form, picture.alpha is not None, picture.colour.dtype == "uint16", (height, width))
    if fault is not None:
        raise DataError(f"{fault} (--format png)")
    if job.target is not None:
        _refuse_place(job.target)
    tile = upscaler.tile_of(picture)
    if tile is not None and tile < max(picture.size):
        LOGGER.info("%s: %dx%d pixels, in tiles of %d", job.name, picture.size[1], picture.size[0], tile)


def _refuse_place(target: Path) -> None:
    """Refuse a file that its name or a folder above it makes impossible, whatever else can be written."""
    try:
        target.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in _OF_ONE_FILE:
            raise DataError(f"cannot write {target}: {error.strerror}") from error


def _write(job: Job, picture: Picture, form: Format, quality: int) -> None:
    content = encode(picture, form, quality)
    try:
        if job.target is None:
            if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise OSError(errno.EBADF, "it is closed")
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            write_atomic(job.target, lambda file: file.write(content), shared=True)
    except OSError as error:
        raise MachineError(f"cannot write {job.target or 'standard output'}: {refusal(error)}") from error
