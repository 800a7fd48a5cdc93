"""Student's t distribution, and what follows from it about the mean of a few normal values."""

import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean, stdev

MAX_SEEDS = 1000
POWER = 0.8  # how often a difference that is there is to be shown


def t_probability(t: float, df: int) -> float:
    """The probability that Student's t lies between -t and t, for t >= 0 and a whole number of degrees of freedom.

    Closed form: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 (odd df) and 26.7.4 (even df).
    """
    theta = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(theta), math.cos(theta)
    first, rest = (1.0, range(2, df - 1, 2)) if df % 2 == 0 else (cosine, range(3, df - 1, 2))
    total = term = first
    for k in rest:  # even: 1/2, 3/4, 5/6, ...; odd: 2/3, 4/5, ...
        term *= cosine**2 * (k - 1) / k
        total += term
    if df % 2 == 0:
        return sine * total
    return 2 / math.pi * (theta + (sine * total if df > 1 else 0.0))


@cache
def t_quantile(probability: float, df: int) -> float:
    """Where the distribution function is ``probability``, in [0.5, 1)."""
    wanted = 2 * probability - 1
    low, high = 0.0, 1.0
    while t_probability(high, df) < wanted:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_probability(middle, df) < wanted else (low, middle)
    return (low + high) / 2


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean; None of fewer than two values, which tell nothing of their spread."""
    if len(values) < 2:
        return None
    mean, half = fmean(values), t_quantile(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def seeds_needed(mean: float, deviation: float) -> int | None:
    """How many values of this standard deviation and mean have a 95 % interval that excludes zero four times in five.

    The usual approximation of a paired t-test's power: the mean is as many standard errors away from zero as the two
    quantiles have together. None: more than ``MAX_SEEDS``.
    """

    def is_enough(n: int) -> bool:
        return (t_quantile(0.975, n - 1) + t_quantile(POWER, n - 1)) * deviation / math.sqrt(n) < abs(mean)

    if not is_enough(MAX_SEEDS):
        return None
    low, high = 1, MAX_SEEDS  # of which low is too few
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
