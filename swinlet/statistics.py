"""Which of two models is better? The paired comparison of their scores on the same images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

MIN_IMAGES = 6
"""Fewer tell nothing at 95 %: models of equal worth agree in sign on all n images with probability 2^(1 - n)."""
_EQUAL = 1e-9  # dB: far above the rounding of a float64 score, far below the change of a single pixel
_DRAWS = 1_000_000  # images drawn at a time, which bounds the memory


@dataclass(frozen=True)
class Comparison:
    """b against a on one test set, one metric (PSNR-Y in dB).

    Attributes:
        a, b: labels of the models.
        images: how many images were compared.
        mean: mean over the images of b - a.
        wins, losses, ties: images where b is better, worse, equal.
        low, high: 95 % bootstrap interval of the mean over images; None with fewer than 2 images.
        left_out: images that both have, but whose difference is infinite or not a number.
    """

    a: str
    b: str
    images: int
    mean: float
    wins: int
    losses: int
    ties: int
    low: float | None
    high: float | None
    left_out: int = 0

    @property
    def larger_than_uncertainty(self) -> bool:
        """Whether the interval excludes zero, and there are enough images for that to mean something.

        The interval covers the choice of images alone, not that of the training seed.
        """
        enough = self.images >= MIN_IMAGES
        return enough and self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def sentence(self, where: str) -> str:
        """The result in plain English.

        Args:
            where: name of the test set, e.g. "Set5".
        """
        if self.larger_than_uncertainty:
            text = self._clear(where)
        elif self.images >= MIN_IMAGES:
            text = f"{self.b} and {self.a} cannot be told apart on {where}: {self._difference()}."
        else:
            few = f"fewer than {MIN_IMAGES} images cannot tell a difference from chance"
            text = f"{self._difference(where)}: {few}."
        if self.left_out:
            text += f" Left out because a score is infinite or not a number: {_images(self.left_out)}."
        return text

    def _difference(self, where: str = "") -> str:
        on = f" on {where}" if where else ""
        interval = ""
        if self.low is not None and self.high is not None:
            interval = f"95 % interval {_signed(self.low)} to {_signed(self.high)} over "
        counts = f"{self.b} {self._counts(self.wins, self.losses)}"
        return f"{self.b} - {self.a} is {_signed(self.mean)} dB{on} ({interval}{_images(self.images)}; {counts})"

    def _clear(self, where: str) -> str:
        assert self.low is not None, "the interval excludes zero"
        assert self.high is not None, "the interval excludes zero"
        better, worse, wins, losses, low, high = self.b, self.a, self.wins, self.losses, self.low, self.high
        if self.mean < 0:
            better, worse, wins, losses = worse, better, losses, wins
            low, high = -high, -low
        digits = _digits(low)
        return (
            f"{better} is better than {worse} on {where} by {abs(self.mean):.{digits}f} dB (95 % interval "
            f"{low:.{digits}f} to {high:.{digits}f} over {self.images} images; {self._counts(wins, losses)}): "
            "larger than its uncertainty."
        )

    def _counts(self, wins: int, losses: int) -> str:
        return f"better on {wins}, worse on {losses}" + (f", equal on {self.ties}" if self.ties else "")


def compare(
    a: str,
    b: str,
    scores_a: Mapping[str, float],
    scores_b: Mapping[str, float],
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> Comparison:
    """Compare two models image by image.

    The interval is the percentile bootstrap over images: it tells how much the mean difference depends on which images
    happened to be in the test set. Its percentiles are moved outwards so that it is, for normal differences, as wide as
    Student's t interval; the plain ones are too narrow for few images (Hesterberg, "What Teachers Should Know About
    the Bootstrap", 2015, section 3.2).

    Args:
        a, b: labels of the models.
        scores_a, scores_b: image name -> score in dB; only images in both count. Equal infinities are a tie; a pair
            whose difference is infinite or not a number is left out.
        seed: of the bootstrap; the same seed and scores give the same result, in whichever order the images come.
        resamples: how often the images are drawn anew.

    Raises:
        ValueError: no image can be compared.
    """
    shared = sorted(scores_a.keys() & scores_b.keys())
    pairs = [_difference(scores_a[name], scores_b[name]) for name in shared]
    differences = np.array([pair for pair in pairs if math.isfinite(pair)], dtype=np.float64)
    if not len(differences):
        raise ValueError(f"{b} and {a} cannot be compared: no image has a finite difference of their scores")
    low = high = None
    if len(differences) > 1:
        tail = _expanded_tail(len(differences))
        low, high = np.quantile(_resampled_means(differences, seed, resamples), [tail, 1 - tail]).tolist()
    return Comparison(
        a,
        b,
        images=len(differences),
        mean=float(np.mean(differences)),
        wins=int(np.sum(differences > 0)),
        losses=int(np.sum(differences < 0)),
        ties=int(np.sum(differences == 0)),
        low=low,
        high=high,
        left_out=len(pairs) - len(differences),
    )


def _difference(a: float, b: float) -> float:
    if a == b:  # two infinite scores, too
        return 0.0
    return 0.0 if abs(b - a) < _EQUAL else b - a


def _expanded_tail(n: int) -> float:
    """Share of resampled means to leave out at each end: normal tail beyond sqrt(n / (n - 1)) * t(0.975, n - 1)."""
    z, df = NormalDist().inv_cdf(0.975), n - 1
    # Student's t by its expansion around the normal quantile (Abramowitz and Stegun, 26.7.5): within 0.1 % from df 5;
    # with less, t is large anyway, and the interval as good as the range of the differences.
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    t = z + sum(term / df**power for power, term in enumerate(terms, start=1))
    return NormalDist().cdf(-t * math.sqrt(n / df))


def _resampled_means(differences: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Means of ``resamples`` samples of n out of the n differences (n,), drawn with replacement."""
    random = np.random.Generator(np.random.PCG64(seed))
    n = len(differences)
    means = np.empty(resamples)
    chunk = max(_DRAWS // n, 1)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        means[start : start + rows] = differences[random.integers(n, size=(rows, n))].mean(axis=1)
    return means


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # adding 0.0 turns -0.0 into 0.0


def _digits(smallest: float) -> int:
    """Decimal places, 3 or as many as show that a positive value is not 0."""
    return max(3, math.ceil(-math.log10(smallest)))


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
