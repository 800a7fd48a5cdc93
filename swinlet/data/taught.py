"""Taught folders: a teacher's answers to whole images, stored once, and an index of them.

As in prepared folders, ``index.json`` is written last and ``arrays/`` holds uint8 (H, W, C) arrays in numpy's format.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from swinlet.data.pairs import Pair, shown_list
from swinlet.data.prepared import (
    ARRAYS,
    ArrayFile,
    Record,
    SourceFile,
    damaged_arrays,
    has_index,
    is_unchanged,
    read_index_as,
)
from swinlet.errors import DataError

FORMAT = "swinlet taught images"
VERSION = 1


class Teacher(Record):
    """Who answered, and how.

    Attributes:
        kind: architecture.
        file, sha256: its weights.
        precision, self_ensemble, tile, tile_overlap: as of ``RestoreOptions``.
    """

    kind: str
    file: str
    sha256: str
    precision: str
    self_ensemble: bool
    tile: PositiveInt | None
    tile_overlap: int


class Answer(Record):
    """The teacher's answer ``T`` to one image: that of ``low``, or, without it, of ``high`` made small."""

    high: SourceFile
    low: SourceFile | None
    T: ArrayFile


class TaughtIndex(Record):
    """``index.json``.

    Attributes:
        format, version, swinlet: by what and for whom it was written.
        teacher: who answered.
        n_channels, scale: of the answers.
        source_H, source_L: the folders that were named, absolute.
        images: the answers.
    """

    format: Literal["swinlet taught images"] = FORMAT
    version: Literal[1] = VERSION
    swinlet: str
    teacher: Teacher
    n_channels: Literal[1, 3]
    scale: int
    source_H: str
    source_L: str | None
    images: list[Answer]


def is_taught(folder: Path) -> bool:
    """Whether a folder has the index of a taught one.

    Raises:
        DataError: it cannot be read.
    """
    return has_index(folder, FORMAT)


def read_taught(folder: Path) -> TaughtIndex:
    """Read ``index.json``.

    Raises:
        DataError: there is none, it is damaged, or of another version.
    """
    if not is_taught(folder):
        raise DataError(f"{folder} is no folder of swinlet teach: it has no index of a teacher's answers")
    return read_index_as(TaughtIndex, folder, "run swinlet teach again")


def teach_command(index: TaughtIndex, folder: Path) -> str:
    """What brings a taught folder up to date."""
    words = ["swinlet", "teach", "--teacher", index.teacher.file, "--data", index.source_H, "--out", str(folder)]
    words += ["--low", index.source_L] if index.source_L is not None else []
    words += ["--scale", str(index.scale), "--precision", index.teacher.precision]
    words += ["--self-ensemble"] if index.teacher.self_ensemble else []
    words += ["--tile", str(index.teacher.tile)] if index.teacher.tile is not None else []
    return shlex.join(words)


def with_answers(
    pairs: list[Pair], root_H: Path, folder: Path, *, scale: int, n_channels: int, option: str
) -> tuple[list[Pair], Teacher]:
    """Pairs with the teacher's answers, which have to be those to these images, and the teacher; nothing is decoded.

    Args:
        pairs: of a data set, their H files below ``root_H``.
        folder: the taught folder.
        scale, n_channels, option: as of ``DatasetSR``.

    Raises:
        DataError: answers are missing, damaged, or belong to other images.
    """
    where = f"{option}.dataroot_T"
    try:
        index = read_taught(folder)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    for key, wanted, found in (("scale", scale, index.scale), ("n_channels", n_channels, index.n_channels)):
        if wanted != found:
            raise DataError(
                f"{where}: {folder} was made with {key} {found}, but {key} is {wanted}: name another folder"
            )
    answers = {answer.high.path: answer for answer in index.images}
    problems = list(damaged_arrays(folder, (answer.T for answer in index.images)))
    taught: list[Pair] = []
    for pair in pairs:
        answer = answers.get(os.path.relpath(pair.H_path, root_H).replace(os.sep, "/"))
        if answer is None:
            problems.append(f"{pair.H_path}: no answer")
            continue
        problems += _differences(pair, answer, scale)
        taught.append(pair._replace(T_array=folder / ARRAYS / answer.T.file))
    if problems:
        raise DataError(
            f"{where}: {folder} does not belong to these images ({len(problems)}):\n{shown_list(problems)}\n"
            f"Bring it up to date (answers that are right stay): {teach_command(index, folder)}"
        )
    return taught, index.teacher


def _differences(pair: Pair, answer: Answer, scale: int) -> Iterator[str]:
    """Why an answer is not that to a pair."""
    now = pair.sources or (None, None)
    files = [(pair.H_path, now[0], answer.high)]
    if (pair.L_path is None) != (answer.low is None):
        made = "made from this image" if answer.low is None else "another file"
        yield f"{pair.L_path or pair.H_path}: the teacher's low-resolution image was {made}"
    elif pair.L_path is not None and answer.low is not None:
        files.append((pair.L_path, now[1], answer.low))
    for path, source, then in files:
        same = source.sha256 == then.sha256 if source is not None else is_unchanged(path, then)
        if not same:
            yield f"{path}: not the image that the teacher answered to"
    size = tuple(side // scale * scale for side in pair.H_size)
    if (answer.T.height, answer.T.width) != size:
        yield f"{pair.H_path}: its answer has {answer.T.width}x{answer.T.height} pixels, not {size[1]}x{size[0]}"
