"""Which high-resolution image belongs to which low-resolution image, by their names, and what is wrong with them."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from swinlet.data.mixture import refuse_mixture, without_high_ending
from swinlet.errors import DataError
from swinlet.utils.image_io import list_images

if TYPE_CHECKING:
    from pathlib import Path

    from swinlet.data.prepared import SourceFile

Size = tuple[int, int]  # height, width

_LISTED_IN_ERROR, _LISTED_IN_WARNING = 20, 5  # problems
# Of L files, after the name of the H file; {} is the scale. DIV2K: x4, x4m, x4d, x4w.
_LOW_ENDINGS = ("x{}", "_x{}", "x{}m", "x{}d", "x{}w", "_LR", "_lr", "LR", "_LRx{}", "_LR_x{}", "_LRbicx{}")
LOGGER = logging.getLogger("swinlet")


class Pair(NamedTuple):
    """An image pair.

    Attributes:
        name: as ``DatasetSR.names``.
        H_path, L_path: the image files; L_path is None where L is made from H.
        H_size: height and width; known once the image was decoded.
        H_array, L_array: .npy files with the decoded images, in prepared folders.
        gray: whether the H file is gray; known in prepared folders.
        sources: what is known of the content of the H and the L file, in prepared folders.
        T_arrays: .npy files with a teacher's answer to L, and its features that are wanted; (): there is no teacher.
    """

    name: str
    H_path: Path
    L_path: Path | None
    H_size: Size = (0, 0)
    H_array: Path | None = None
    L_array: Path | None = None
    gray: bool | None = None
    sources: tuple[SourceFile, SourceFile | None] | None = None
    T_arrays: tuple[Path, ...] = ()


def find_pairs(
    dataroot_H: Path, dataroot_L: Path | None, scale: int | None, option: str, template: str | None = None
) -> tuple[list[Pair], list[str]]:
    """Pair the images of two folders by name, or list those of one.

    Args:
        dataroot_H, dataroot_L, scale: as those of ``DatasetSR``; without L, the scale does not matter.
        option: section of the option file, for messages.
        template: ``filename_tmpl`` of ``DatasetSR``.

    Returns:
        The pairs, in the order of their paths, and what has no partner or several.

    Raises:
        DataError: a folder is missing, holds no image, or HR and LR images of the same pictures.
    """
    high = _list_by_name(dataroot_H, f"{option}.dataroot_H")
    refuse_mixture((path for paths in high.values() for path in paths), option)
    if dataroot_L is None:
        return _alone(high), []
    return _pair_by_name(high, _list_by_name(dataroot_L, f"{option}.dataroot_L"), scale, template)


def _low_names(name: str, scale: int | None, template: str | None) -> list[str]:
    """The names that the L file of an H file may have: relative paths without suffix."""
    folder, slash, stem = name.rpartition("/")
    if template is not None:
        return [f"{folder}{slash}{template.replace('{}', stem)}"]
    stems = dict.fromkeys((stem, without_high_ending(stem)))
    return [f"{folder}{slash}{it}{ending}" for it in stems for ending in ("", *(e.format(scale) for e in _LOW_ENDINGS))]


def _list_by_name(root: Path, option: str) -> dict[str, list[Path]]:
    """All images below ``root``, by their relative path without suffix and with forward slashes."""
    files: defaultdict[str, list[Path]] = defaultdict(list)
    try:
        for path in list_images(root):
            files[path.relative_to(root).with_suffix("").as_posix()].append(path)
    except DataError as error:
        raise DataError(f"{option}: {error}") from error
    return dict(files)


def _alone(high: dict[str, list[Path]]) -> list[Pair]:
    """Every H file without a partner, under its name; with suffix where the name without it would not be unique."""
    files = [(name, name + path.suffix, path) for name, paths in high.items() for path in paths]
    with_suffix = {full for _, full, _ in files}
    return [
        Pair(full if len(high[name]) > 1 or name in with_suffix else name, path, None) for name, full, path in files
    ]


def _pair_by_name(
    high: dict[str, list[Path]], low: dict[str, list[Path]], scale: int | None, template: str | None
) -> tuple[list[Pair], list[str]]:
    """Pair what has exactly one partner; the problems say what has none or several."""
    pairs: list[Pair] = []
    problems: list[str] = []
    wanted = {name: _low_names(name, scale, template) for name in high}
    claims: defaultdict[str, list[Path]] = defaultdict(list)
    for name, H_paths in high.items():
        for low_name in wanted[name]:
            claims[low_name] += H_paths
    for name, H_paths in high.items():
        found = [low_name for low_name in wanted[name] if low_name in low]
        L_paths = [path for low_name in found for path in low[low_name]]
        rivals = {path for low_name in found for path in claims[low_name]}.union(H_paths)
        if not found:
            named = " or ".join(f"{low_name}.*" for low_name in wanted[name][:2])
            advice = " (or other usual endings; name yours with filename_tmpl)" if template is None else ""
            problems += [f"{path}: no low-resolution image named {named}{advice}" for path in H_paths]
        elif len(rivals) > 1 or len(L_paths) > 1:
            others = ", ".join(str(path) for path in [*sorted(rivals - {H_paths[0]}), *L_paths])
            problems.append(f"{H_paths[0]}: ambiguous, by its name it goes with {others}")
        else:
            pairs.append(Pair(found[0], H_paths[0], L_paths[0]))
    for name, L_paths in low.items():
        if name not in claims:
            problems += [f"{path}: no high-resolution image for it" for path in L_paths]
    return pairs, problems


def mismatch(pair: Pair, H_size: Size, L_size: Size, scale: int) -> str | None:
    """What is wrong with the sizes of two files, if anything is: L has to have floor(H / scale)."""
    right = (H_size[0] // scale, H_size[1] // scale)
    if L_size == right:
        return None
    needed = f"{_show(right)}, as {pair.H_path} has {_show(H_size)}"
    return f"{pair.L_path}: {_show(L_size)} pixels, but scale {scale} needs {needed}"


def too_small(pair: Pair, smallest: int) -> str | None:
    """What is wrong with a pair of which a side of H has less than ``smallest`` pixels."""
    if min(pair.H_size) >= smallest:
        return None
    return f"{pair.H_path}: too small: {_show(pair.H_size)} pixels, but each side needs {smallest}"


def _show(size: Size) -> str:
    return f"{size[1]}x{size[0]}"


def report_problems(problems: list[str], n_left: int, on_bad_image: str, option: str, skip: str | None = None) -> None:
    """Raise if there are problems or no image is left, or log them as one warning.

    Args:
        problems: one text for each.
        n_left: how many images are good.
        on_bad_image: "error", "skip" or "collect", as of ``DatasetSR``.
        option: what the user gave, for messages.
        skip: how to ask for "skip"; None: by the key ``on_bad_image`` of ``option``.

    Raises:
        DataError: listing the problems.
    """
    limit = _LISTED_IN_ERROR if on_bad_image == "error" or not n_left else _LISTED_IN_WARNING
    listing = shown_list(problems, limit)
    if problems and on_bad_image == "error":
        skip = skip or f'{option}.on_bad_image = "skip"'
        advice = f"Repair or remove these files, or leave them out with {skip}."
        raise DataError(f"{option}: problems with its images ({len(problems)}):\n{listing}\n{advice}")
    if not n_left:
        raise DataError(f"{option}: no usable image is left:\n{listing}")
    if problems and on_bad_image == "skip":
        LOGGER.warning("%s: bad images left out (%d):\n%s", option, len(problems), listing)


def shown_list(texts: list[str], limit: int = _LISTED_IN_ERROR) -> str:
    """The first of many texts, a line for each, and how many more there are."""
    lines = [f"  - {text}" for text in texts[:limit]]
    if len(texts) > limit:
        lines.append(f"  and {len(texts) - limit} more")
    return "\n".join(lines)
