"""Paired comparison: means and counts by hand, intervals against enumerated bootstrap distributions, sentences."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from swinlet import statistics
from swinlet.statistics import Comparison, compare


def scores(*values: float) -> dict[str, float]:
    return {f"image{i}": value for i, value in enumerate(values)}


def against_zero(*differences: float, seed: int = 0) -> Comparison:
    return compare("A", "C", scores(*[0.0] * len(differences)), scores(*differences), seed=seed)


def test_mean_and_counts_by_hand() -> None:
    found = compare("A", "C", scores(30.0, 31.0, 32.0, 33.0), scores(30.5, 30.75, 32.0, 34.0))
    assert (found.a, found.b, found.images, found.left_out) == ("A", "C", 4, 0)
    assert found.mean == (0.5 - 0.25 + 0 + 1) / 4
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)


def test_only_images_in_both_count_in_any_order() -> None:
    a = {"x": 1.0, "only a": 100.0, "y": 2.0, "z": 5.0}
    b = {"z": 5.5, "y": 3.0, "only b": 100.0, "x": 1.25}
    found = compare("A", "C", a, b)
    assert (found.images, found.mean) == (3, 1.75 / 3)
    assert found == compare("A", "C", dict(sorted(a.items())), dict(sorted(b.items())))


def test_images_are_drawn_in_the_order_of_their_names() -> None:
    """Not in that of a set, which is another in every process."""
    values = np.random.default_rng(0).normal(size=30).tolist()
    results = [
        compare("A", "C", {f"{start}{i:02}": 0.0 for i in range(30)}, {f"{start}{i:02}": values[i] for i in range(30)})
        for start in ("a", "b", "c")
    ]
    assert results[0] == results[1] == results[2]


def test_swapping_the_models_mirrors_the_result() -> None:
    a, b = scores(1.0, 2.0, 3.0, 4.0), scores(1.5, 1.75, 3.0, 6.0)
    one, other = compare("A", "C", a, b), compare("C", "A", b, a)
    assert one.low is not None
    assert one.high is not None
    assert (other.mean, other.wins, other.losses, other.ties) == (-one.mean, one.losses, one.wins, one.ties)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))


@pytest.mark.parametrize(("a", "b"), [({}, {}), ({"x": 1.0}, {"y": 1.0}), ({"x": math.nan}, {"x": 1.0})])
def test_nothing_to_compare(a: dict[str, float], b: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="C and A cannot be compared: no image has a finite difference"):
        compare("A", "C", a, b)


def test_rounding_of_the_last_bit_is_a_tie() -> None:
    found = against_zero(1e-14, 1e-14, 2e-9)
    assert (found.wins, found.ties, found.mean) == (1, 2, 2e-9 / 3)


def test_infinite_scores() -> None:
    a = scores(math.inf, math.inf, 30.0, math.nan, 30.0)
    b = scores(math.inf, 30.0, math.inf, 30.0, 31.0)
    found = compare("A", "C", a, b)
    assert (found.images, found.left_out, found.mean) == (2, 3, 0.5)
    assert (found.wins, found.losses, found.ties) == (1, 0, 1)


def test_constant_difference_has_no_uncertainty() -> None:
    found = against_zero(*[0.25] * 6)
    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)
    assert found.larger_than_uncertainty
    assert not against_zero(*[0.25] * 5).larger_than_uncertainty  # too few images to say so


def test_equal_models() -> None:
    found = against_zero(0.0, 0.0, 0.0)
    assert (found.low, found.high, found.ties) == (0.0, 0.0, 3)
    assert not found.larger_than_uncertainty


def test_one_image_has_no_interval() -> None:
    found = against_zero(0.5)
    assert (found.images, found.mean, found.low, found.high) == (1, 0.5, None, None)
    assert not found.larger_than_uncertainty


def enumerated(*differences: float) -> tuple[np.ndarray, np.ndarray]:
    """The bootstrap distribution itself: the means of all n^n samples with replacement, and how likely each is."""
    means = [np.mean(sample) for sample in itertools.product(differences, repeat=len(differences))]
    values, counts = np.unique(means, return_counts=True)
    return values, counts / len(means)


def test_two_images_against_all_four_resamples() -> None:
    values, likely = enumerated(0.25, 1.25)
    assert (values.tolist(), likely.tolist()) == ([0.25, 0.75, 1.25], [0.25, 0.5, 0.25])
    found = against_zero(0.25, 1.25)  # both ends of the interval lie deep in the outer quarters
    assert (found.low, found.mean, found.high) == (0.25, 0.75, 1.25)


# Student's t at 97.5 % from tables, and the normal tail beyond sqrt(n / (n - 1)) times it.
@pytest.mark.parametrize(("n", "t", "tail"), [(6, 2.5706, 0.00243), (10, 2.2622, 0.00855), (31, 2.0423, 0.01894)])
def test_percentiles_are_those_of_students_interval(n: int, t: float, tail: float) -> None:
    assert NormalDist().cdf(-t * math.sqrt(n / (n - 1))) == pytest.approx(tail, abs=1e-5)
    assert statistics._expanded_tail(n) == pytest.approx(tail, rel=0.015)


@pytest.mark.parametrize("n", [6, 8, 14])
def test_models_of_equal_worth_are_seldom_told_apart(n: int) -> None:
    """Nominal: 5 %. The plain percentile interval errs in 8 to 16 % of such cases."""
    random = np.random.default_rng(n)
    differences = random.normal(size=(600, n)).tolist()
    names = scores(*[0.0] * n)
    claims = [compare("A", "C", names, scores(*d), resamples=1000).larger_than_uncertainty for d in differences]
    assert 0.01 < np.mean(claims) < 0.08


def test_interval_of_six_images_against_all_46656_resamples() -> None:
    differences = (-1.0, 1.0, 3.0, 5.0, 7.0, 9.0)
    values, likely = enumerated(*differences)
    below = np.cumsum(likely)
    levels = (0.00243, 1 - 0.00243)
    leeway = 4 * math.sqrt(levels[0] / 10_000)  # standard errors of a share among 10 000 random resamples
    for seed in range(3):
        found = against_zero(*differences, seed=seed)
        for level, end in zip(levels, (found.low, found.high), strict=True):
            assert end is not None
            least, most = values[np.searchsorted(below, [level - leeway, level + leeway])]
            assert least - 1e-9 <= end <= most + 1e-9
            assert most - least < 0.7  # the plain percentiles lie outside
    assert values[np.searchsorted(below, 0.025)] > values[np.searchsorted(below, levels[0] + leeway)]


def test_result_depends_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = tuple(np.random.default_rng(0).normal(size=50))
    found = against_zero(*differences)
    assert found == against_zero(*differences)
    assert found.low != against_zero(*differences, seed=1).low
    monkeypatch.setattr(statistics, "_DRAWS", 120)  # chunks of two resamples
    assert found == against_zero(*differences)


def test_interval_of_many_images_is_that_of_the_normal_distribution() -> None:
    differences = np.random.default_rng(1).normal(0.1, 1.0, size=4000)
    found = against_zero(*differences)
    half = 1.96 * differences.std() / math.sqrt(4000)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.003)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.2, False), (0.0, 0.2, False), (-0.1, 0.0, False)],
)
def test_larger_than_uncertainty(low: float, high: float, expected: bool) -> None:
    assert Comparison("A", "C", 20, 0.0, 0, 0, 0, low, high).larger_than_uncertainty is expected


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (
            Comparison("A", "C", 14, 0.1204, 13, 1, 0, 0.051, 0.188),
            "C is better than A on Set by 0.120 dB (95 % interval 0.051 to 0.188 over 14 images; better on 13, "
            "worse on 1): larger than its uncertainty.",
        ),
        (  # seen from the winner
            Comparison("A", "C", 14, -0.12, 1, 11, 2, -0.188, -0.051),
            "A is better than C on Set by 0.120 dB (95 % interval 0.051 to 0.188 over 14 images; better on 11, "
            "worse on 1, equal on 2): larger than its uncertainty.",
        ),
        (  # decimal places are added until the end near zero shows
            Comparison("A", "C", 100, 0.0021, 80, 20, 0, 0.00004, 0.0042),
            "C is better than A on Set by 0.00210 dB (95 % interval 0.00004 to 0.00420 over 100 images; "
            "better on 80, worse on 20): larger than its uncertainty.",
        ),
        (
            Comparison("A", "C", 14, 0.012, 8, 6, 0, -0.021, 0.044),
            "C and A cannot be told apart on Set: C - A is +0.012 dB (95 % interval -0.021 to +0.044 over 14 images; "
            "C better on 8, worse on 6).",
        ),
        (  # no "-0.000"
            Comparison("A", "C", 10, -0.0001, 0, 1, 9, -0.0004, 0.0),
            "C and A cannot be told apart on Set: C - A is +0.000 dB (95 % interval +0.000 to +0.000 over 10 images; "
            "C better on 0, worse on 1, equal on 9).",
        ),
        (
            Comparison("A", "C", 5, 0.12, 5, 0, 0, 0.051, 0.188),
            "C - A is +0.120 dB on Set (95 % interval +0.051 to +0.188 over 5 images; C better on 5, worse on 0): "
            "fewer than 6 images cannot tell a difference from chance.",
        ),
        (
            Comparison("A", "C", 9, 0.012, 5, 4, 0, -0.021, 0.044, left_out=2),
            "C and A cannot be told apart on Set: C - A is +0.012 dB (95 % interval -0.021 to +0.044 over 9 images; "
            "C better on 5, worse on 4). Left out because a score is infinite or not a number: 2 images.",
        ),
        (
            Comparison("A", "C", 1, -0.12, 0, 1, 0, None, None, left_out=1),
            "C - A is -0.120 dB on Set (1 image; C better on 0, worse on 1): fewer than 6 images cannot tell a "
            "difference from chance. Left out because a score is infinite or not a number: 1 image.",
        ),
    ],
)
def test_sentences(comparison: Comparison, expected: str) -> None:
    assert comparison.sentence("Set") == expected
