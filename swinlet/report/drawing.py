"""What all figures have in common: matplotlib's settings, stand-ins for the page's colours, axes that become SVG text.

Needs matplotlib, which is optional: whoever imports this module handles its absence. Not for several threads at once:
matplotlib's settings, changed while a figure is drawn, are those of the process.
"""

import io
import re
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from swinlet.report.svg import for_page, shortened
from swinlet.utils.names import printable

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 4.6, 3.1  # inches of 72 units: fonts of 10 units stay legible on a telephone
COLOURS = {"--ink": "#0d0000", "--muted": "#0d0001", "--rule": "#0d0002"}  # stand-ins until a figure becomes text
TITLE_COLUMNS, AXIS_COLUMNS, LABEL_COLUMNS = 44, 24, 28  # longer texts are shortened
MARKER = 7.0  # of points

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "swinlet",
    "text.parse_math": False,
    "text.color": COLOURS["--ink"],
    "font.family": "DejaVu Sans",  # comes with matplotlib, and is wider than what pages use: texts have room
    "font.size": 10,
    "axes.labelcolor": COLOURS["--muted"],
    "axes.edgecolor": COLOURS["--rule"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["--rule"],
    "grid.linewidth": 0.6,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "lines.linewidth": 1.6,
    "lines.markeredgewidth": 0,
    "lines.solid_capstyle": "round",
    "xtick.color": COLOURS["--muted"],
    "xtick.major.size": 0,
    "ytick.color": COLOURS["--muted"],
    "ytick.major.size": 0,
}
_LARGEST = 1e100  # axes overflow beyond


class Drawing:
    """A figure with one pair of axes."""

    def __init__(self, title: str, x_label: str, y_label: str, size: tuple[float, float], spoken: str) -> None:
        self._spoken = printable(spoken)
        self._colours = dict(COLOURS)
        self.figure = Figure(figsize=size, dpi=72, layout="constrained")
        FigureCanvasAgg(self.figure)  # measures texts
        self.figure.patch.set_visible(False)
        if title:
            self.figure.suptitle(shortened(title, TITLE_COLUMNS), x=0.012, ha="left")
        self.axes: Axes = self.figure.add_subplot()
        self.axes.patch.set_visible(False)
        self.axes.set_xlabel(shortened(x_label, 2 * AXIS_COLUMNS))
        self.axes.set_ylabel(shortened(y_label, AXIS_COLUMNS))

    def colour(self, name: str) -> str:
        """The stand-in of a CSS custom property."""
        if not re.fullmatch(r"--[A-Za-z0-9_-]+", name):
            raise ValueError(f"{name!r} is no name of a CSS custom property")
        return self._colours.setdefault(name, f"#{0x0D0000 + len(self._colours):06x}")

    def say_no_data(self) -> None:
        self.axes.set(xticks=[], yticks=[])
        self.axes.text(0.5, 0.5, "no data yet", transform=self.axes.transAxes, ha="center", va="center")

    def svg(self) -> str:
        file = io.BytesIO()
        self.figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        names = {colour: f"var({name})" for name, colour in self._colours.items()}
        return for_page(file.getvalue(), self._spoken, names)


@contextmanager
def new_drawing(
    title: str, x_label: str, y_label: str, size: tuple[float, float] = (WIDTH, HEIGHT), spoken: str = ""
) -> Generator[Drawing, None, None]:
    """The user's settings of matplotlib do not count inside, and are as before outside.

    Args:
        title: above the axes; "" for none.
        x_label, y_label: of the axes.
        size: in inches of 72 units.
        spoken: for those who hear the page; the title where there is none.
    """
    with style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # Only the measuring of a label misses these characters; the page's fonts draw them.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        warnings.filterwarnings("ignore", "Matplotlib currently does not support", UserWarning)
        yield Drawing(title, x_label, y_label, size, spoken or title)


def drawable(values: Sequence[float], log: bool = False) -> Floats:
    """float64 (N,), NaN where a value cannot be drawn."""
    array = np.array(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        shown = np.abs(array) <= _LARGEST
        if log:
            shown &= array >= 1 / _LARGEST
    return np.where(shown, array, np.nan)
