"""Curves and scatter plots as SVG text for an HTML page, which gives fonts and, for each theme, colours."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from swinlet.report.drawing import COLOURS, HEIGHT, LABEL_COLUMNS, MARKER, Drawing, drawable, new_drawing
from swinlet.report.svg import shortened
from swinlet.report.ticks import Interval, set_scale

_LEGEND_ROW = 0.2  # inches
_ROOM = 0.03  # of the steps, before the first and after the last: over half a dot, also where panels are small
# Where the label of a point may lie: units to the right and up, best first.
_PLACES = [(8, 0), (-8, 0), (0, 13), (0, -13)] + [(x, y * k) for k in range(1, 7) for x in (8, -8) for y in (15, -15)]


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        label: name in the legend, any text.
        colour: name of a CSS custom property, e.g. "--model-a".
        steps, values: of one length; values that are not finite leave gaps.
        dashed: draw a dashed line.
        faint: draw a thin, pale line without a place in the legend, as behind a smoothed curve.
        band: lower and upper values of a band around the curve, as long as ``steps``.
    """

    label: str
    colour: str
    steps: Sequence[float]
    values: Sequence[float]
    dashed: bool = False
    faint: bool = False
    band: tuple[Sequence[float], Sequence[float]] | None = None


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot; ``label`` and ``colour`` are those of ``Series``."""

    label: str
    colour: str
    x: float
    y: float


def curves(
    title: str, x_label: str, y_label: str, series: Sequence[Series], *, log_y: bool = False, legend: bool = False
) -> str:
    """Curves over training steps, with a legend below where there are several.

    Args:
        title, x_label, y_label: any text; long ones are shortened.
        series: drawn in this order. Without any value the figure says "no data yet".
        log_y: logarithmic values; those that are not positive leave gaps.
        legend: one even for a single curve.

    Returns:
        An ``<svg>`` element as wide as its container. The same arguments give the same text.

    Raises:
        ValueError: a colour is no name of a CSS custom property, or lengths differ.
    """
    with new_drawing(title, x_label, y_label) as drawing:
        drawn = [one for one in series if _draw_curve(drawing, one, log_y)]
        if not drawn:
            drawing.say_no_data()
            return drawing.svg()
        drawing.axes.margins(x=0.02, y=0.06)
        set_scale(drawing.axes, "x", whole=True)
        set_scale(drawing.axes, "y", log=log_y)
        if legend or len(series) > 1:
            _draw_legend(drawing, [one for one in drawn if not one.faint])
        return drawing.svg()


def panel(
    title: str, series: Sequence[Series], limits: tuple[Interval, Interval], *, size: tuple[float, float], zero: bool
) -> str:
    """Curves without heading, legend and labels: one of several that stand side by side.

    Args:
        title: for those who hear the page.
        series: drawn in this order.
        limits: of steps, dots at whose ends are whole, and of values; what lies beyond is not shown.
        size: in inches of 72 units.
        zero: mark the value 0.

    Returns:
        An ``<svg>`` element, as of ``curves``.
    """
    with new_drawing("", "", "", size, title) as drawing:
        axes = drawing.axes
        if zero:
            axes.axhline(0, color=COLOURS["--ink"], linewidth=0.8)
        for one in series:
            _draw_curve(drawing, one, False)
        first, last = limits[0]
        axes.set(xlim=(first, last), ylim=limits[1])
        set_scale(axes, "x", whole=True, ticks=4)
        set_scale(axes, "y", ticks=5)
        axes.set_xticks([tick for tick in axes.get_xticks() if first <= tick <= last])  # the room makes them no fewer
        room = _ROOM * (last - first)
        axes.set_xlim(first - room, last + room)
        return drawing.svg()


def scatter(title: str, x_label: str, y_label: str, points: Sequence[Point], *, log_x: bool = False) -> str:
    """Points with their labels beside them, e.g. quality over size.

    Args:
        title, x_label, y_label, points: as for ``curves``; points that are not finite are left out.
        log_x: logarithmic x; points whose x is not positive are left out.

    Returns:
        An ``<svg>`` element, as of ``curves``.

    Raises:
        ValueError: a colour is no name of a CSS custom property.
    """
    with new_drawing(title, x_label, y_label) as drawing:
        xs = drawable([point.x for point in points], log_x)
        ys = drawable([point.y for point in points], False)
        shown = [i for i in range(len(points)) if math.isfinite(xs[i] + ys[i])]
        if not shown:
            drawing.say_no_data()
            return drawing.svg()
        axes = drawing.axes
        for i in shown:
            colour = drawing.colour(points[i].colour)
            axes.plot([xs[i]], [ys[i]], "o", color=colour, markersize=MARKER, clip_on=False)
        axes.margins(x=0.12, y=0.16)
        set_scale(axes, "x", log=log_x)
        set_scale(axes, "y")
        _label_points(drawing, [(points[i].label, float(xs[i]), float(ys[i])) for i in shown])
        return drawing.svg()


def _draw_curve(drawing: Drawing, series: Series, log_y: bool) -> bool:
    """Draw what can be drawn, and tell whether that is anything."""
    steps, values = drawable(series.steps, False), drawable(series.values, log_y)
    if len(steps) != len(values):
        raise ValueError(f"series {series.label!r}: {len(steps)} steps, {len(values)} values")
    colour = drawing.colour(series.colour)
    shown = np.pad(np.isfinite(steps) & np.isfinite(values), 1)
    if not shown.any():
        return False
    if series.band is not None:
        low, high = (drawable(bound, log_y) for bound in series.band)
        drawing.axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    alone = np.flatnonzero(shown[1:-1] & ~shown[:-2] & ~shown[2:])  # a line does not show these
    (line,) = drawing.axes.plot(steps, values, color=colour, linestyle=_line_style(series))
    if series.faint:
        line.set(alpha=0.3, linewidth=0.7)
    line.set(marker="o", markersize=5, markevery=alone.tolist())
    return True


def _line_style(series: Series) -> Any:
    return (0, (3.2, 1.8)) if series.dashed else "-"


def _draw_legend(drawing: Drawing, drawn: Sequence[Series]) -> None:
    """Below the axes, where it hides no curve, in as few rows as fit; the figure grows by them."""
    figure = drawing.figure
    for rows in range(1, len(drawn) + 1):
        legend = figure.legend(
            [Line2D([], [], color=drawing.colour(one.colour), linestyle=_line_style(one)) for one in drawn],
            [str(i) for i in range(len(drawn))],  # matplotlib refuses labels that begin with "_": they come after
            loc="outside lower center",
            ncols=math.ceil(len(drawn) / rows),
            frameon=False,
            handlelength=1.7,
            handletextpad=0.6,
            columnspacing=1.2,
        )
        for text, one in zip(legend.get_texts(), drawn, strict=True):
            text.set_text(shortened(one.label, LABEL_COLUMNS))
        if rows == len(drawn) or legend.get_window_extent().width <= figure.bbox.width:
            figure.set_figheight(HEIGHT + _LEGEND_ROW * rows)
            return
        legend.remove()


def _label_points(drawing: Drawing, points: Sequence[tuple[str, float, float]]) -> None:
    """Write labels beside points (label, x, y), each where it covers the least of points and other labels."""
    drawing.figure.draw_without_rendering()  # gives the axes their place,
    drawing.figure.set_layout_engine("none")  # which they keep
    axes = drawing.axes
    pixels = axes.transData.transform([(x, y) for _, x, y in points])
    half = MARKER / 2 + 1
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in pixels]
    for label, x, y in points:
        text = axes.annotate(shortened(label, LABEL_COLUMNS), (x, y), (0, 0), textcoords="offset points")
        text.set(va="center_baseline", annotation_clip=False)
        best = min(_PLACES, key=lambda place: _covered(_move(text, place), axes.bbox, taken))
        taken.append(_move(text, best))
        if abs(best[1]) > _PLACES[0][0] and best[0]:  # neither beside nor above nor below: a line leads there
            line = {"arrowstyle": "-", "color": COLOURS["--muted"], "linewidth": 0.6, "shrinkA": 0, "shrinkB": half}
            axes.annotate("", (x, y), best, textcoords="offset points", arrowprops=line)


def _move(text: Annotation, place: tuple[float, float]) -> Bbox:
    """Put a label at an offset from its point, and tell what it then covers."""
    text.set_position(place)
    text.set_horizontalalignment("left" if place[0] > 0 else "right" if place[0] < 0 else "center")
    return text.get_window_extent()


def _covered(box: Bbox, inside: Bbox, taken: Iterable[Bbox]) -> float:
    """Area of a label that lies outside, which counts tenfold, or on what is there already."""
    within = _common(box, inside)
    return 10 * (box.width * box.height - within) + sum(_common(box, other) for other in taken)


def _common(one: Bbox, other: Bbox) -> float:
    both = Bbox.intersection(one, other)
    return both.width * both.height if both is not None else 0.0
