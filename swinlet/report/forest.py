"""Differences with their intervals, a row each, as SVG text for an HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.transforms import blended_transform_factory

from swinlet.report.drawing import COLOURS, LABEL_COLUMNS, MARKER, WIDTH, Drawing, drawable, new_drawing
from swinlet.report.svg import shortened
from swinlet.report.ticks import Interval, common_limits, set_scale

_ROW, _AROUND = 0.46, 0.75  # inches: a row, title and axis
_TEXT, _LINE, _DOTS = 0.24, 0.56, 0.8  # where in its row a thing stands, 0 being above
_ZERO = (0.42, 0.95)  # from where to where marks reach in a row, below the texts
_FAR = 8  # times the usual extent of a row, and one may be left out
_NEAR = 1.7  # times as far as the differences, and a mark is still drawn in its place


@dataclass(frozen=True)
class Forest:
    """A figure of rows.

    Attributes:
        svg: an ``<svg>`` element as wide as its container.
        has_arrows: some of it lies beyond the axis, which arrows tell.
    """

    svg: str
    has_arrows: bool


@dataclass(frozen=True)
class Difference:
    """A row.

    Attributes:
        label: any text; a long one is shortened.
        text: at the right.
        colour: name of a CSS custom property.
        values: a dot each.
        mean: of the values.
        interval: of the mean; None where it has none.
    """

    label: str
    text: str
    colour: str
    values: Sequence[float]
    mean: float
    interval: Interval | None

    @property
    def extent(self) -> Interval:
        """From the lowest to the highest number, zero among them."""
        numbers = [0.0, self.mean, *self.values, *(self.interval or ())]
        return min(numbers), max(numbers)


def forest(title: str, x_label: str, rows: Sequence[Difference], mark: tuple[str, float] | None = None) -> Forest:
    """Rows of dots, mean and interval on one axis with a line at zero.

    What lies far from all others is not shown; an arrow says where it is.

    Args:
        title, x_label: any text.
        rows: from above; at least one, of finite numbers.
        mark: label and place of one more line.

    Returns:
        The figure. The same arguments give the same text.
    """
    low, high = common_limits([row.extent for row in rows], _FAR)
    if mark is not None and _NEAR * low < mark[1] < _NEAR * high:
        low, high = common_limits([(low, high), (mark[1], mark[1])])
    first = 0.0 if mark is None else -0.55  # the mark's label has a row of its own
    size = WIDTH, _AROUND + _ROW * (len(rows) - first)
    spoken = "; ".join([f"{row.label} {row.text}" for row in rows] + ([] if mark is None else [mark[0]]))
    with new_drawing(title, x_label, "", size, f"{title}, {x_label}: {spoken}") as drawing:
        axes = drawing.axes
        axes.set(xlim=(low, high), ylim=(len(rows), first))
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        for i, row in enumerate(rows):
            _draw_row(drawing, i, row, (low, high))
        if mark is not None:
            _draw_mark(drawing, *mark, first, len(rows), (low, high))
        set_scale(axes, "x")
        ends = [end for row in rows for end in row.extent] + ([] if mark is None else [mark[1]])
        return Forest(drawing.svg(), has_arrows=min(ends) < low or max(ends) > high)


def _draw_row(drawing: Drawing, i: int, row: Difference, limits: Interval) -> None:
    axes, colour = drawing.axes, drawing.colour(row.colour)
    across = blended_transform_factory(axes.transAxes, axes.transData)
    if i:
        axes.axhline(i, color=COLOURS["--rule"], linewidth=0.6)
    axes.text(0, i + _TEXT, shortened(row.label, LABEL_COLUMNS), transform=across, va="center")
    axes.text(1, i + _TEXT, row.text, transform=across, va="center", ha="right", size=9, color=COLOURS["--muted"])
    axes.plot([0, 0], [i + end for end in _ZERO], color=COLOURS["--ink"], linewidth=0.9)
    if row.interval is not None:
        ends = [min(max(end, limits[0]), limits[1]) for end in row.interval]
        axes.plot(ends, [i + _LINE] * 2, color=colour, linewidth=2.4, alpha=0.55, solid_capstyle="butt")
    dots = [value for value in drawable(row.values) if limits[0] <= value <= limits[1]]
    axes.plot(dots, [i + _DOTS] * len(dots), "o", color=colour, alpha=0.6, markersize=MARKER - 2.5)
    if limits[0] <= row.mean <= limits[1]:
        axes.plot([row.mean], [i + _LINE], "D", color=colour, markersize=MARKER - 0.5)
    for end, beyond, arrow in ((0, row.extent[0] < limits[0], "<"), (1, row.extent[1] > limits[1], ">")):
        if beyond:
            axes.plot([end], [i + _LINE], arrow, color=colour, markersize=MARKER, transform=across, clip_on=False)


def _draw_mark(drawing: Drawing, label: str, x: float, first: float, count: int, limits: Interval) -> None:
    """Its label above the rows, and a line where it lies; an arrow where that is beyond the axis."""
    axes = drawing.axes
    is_left = x < (limits[0] + limits[1]) / 2
    place, transform = x, axes.transData
    if limits[0] <= x <= limits[1]:
        for i in range(count):
            axes.plot([x, x], [i + end for end in _ZERO], color=COLOURS["--muted"], linewidth=1.2, linestyle=":")
    else:
        place, transform = 0 if is_left else 1, blended_transform_factory(axes.transAxes, axes.transData)
        label = f"\N{LEFTWARDS ARROW} {label}" if is_left else f"{label} \N{RIGHTWARDS ARROW}"
    text = axes.text(place, first / 2, label, transform=transform, va="center", size=9, color=COLOURS["--muted"])
    text.set_horizontalalignment("left" if is_left else "right")
