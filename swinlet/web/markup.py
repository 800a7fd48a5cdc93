"""What stands on the page besides gradio's components: table, details, messages, the preview with its frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from swinlet.utils.picture import Picture
from swinlet.web.compare import ORIGINAL, Part, over_gray, rgb
from swinlet.web.shelf import Comparison, Entry

PREVIEW_SIDE = 480

_SHOWN = (("psnr_y", ".2f"), ("ssim_y", ".4f"), ("psnr_rgb", ".2f"))

_templates = Environment(
    loader=PackageLoader("swinlet.web", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class _Score:
    text: str
    is_best: bool


def url(file: Path) -> str:
    """The address of a file of the private folder, relative to the page."""
    return "gradio_api/file=" + quote(str(file))


def note(text: str) -> str:
    """A line that says what happens."""
    return f'<p class="swl-note" role="status">{escape(text)}</p>'


def problem(text: str) -> str:
    """What is wrong, and what to do."""
    return f'<p class="swl-problem" role="alert">{escape(text)}</p>'


def table(comparison: Comparison) -> str:
    """Scores, times and links for all methods."""
    scored = any(entry.scores is not None for entry in comparison.entries)
    rows = [
        {
            "entry": entry,
            "scores": _scores(entry, comparison.entries),
            "time": "" if entry.seconds is None else duration(entry.seconds),
            "parameters": "" if entry.parameters is None else f"{entry.parameters:,}",
            "url": url(entry.file),
            "size": _megabytes(entry.file),
        }
        for entry in comparison.entries
    ]
    return _templates.get_template("table.html").render(rows=rows, scored=scored, caption=_caption(comparison, scored))


def details(comparison: Comparison) -> str:
    """The same detail of all pictures, side by side."""
    (height, width), crop = comparison.size, comparison.detail
    rows = [
        {
            "label": entry.label,
            "url": url(entry.shown),
            "note": "" if entry.scores is None else f"{entry.scores['psnr_y']:.2f} dB",
        }
        for entry in comparison.entries
    ]
    return _templates.get_template("detail.html").render(
        rows=rows,
        overview=rows[-1]["url"],
        x=crop.left + crop.side // 2,
        y=crop.top + crop.side // 2,
        width=width,
        height=height,
    )


def describe(picture: Picture) -> str:
    """Size and kind of a picture, in words."""
    kind = "gray" if picture.colour.shape[2] == 1 else "RGB"
    extra = [
        "transparency" if picture.alpha is not None else "",
        "colour profile" if picture.icc_profile is not None else "",
        "camera data" if picture.exif is not None else "",
    ]
    words = [f"{picture.size[1]}x{picture.size[0]} pixels", f"{kind}, {8 * picture.colour.itemsize} bits", *extra]
    return ", ".join(word for word in words if word)


def duration(seconds: float) -> str:
    """With two digits or so."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def thumbnail(picture: Picture) -> NDArray[np.uint8]:
    """The picture as a preview, (h, w, 3), at most ``PREVIEW_SIDE`` pixels a side."""
    step = max(1, max(picture.size) // (2 * PREVIEW_SIDE))  # the rest is left to Pillow: large pictures take seconds
    colour, alpha = picture.colour[::step, ::step], picture.alpha
    small = Picture(colour, None if alpha is None else alpha[::step, ::step])
    image = Image.fromarray(rgb(over_gray(small)))
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return np.asarray(image)


def framed(preview: NDArray[np.uint8], size: tuple[int, int], part: Part | None) -> NDArray[np.uint8]:
    """A preview with the frame of a part of the picture, whose height and width are ``size``."""
    if part is None:
        return preview
    top, left, rows, columns = part.box(*size)
    scales = preview.shape[1] / size[1], preview.shape[0] / size[0]
    box = left * scales[0], top * scales[1], (left + columns) * scales[0] - 1, (top + rows) * scales[1] - 1
    image = Image.fromarray((preview * 0.45).astype(np.uint8))
    inside = tuple(round(side) for side in box)
    image.paste(Image.fromarray(preview).crop(inside), inside[:2])
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, outline=(255, 255, 255), width=2)
    return np.asarray(image)


def _scores(entry: Entry, entries: Sequence[Entry]) -> list[_Score]:
    if entry.scores is None:
        return [_Score("", False) for _ in _SHOWN]
    cells: list[_Score] = []
    for key, form in _SHOWN:
        value = entry.scores[key]
        text = "∞" if math.isinf(value) else format(value, form)
        best = max(other.scores[key] for other in entries if other.scores is not None)
        cells.append(_Score(text, text == ("∞" if math.isinf(best) else format(best, form))))
    return cells


def _caption(comparison: Comparison, scored: bool) -> str:
    (height, width), (low_height, low_width) = comparison.size, comparison.low
    made = f", which MATLAB's bicubic made of the {ORIGINAL}" if comparison.is_shrunk else ""
    text = f"{low_width}x{low_height} pixels{made}, enlarged to {width}x{height}."
    if not scored:
        return f"{text} Without an original there are no scores."
    return f"{text} PSNR in dB; {comparison.size[0] // low_height} pixels of border left out, as in swinlet evaluate."


def _megabytes(file: Path) -> str:
    size = file.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
