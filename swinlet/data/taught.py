"""Taught folders: a teacher's answers to whole images, and chosen features, stored once, and an index of them.

As in prepared folders, ``index.json`` is written last and ``arrays/`` holds arrays in numpy's format: answers uint8
(H, W, C), features float16 (h, w, C) with one token for each LR pixel.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator
from typing_extensions import Self

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


class Feature(Record):
    """What one module of the teacher puts out: its name in the teacher's state dict, and how many channels it has."""

    name: str
    width: PositiveInt


class Answer(Record):
    """The teacher's answer ``T`` to one image: that of ``low``, or, without it, of ``high`` made small.

    With its token maps, one for each of the index's features.
    """

    high: SourceFile
    low: SourceFile | None
    T: ArrayFile
    features: list[ArrayFile] = Field(default_factory=list[ArrayFile])

    @property
    def arrays(self) -> list[ArrayFile]:
        """All of them."""
        return [self.T, *self.features]


class TaughtIndex(Record):
    """``index.json``.

    Attributes:
        format, version, swinlet: by what and for whom it was written.
        teacher: who answered.
        n_channels, scale: of the answers.
        source_H, source_L: the folders that were named, absolute.
        features: those stored with each answer.
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
    features: list[Feature] = Field(default_factory=list[Feature])
    images: list[Answer]

    @model_validator(mode="after")
    def _check_features(self) -> Self:
        if any(len(answer.features) != len(self.features) for answer in self.images):
            raise ValueError("an image has other features than the rest")
        return self


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


def is_source(index: TaughtIndex, root_H: Path, root_L: Path | None) -> bool:
    """Whether these are the folders that were named when the answers were stored."""
    low = None if root_L is None else os.path.abspath(root_L)
    return (os.path.abspath(root_H), low) == (index.source_H, index.source_L)


def array_files(index: TaughtIndex) -> Iterator[ArrayFile]:
    """All arrays of an index."""
    for answer in index.images:
        yield from answer.arrays


def chosen_features(index: TaughtIndex, folder: Path, names: Sequence[str] | None, option: str) -> list[int]:
    """Which of the features of an index are those with these names; None: all.

    Args:
        index, folder: of the answers.
        names: ``train.feature_taps``.
        option: the section that names the folder, for messages.

    Raises:
        DataError: there are none, or not these.
    """
    stored = [feature.name for feature in index.features]
    missing = [name for name in names or [] if name not in stored]
    if stored and not missing:
        return [stored.index(name) for name in names] if names is not None else list(range(len(stored)))
    has = f"has only the features {', '.join(stored)}" if stored else "has images of the teacher, but no features"
    near = difflib.get_close_matches(missing[0], stored) if missing and stored else []
    hint = f" (did you mean {near[0]} in train.feature_taps?)" if near else ""
    raise DataError(
        f"{option}.dataroot_T: {folder} {has}{hint}. Add some (what is there stays): "
        f"{teach_command(index, folder, missing or ['0'])}; or leave dataroot_T out, and each step asks the network"
    )


def teach_command(
    index: TaughtIndex, folder: Path, more: Sequence[str] = (), images: tuple[Path, Path | None] | None = None
) -> str:
    """What brings a taught folder up to date, and adds more features: to answers of several views, elsewhere.

    ``images`` are the folders of high- and low-resolution images, if not those that are answered to.
    """
    views = index.teacher.self_ensemble
    out = f"{folder}_features" if more and views else str(folder)
    high, low = (index.source_H, index.source_L) if images is None else images
    words = ["swinlet", "teach", "--teacher", index.teacher.file, "--data", str(high), "--out", out]
    words += ["--low", str(low)] if low is not None else []
    words += ["--scale", str(index.scale), "--precision", index.teacher.precision]
    words += ["--self-ensemble"] if views and not more else []
    words += ["--tile", str(index.teacher.tile)] if index.teacher.tile is not None else []
    for name in more:  # those that are there stay
        words += ["--features", name]
    return shlex.join(words)


def with_answers(
    pairs: list[Pair],
    roots: tuple[Path, Path | None],
    folder: Path,
    named: tuple[Path, Path | None],
    *,
    scale: int,
    n_channels: int,
    features: Sequence[str] | None,
    option: str,
) -> tuple[list[Pair], Teacher, list[Feature]]:
    """Pairs with the teacher's answers, which have to be those to these images; nothing is decoded.

    Args:
        pairs: of a data set.
        roots: folders that the paths of their files begin with, H and L.
        folder: the taught folder.
        named: the folders of high- and low-resolution images as the user gave them.
        scale, n_channels, features, option: as of ``DatasetSR``.

    Returns:
        The pairs, the teacher, and its features that are wanted.

    Raises:
        DataError: answers are missing, damaged, or belong to other images.
    """
    where = f"{option}.dataroot_T"
    try:
        index = read_taught(folder)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    for key, ours, found in (("scale", scale, index.scale), ("n_channels", n_channels, index.n_channels)):
        if ours != found:
            raise DataError(f"{where}: {folder} was made with {key} {found}, but {key} is {ours}: name another folder")
    wanted = [] if features is not None and not features else chosen_features(index, folder, features, option)
    answers = {answer.high.path: answer for answer in index.images}
    problems = list(damaged_arrays(folder, array_files(index)))
    taught: list[Pair] = []
    kept = 0
    for pair in pairs:
        answer = answers.get(os.path.relpath(pair.H_path, roots[0]).replace(os.sep, "/"))
        if answer is None:
            problems.append(f"{pair.H_path}: no answer")
            continue
        found = list(_differences(pair, answer, scale))
        kept += not found
        problems += found
        files = [answer.T, *(answer.features[i] for i in wanted)]
        taught.append(pair._replace(T_arrays=tuple(folder / ARRAYS / file.file for file in files)))
    if problems:
        gone = [path for path in answers if not (roots[0] / path).exists()]
        if is_source(index, *roots) or (kept and not gone):
            advice, out = "Bring it up to date (answers that are right stay)", folder
        else:
            advice, out = "These are other images: store answers to them in another folder", Path(f"{folder}_other")
        raise DataError(
            f"{where}: {folder} does not belong to these images ({len(problems)}):\n{shown_list(problems)}\n"
            f"{advice}: {teach_command(index, out, images=named)}"
        )
    return taught, index.teacher, [index.features[i] for i in wanted]


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
    low = tuple(side // scale for side in pair.H_size)
    sizes = [(answer.T, "its answer", scale), *((array, "a feature of it", 1) for array in answer.features)]
    for array, what, factor in sizes:
        height, width = factor * low[0], factor * low[1]
        if (array.height, array.width) != (height, width):
            yield f"{pair.H_path}: {what} has {array.width}x{array.height} pixels, not {width}x{height}"
