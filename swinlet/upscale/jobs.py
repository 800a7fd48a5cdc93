"""From the words of a command line to pictures and where their enlargements go."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from swinlet.errors import DataError, OptionError
from swinlet.utils.image_io import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, left_out, list_images
from swinlet.utils.picture import SUFFIXES, Format

STREAM = "-"
"""The word for standard input and output."""

_READ = IMAGE_SUFFIXES | {".gif"}
_OTHER_SUFFIXES = (_READ | OTHER_IMAGE_SUFFIXES) - set(SUFFIXES)
"""Of pictures that are not written: probably no folder is meant."""

FORMATS: dict[str, tuple[str, Format]] = {
    "png": (".png", "PNG"),
    "jpg": (".jpg", "JPEG"),
    "webp": (".webp", "WEBP"),
    "tiff": (".tiff", "TIFF"),
    "bmp": (".bmp", "BMP"),
}
"""Names for ``--format``: suffix, and format by Pillow's name."""


@dataclass(frozen=True)
class Job:
    """One picture to enlarge.

    Attributes:
        source: its file; None: standard input.
        target: the file to write; None: standard output.
        format: to write; None: that of the source.
    """

    source: Path | None
    target: Path | None
    format: Format | None

    @property
    def name(self) -> str:
        """What messages call it."""
        return "standard input" if self.source is None else str(self.source)


def others(words: Sequence[str], out: str) -> Counter[str]:
    """How many files of which suffixes lie in the folders among the words, and are no pictures that are read."""
    results = os.path.realpath(out)
    folders = [word for word in words if word != STREAM and Path(word).is_dir()]
    return sum(
        (left_out(word, _READ, among=None) for word in folders if not _is_below(os.path.realpath(word), results)),
        Counter[str](),
    )


def plan(words: Sequence[str], out: str, form: str | None, overwrite: bool) -> tuple[list[Job], int]:
    """Find the pictures, and say where each goes.

    Args:
        words: files, folders (searched with their subfolders, whose structure is kept), patterns such as
            "photos/**/*.png", or "-" for standard input.
        out: a file for a single picture, else a folder; "-": standard output.
        form: a key of ``FORMATS``; None: the format of each picture's suffix, PNG where that cannot be written.
        overwrite: also write what exists.

    Returns:
        The jobs, and how many pictures were left out because their result exists.

    Raises:
        DataError: no such file, no picture in a folder, two pictures of one result, a result that is a source.
        OptionError: ``out`` or ``form`` do not suit.
    """
    if form is not None and form not in FORMATS:
        raise OptionError(f"--format {form}: must be one of {', '.join(FORMATS)}")
    if not out:
        raise OptionError("--out: is empty: name a folder or a file")
    place = Path(out)
    by_place: dict[str | None, tuple[Path | None, Path]] = {}
    for source, relative in _found(words, place):
        by_place.setdefault(None if source is None else os.path.abspath(source), (source, relative))
    found = list(by_place.values())
    is_single = len(found) == 1 and (out == STREAM or _names_file(words, found, out))
    if not is_single and (out == STREAM or (place.suffix.lower() in SUFFIXES and not place.is_dir())):
        raise OptionError(f"--out {out}: there are {len(found)} pictures or a folder to enlarge: name a folder")
    if not is_single and place.exists() and not place.is_dir():
        raise OptionError(f"--out {out}: is a file that does not end with {' '.join(SUFFIXES)}: name another one")
    if not is_single and place.suffix.lower() in _OTHER_SUFFIXES and not place.is_dir():
        raise OptionError(f"--out {out}: files that are written end with {' '.join(SUFFIXES)}")
    if is_single:
        return _planned([_single(found[0][0], out, form)], overwrite)
    return _planned([_in_folder(source, relative, place, form) for source, relative in found], overwrite)


def _found(words: Sequence[str], place: Path) -> Iterator[tuple[Path | None, Path]]:
    """Pictures, each with its place in the folder of results, which is not searched itself."""
    results = os.path.realpath(place)
    for word in words:
        path = Path(word)
        if not word:
            raise DataError("a picture's name is empty: check the words of the command, and its shell variables")
        if word == STREAM:
            yield None, Path("picture")
        elif path.is_dir():
            yield from _sources(list_images(path, _READ), path, results, word)
        elif os.path.lexists(path) or not glob.has_magic(word):
            if not path.exists():
                raise DataError(f"there is no file or folder {word}: check the path")
            yield path, Path(path.name)
        else:
            root = _fixed_part(path)
            # glob.glob would go round links that lead back for ever.
            matches = sorted(root.glob(str(path.relative_to(root))))
            pictures = [match for match in matches if match.suffix.lower() in _READ and match.is_file()]
            visible = [picture for picture in pictures if not _is_hidden(picture.relative_to(root))]
            if not visible:
                raise DataError(f"nothing fits the pattern {word}: check it")
            yield from _sources(visible, root, results, word)


def _sources(pictures: Sequence[Path], root: Path, results: str, word: str) -> Iterator[tuple[Path, Path]]:
    """Those of the pictures that are no results, with their places below ``root``."""
    sources = [picture for picture in pictures if not _is_below(os.path.realpath(picture), results)]
    if not sources:
        raise DataError(f"{word}: all pictures lie in the folder of --out, as results: name another folder")
    return ((source, source.relative_to(root)) for source in sources)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _fixed_part(pattern: Path) -> Path:
    """The folder of a pattern, up to where it varies."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _names_file(words: Sequence[str], found: Sequence[tuple[Path | None, Path]], out: str) -> bool:
    """Whether ``out`` names the result of the only picture rather than its folder."""
    if found[0][0] is not None and Path(words[0]).is_dir():
        return False
    is_folder = Path(out).is_dir() or out.endswith(("/", os.sep))
    return not is_folder and Path(out).suffix.lower() in SUFFIXES


def _single(source: Path | None, out: str, form: str | None) -> Job:
    if out == STREAM:
        known = None if source is None else SUFFIXES.get(source.suffix.lower(), "PNG")
        return Job(source, None, FORMATS[form][1] if form is not None else known)
    target = Path(out)
    wanted = SUFFIXES[target.suffix.lower()]
    if form is not None and FORMATS[form][1] != wanted:
        raise OptionError(f"--format {form} contradicts --out {out}: leave one of them out")
    return Job(source, target, wanted)


def _in_folder(source: Path | None, relative: Path, folder: Path, form: str | None) -> Job:
    if form is not None:
        return Job(source, folder / relative.with_suffix(FORMATS[form][0]), FORMATS[form][1])
    if source is None:
        raise OptionError(f"--out {folder}: for standard input name a file, or pass --format")
    if relative.suffix.lower() in SUFFIXES:
        return Job(source, folder / relative, SUFFIXES[relative.suffix.lower()])
    return Job(source, folder / relative.with_suffix(".png"), "PNG")


def _planned(jobs: list[Job], overwrite: bool) -> tuple[list[Job], int]:
    sources = {os.path.realpath(job.source) for job in jobs if job.source is not None}
    targets: dict[str, Job] = {}
    for job in jobs:
        if job.target is None:
            continue
        place = os.path.realpath(job.target)
        if place in sources:
            raise DataError(f"{job.target} is a picture to enlarge: name another folder or file with --out")
        if os.path.isdir(place):
            raise DataError(f"{job.target} is a folder, and would be the result of {job.name}: name another one")
        if place in targets:
            raise DataError(
                f"{targets[place].name} and {job.name} would both become {job.target}: enlarge them by two commands, "
                "into different folders"
            )
        targets[place] = job
    wanted = [job for job in jobs if overwrite or job.target is None or not os.path.lexists(job.target)]
    return wanted, len(jobs) - len(wanted)
