"""Enlarging pictures one after the other, while others are read and written."""

import errno
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast, get_args

from swinlet.errors import DataError, MachineError
from swinlet.upscale.jobs import Job
from swinlet.upscale.upscaler import Upscaler
from swinlet.utils.console import LOGGER, ProgressBar
from swinlet.utils.files import refusal, write_atomic
from swinlet.utils.picture import HOLD_ALPHA, Format, Picture, encode, opaque, read_picture, refusal_of

AHEAD = 2
"""Pictures that are read, and that wait to be written, while one is enlarged."""


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
    bar.start(len(jobs))
    with ThreadPoolExecutor(2 * AHEAD) as pool:
        writing: deque[Future[None]] = deque()
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
                text = str(error)
                problems.append(text if job.name in text else f"{job.name}: {text}")
                continue
            while len(writing) >= AHEAD:
                writing.popleft().result()
            writing.append(pool.submit(_write, job, result, form, quality))
        bar.show("writing")
        for future in writing:
            future.result()
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
    tile = upscaler.tile_of(picture)
    if tile is not None and tile < max(picture.size):
        LOGGER.info("%s: %dx%d pixels, in tiles of %d", job.name, picture.size[1], picture.size[0], tile)


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
