"""Curves of one training with several seeds as a mean and a band."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from swinlet.report.history import Curve


@dataclass(frozen=True)
class Band:
    """Curves of several seeds, at the steps that all of them have.

    Attributes:
        seeds: whose curves.
        steps: at least one.
        mean, low, high: over the seeds, as long as ``steps``.
    """

    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def extent(self, begin: float) -> tuple[float, float]:
        """Lowest and highest value from a step on; of the last one where there is none later."""
        first = next((i for i, step in enumerate(self.steps) if step >= begin), len(self.steps) - 1)
        return min(self.low[first:]), max(self.high[first:])


def band(curves: Mapping[int, Curve]) -> Band | None:
    """Mean and band of the curves, by seed; None where they share no step."""
    if not curves:
        return None
    tables = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves.values()]
    steps = [step for step in tables[0] if all(step in table for table in tables)]
    if not steps:
        return None
    values = [[table[step] for table in tables] for step in steps]
    means, lows, highs = ([of(row) for row in values] for of in (fmean, min, max))
    return Band(tuple(curves), tuple(steps), tuple(means), tuple(lows), tuple(highs))


def paired_band(curves: Mapping[int, Curve], others: Mapping[int, Curve]) -> Band | None:
    """The same of curves minus others of the same seed; None where no pair shares a step."""
    differences: dict[int, Curve] = {}
    for seed, curve in curves.items():
        if seed in others:
            other = dict(zip(others[seed].steps, others[seed].values, strict=True))
            pairs = [(step, value) for step, value in zip(curve.steps, curve.values, strict=True) if step in other]
            differences[seed] = Curve(
                tuple(step for step, _ in pairs), tuple(value - other[step] for step, value in pairs)
            )
    return band(differences)
