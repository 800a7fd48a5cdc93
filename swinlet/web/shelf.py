"""Results as files in a private folder, for a browser to show and to download."""

import re
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swinlet.evaluation.detail import Crop, most_different, worth_choosing
from swinlet.metrics import shave_of
from swinlet.utils.picture import Picture, encode
from swinlet.web.compare import ORIGINAL, Material, Result, over_gray, rgb

KEPT = 12
"""Comparisons of which the files stay; older ones are removed."""

FORGET = 3600
"""Seconds after which files are removed."""

DETAIL_SIDE = 90


@dataclass(frozen=True)
class Entry:
    """A picture on the page.

    Attributes:
        label: whose.
        file: PNG to download, with profile, camera data, alpha and depth.
        shown: PNG to look at, opaque; often the same file.
        seconds, scores, parameters: as in ``Result`` and ``Method``; None of the original.
    """

    label: str
    file: Path
    shown: Path
    seconds: float | None = None
    scores: dict[str, float] | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class Comparison:
    """All that the page shows of one picture.

    Attributes:
        entries: in the order of the methods, the original last.
        low, size: (height, width) of the picture that was enlarged, and of its enlargements.
        is_shrunk: the picture was made from the original.
        detail: where the enlargements differ most.
    """

    entries: tuple[Entry, ...]
    low: tuple[int, int]
    size: tuple[int, int]
    is_shrunk: bool
    detail: Crop

    def entry(self, label: str) -> Entry:
        """That of a label; the first if there is none."""
        return next((entry for entry in self.entries if entry.label == label), self.entries[0])


class Shelf:
    """Keeps the files of the newest comparisons, for a while.

    Args:
        folder: of this process alone; each comparison gets a folder with a name that cannot be guessed.
        seconds: that files stay.
    """

    def __init__(self, folder: Path, seconds: float = FORGET) -> None:
        self._folder = folder
        self._seconds = seconds
        self._kept: deque[tuple[Path, threading.Timer]] = deque()

    def put(self, name: str, material: Material, results: Sequence[Result], is_shrunk: bool, scale: int) -> Comparison:
        """Write what was made of a picture.

        Args:
            name: of the picture's file, without suffix.
            material: what was enlarged.
            results: at least one.
            is_shrunk: the picture was made from the original.
            scale: of the methods.

        Raises:
            OSError: a file cannot be written.
        """
        place = self._folder / secrets.token_urlsafe(18)
        place.mkdir(mode=0o700)
        timer = threading.Timer(self._seconds, shutil.rmtree, [place], {"ignore_errors": True})
        timer.daemon = True
        timer.start()
        self._kept.append((place, timer))
        while len(self._kept) > KEPT:
            oldest, timer = self._kept.popleft()
            timer.cancel()
            shutil.rmtree(oldest, ignore_errors=True)
        entries: list[Entry] = []
        for i, result in enumerate(results):
            label = result.method.label
            stem = f"{file_name(name)}_x{scale}_{file_name(label)}"
            file, shown = _write(place, stem if not _exists(place, stem) else f"{stem}_{i}", result.picture)
            entries.append(Entry(label, file, shown, result.seconds, result.scores, result.method.parameters))
        if material.truth is not None:
            file, shown = _write(place, f"{file_name(name)}_{ORIGINAL}", material.truth)
            entries.append(Entry(ORIGINAL, file, shown))
        size = results[0].picture.size
        shave = shave_of(scale) if min(size) > 4 * shave_of(scale) else 0
        chosen = results
        if (base := results[0].scores) is not None:
            psnr = {str(i): result.scores["psnr_y"] for i, result in enumerate(results) if result.scores is not None}
            chosen = [results[int(i)] for i in worth_choosing(psnr, base["psnr_y"])]
        seen = rgb(results[0].picture if material.truth is None else material.truth)
        detail = most_different([rgb(result.picture) for result in chosen], DETAIL_SIDE, shave, seen)
        return Comparison(tuple(entries), material.low.size, size, is_shrunk, detail)


def file_name(text: str) -> str:
    """A name of letters, digits, dots and dashes, at most 60 of them, that resembles a text."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("._")[:60] or "picture"


def _exists(place: Path, stem: str) -> bool:
    return (place / f"{stem}.png").exists()


def _write(place: Path, stem: str, picture: Picture) -> tuple[Path, Path]:
    file = place / f"{stem}.png"
    file.write_bytes(encode(picture, "PNG", 100))
    if picture.alpha is None:
        return file, file
    shown = place / f"{stem}.shown.png"
    shown.write_bytes(encode(over_gray(picture), "PNG", 100))
    return file, shown
