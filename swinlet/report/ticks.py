"""Limits, and few round ticks with short labels, for matplotlib's axes."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, Formatter, MaxNLocator, NullLocator

Interval = tuple[float, float]
"""Lower and upper end."""

_TICKS = 6
_FAR = 8  # median deviations from the median, and a number is far from the others
_ENOUGH = 3  # intervals tell what is far
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


class _Numbers(Formatter):
    """Tick labels such as 0.25, 5k, 1.5M; those of a linear axis have one unit, or equally many decimals."""

    def __init__(self, even: bool) -> None:
        self._even = even

    def __call__(self, x: float, pos: int | None = None) -> str:
        return _short(x)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        ticks = [float(value) for value in values]
        low, high = (-math.inf, math.inf) if self.axis is None else sorted(self.axis.get_view_interval())
        # matplotlib also asks for ticks beyond the limits, which it does not draw.
        largest = max((abs(tick) for tick in ticks if low <= tick <= high), default=0.0)
        if self._even and len(ticks) > 1 and largest < 1000:
            tolerance = min(b - a for a, b in pairwise(ticks)) / 100
            for decimals in range(5):
                if all(abs(tick - round(tick, decimals)) <= tolerance for tick in ticks):
                    return [_minus(f"{round(tick, decimals) + 0.0:.{decimals}f}") for tick in ticks]
        return [_short(tick, largest if self._even else None) for tick in ticks]


def _short(value: float, largest: float | None = None) -> str:
    """In the unit of the largest number beside it, where that has one; 0 needs none."""
    size = abs(value) if largest is None else largest
    if not value:
        return "0"
    if not 1e-3 <= size < 1e12:
        return _minus(re.sub(r"\.?0*e", "e", f"{value:.3e}"))
    unit, name = next(((unit, name) for unit, name in _UNITS if size >= unit), (1, ""))
    return _minus(f"{value / unit:.6g}{name}")


def _minus(text: str) -> str:
    return re.sub(r"e([+-])0*", r"e\1", text).replace("e+", "e").replace("-", "\N{MINUS SIGN}")


def set_scale(
    axes: Axes, which: Literal["x", "y"], *, log: bool = False, whole: bool = False, ticks: int = _TICKS
) -> None:
    """Few round ticks with short labels; call it when all is drawn.

    Args:
        axes, which: the axis.
        log: logarithmic.
        whole: whole numbers only.
        ticks: how many there may be between two others; of a linear axis.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        axes.set(**{f"{which}scale": "log"})
        low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
        axis.set_major_locator(FixedLocator(_log_ticks(low, high)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(_locator(whole, ticks))
    axis.set_major_formatter(_Numbers(even=not log))


def _locator(whole: bool = False, ticks: int = _TICKS) -> MaxNLocator:
    return MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10], integer=whole)


def _log_ticks(low: float, high: float) -> list[float]:
    """2 to 6 round numbers within the limits of a logarithmic axis, the densest choice."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for leads in ((1, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{lead}e{decade}") for decade in decades for lead in leads]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= _TICKS:
            break
    if len(ticks) < 2:
        linear = _locator().tick_values(low, high)
        return [float(tick) for tick in linear if low <= tick <= high]
    return ticks[:: math.ceil(len(ticks) / _TICKS)]


def common_limits(intervals: Sequence[Interval], far: float = math.inf) -> Interval:
    """Limits for all of some intervals but those that lie so far off that the others would be hard to see.

    Args:
        intervals: of finite numbers; at least one.
        far: how many times the usual width of an interval at least.
    """
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    if len(intervals) >= _ENOUGH:
        width = far * median(high - low for low, high in intervals)
        low, high = min(_near([low for low, _ in intervals], width)), max(_near([high for _, high in intervals], width))
    margin = 0.06 * (high - low) or 0.01 * abs(high) or 0.01
    return low - margin, high + margin


def _near(ends: Sequence[float], width: float) -> list[float]:
    """Those that lie about where most do."""
    middle = median(ends)
    limit = max(width, _FAR * median(abs(end - middle) for end in ends))
    return [end for end in ends if abs(end - middle) <= limit]
