"""Numbers of a study: hand-computed quantiles, intervals, shares, ranks, and the words for them."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
import pytest

from swinlet.study.analysis import Images, SetData, analyse, difference, mean, rank
from swinlet.study.results import Difference, GapShare, Interval
from swinlet.study.student_t import seeds_needed, t_interval, t_probability, t_quantile
from swinlet.study.verdict import percent, verdict

NAMES = ("a", "b", "c", "d")


def images(*scores: float | None) -> dict[str, dict[str, float | None]]:
    """Scores of one run: PSNR-Y, with PSNR-RGB 1 dB lower and SSIM 0.5."""
    return {
        name: {"psnr_y": score, "psnr_rgb": None if score is None else score - 1, "ssim_y": 0.5, "ssim_rgb": 0.5}
        for name, score in zip(NAMES, scores, strict=False)
    }


def runs(*means: float, spread: float = 1.0) -> dict[int, Images]:
    """Runs of the seeds 1, 2, ... whose two images score ``spread`` less and more than the mean."""
    return {seed: images(value - spread, value + spread) for seed, value in enumerate(means, start=1)}


class TestStudentT:
    @pytest.mark.parametrize(
        ("df", "quantile"),
        [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (10, 2.2281), (30, 2.0423)],
    )
    def test_quantiles_of_the_tables(self, df: int, quantile: float) -> None:
        assert t_quantile(0.975, df) == pytest.approx(quantile, abs=5e-5)

    def test_closed_forms(self) -> None:
        assert t_probability(1.0, 1) == pytest.approx(0.5)  # Cauchy: atan(1) * 2 / pi
        assert t_probability(1.0, 2) == pytest.approx(1 / math.sqrt(3))  # t / sqrt(2 + t^2)
        assert t_probability(0.0, 7) == 0.0

    def test_many_degrees_of_freedom_are_normal(self) -> None:
        assert t_quantile(0.975, 999) == pytest.approx(NormalDist().inv_cdf(0.975), rel=2e-3)
        assert t_quantile(0.5, 3) == pytest.approx(0.0, abs=1e-9)

    def test_interval(self) -> None:
        # mean 2, standard deviation 1, n 3: 2 -+ 4.3027 / sqrt(3)
        assert t_interval([1.0, 2.0, 3.0]) == (pytest.approx(2 - 2.4841, abs=1e-4), pytest.approx(2 + 2.4841, abs=1e-4))
        assert t_interval([1.0]) is None
        assert t_interval([2.0, 2.0]) == (2.0, 2.0)

    @pytest.mark.parametrize(
        ("effect", "deviation", "count"),
        [
            (0.05, 0.03, 5),  # (2.7764 + 0.9410) * 0.03 / 2.2361 = 0.0499; of 4: (3.1824 + 0.9785) * 0.03 / 2 = 0.0624
            (1.0, 0.1, 2),  # (12.7062 + 1.3764) * 0.1 / 1.4142 = 0.996
            (-0.05, 0.03, 5),
            (0.001, 1.0, None),
            (0.0, 0.0, None),
            (0.1, 0.0, 2),
        ],
    )
    def test_seeds_needed(self, effect: float, deviation: float, count: int | None) -> None:
        assert seeds_needed(effect, deviation) == count

    def test_one_seed_fewer_is_not_enough(self) -> None:
        count = seeds_needed(0.01, 0.05)
        assert count is not None
        limits = [(t_quantile(0.975, n - 1) + t_quantile(0.8, n - 1)) * 0.05 / math.sqrt(n) for n in (count, count - 1)]
        assert limits[0] < 0.01 <= limits[1]

    def test_so_many_seeds_show_it_four_times_in_five(self) -> None:
        count = seeds_needed(0.191, 0.1715)
        assert count is not None
        draws = np.random.default_rng(1).normal(0.191, 0.1715, (20_000, count))
        half = t_quantile(0.975, count - 1) * draws.std(axis=1, ddof=1) / math.sqrt(count)
        assert 0.79 < np.mean(draws.mean(axis=1) > half) < 0.84


class TestDifference:
    def test_by_hand(self) -> None:
        found = difference("none", runs(30.0, 31.0, 32.0), runs(30.1, 31.2, 32.3), top=33.0)
        assert found is not None
        assert found.seeds == (1, 2, 3)
        assert found.values == pytest.approx((0.1, 0.2, 0.3))
        assert found.mean == pytest.approx(0.2)
        assert found.deviation == pytest.approx(0.1)
        half = 4.30265 * 0.1 / math.sqrt(3)
        assert found.over_seeds is not None
        assert (found.over_seeds.low, found.over_seeds.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-5)
        assert not found.is_clear
        assert found.seeds_needed == 5  # (2.7764 + 0.9410) * 0.1 / 2.2361 = 0.166
        assert found.share is not None
        assert found.share.gap == pytest.approx(2.0)
        shares = [0.1 / 3, 0.2 / 2, 0.3 / 1]  # 0.1444, standard deviation 0.1388
        assert found.share.share == pytest.approx(sum(shares) / 3)
        assert (found.share.low, found.share.high) == pytest.approx((0.1444 - 0.3447, 0.1444 + 0.3447), abs=2e-4)

    def test_only_shared_seeds_are_paired(self) -> None:
        found = difference(
            "none", {1: images(30.0), 3: images(31.0)}, {2: images(99.0), 3: images(31.5), 4: images(0.0)}
        )
        assert found is not None
        assert (found.seeds, found.values) == ((3,), (0.5,))
        assert found.over_seeds is found.deviation is found.seeds_needed is None
        assert difference("none", {1: images(30.0)}, {2: images(30.0)}) is None

    def test_the_interval_over_images_is_of_the_mean_over_seeds(self) -> None:
        """Images a and b gain 0 and 2 on average, though no single run does."""
        found = difference(
            "none", {1: images(30.0, 30.0), 2: images(30.0, 30.0)}, {1: images(31.0, 31.0), 2: images(29.0, 33.0)}
        )
        assert found is not None
        assert found.over_images is not None
        assert (found.over_images.low, found.over_images.high) == pytest.approx((0.0, 2.0))

    def test_a_teacher_that_is_not_better_leaves_no_gap(self) -> None:
        for top in (29.0, 30.5):  # worse than both, than one
            found = difference("none", runs(30.0, 31.0), runs(30.2, 31.2), top=top)
            assert found is not None
            assert found.share is None

    def test_a_share_knows_that_difference_and_gap_go_together(self) -> None:
        """Each seed recovers half of its gap, however large that is."""
        found = difference("none", runs(30.0, 31.0, 32.0), runs(31.5, 32.0, 32.5), top=33.0)
        assert found is not None
        assert found.share is not None
        assert (found.share.low, found.share.share, found.share.high) == pytest.approx((0.5, 0.5, 0.5))

    def test_infinite_scores_have_no_difference(self) -> None:
        assert mean(images(30.0, None), "psnr_y") is None
        assert difference("none", {1: images(30.0)}, {1: images(None)}) is None


class TestRanking:
    @staticmethod
    def places(variants: Mapping[str, Mapping[int, Images]]) -> list[tuple[str, int, int]]:
        found = rank(variants)
        assert found is not None
        return [(place.variant, place.best, place.worst) for place in found.ranks]

    def test_clear_neighbours_are_ordered(self) -> None:
        variants = {"low": runs(30.0, 31.0), "high": runs(31.0, 32.001), "middle": runs(30.5, 31.5)}
        assert self.places(variants) == [("high", 1, 1), ("middle", 2, 2), ("low", 3, 3)]

    def test_places_that_cannot_be_told_apart_are_ranges(self) -> None:
        """The worst is worse than none by 1.0 with each seed; the first is like both."""
        variants = {"none": runs(30.0, 31.0), "unsteady": runs(30.3, 30.8), "worst": runs(29.0, 30.0)}
        assert self.places(variants) == [("unsteady", 1, 3), ("none", 1, 2), ("worst", 2, 3)]

    def test_a_difference_that_is_clear_shows_though_neighbours_are_alike(self) -> None:
        variants = {
            "high": runs(30.10, 30.11, 30.10),
            "unsteady": runs(30.30, 29.80, 30.05),
            "low": runs(30.00, 30.01, 30.00),
        }
        assert self.places(variants) == [("high", 1, 2), ("unsteady", 1, 3), ("low", 2, 3)]

    def test_equal_variants_share_their_places(self) -> None:
        assert self.places({"one": runs(30.0, 31.0), "other": runs(30.0, 31.0)}) == [("one", 1, 2), ("other", 1, 2)]

    def test_one_seed_ranks_nothing(self) -> None:
        assert self.places({"one": runs(30.0), "other": runs(35.0)}) == [("other", 1, 2), ("one", 1, 2)]

    def test_only_seeds_of_all_count(self) -> None:
        found = rank({"one": runs(30.0, 31.0, 99.0), "other": runs(31.0, 32.0), "not begun": {}})
        assert found is not None
        assert found.seeds == (1, 2)
        assert [place.variant for place in found.ranks] == ["other", "one"]
        assert rank({"one": {1: images(30.0)}, "other": {2: images(30.0)}}) is None
        assert rank({"one": {}}) is None


class TestTestSet:
    @staticmethod
    def data(variants: Mapping[str, Mapping[int, Images]], teacher: Images | None) -> SetData:
        return SetData("Set5", "sets/Set5", "1f", "X4", {"bicubic": images(28.0, 30.0)}, teacher, variants)

    def test_means_and_baselines(self) -> None:
        found = analyse(self.data({"none": runs(30.0, 32.0), "taught": runs(30.5)}, images(32.0, 34.0)), "none")
        assert (found.images, found.gap) == (2, 2.0)
        assert found.teacher is not None
        assert [row.psnr_y for row in (*found.baselines, found.teacher)] == [29.0, 33.0]
        none, taught = found.variants
        assert (none.psnr_y, none.psnr_rgb, none.ssim_y) == (31.0, 30.0, 0.5)
        assert none.deviation == pytest.approx(math.sqrt(2))
        assert none.difference is None
        assert none.verdict == ""
        assert [score.psnr_y for score in none.seeds] == [30.0, 32.0]
        assert taught.difference is not None
        assert taught.difference.share is not None
        assert taught.difference.share.gap == 3.0  # over the shared seed
        assert taught.deviation is None

    def test_nothing_is_finished(self) -> None:
        found = analyse(self.data({"none": {}, "taught": {}}, None), "none")
        assert found.gap is found.ranking is found.variants[0].psnr_y is None
        assert (
            found.variants[1].verdict
            == "taught and none cannot be compared on Set5: there is no seed with finite scores of both."
        )


def made(low: float, middle: float, high: float, seeds: Sequence[int] = (1, 2, 3), **changes: object) -> Difference:
    content = Difference(
        against="none",
        seeds=tuple(seeds),
        values=(middle,) * len(seeds),
        mean=middle,
        deviation=0.02,
        over_seeds=Interval(low=low, high=high),
        over_images=None,
        images=5,
        share=None,
        seeds_needed=23,
    )
    return content.model_copy(update=changes)


class TestVerdict:
    @pytest.mark.parametrize(
        ("found", "sentence"),
        [
            (
                made(0.08, 0.12, 0.16, share=GapShare(gap=0.48, share=0.25, low=0.1, high=0.3)),
                "X is better than none on Set5 by 0.120 dB (95 % interval 0.080 to 0.160 over 3 seeds), 25 % of the "
                "teacher's gap.",
            ),
            (
                made(-0.16, -0.12, -0.08),
                "X is worse than none on Set5 by 0.120 dB (95 % interval 0.080 to 0.160 over 3 seeds); there is no "
                "gap, as the teacher is not better than none with every seed.",
            ),
            (
                made(-0.01, 0.02, 0.05),
                "X and none cannot be told apart on Set5: X - none is +0.020 dB (95 % interval -0.010 to +0.050 over 3 "
                "seeds); with this spread 23 seeds would be needed to show a difference of this size four times in "
                "five.",
            ),
            (
                made(-0.01, 0.0, 0.01, seeds_needed=None),
                "X and none cannot be told apart on Set5: X - none is +0.000 dB (95 % interval -0.010 to +0.010 over 3 "
                "seeds); with this spread more than 1,000 seeds would be needed to show a difference of this size four "
                "times in five.",
            ),
            (
                made(0.0, 0.0, 0.0, deviation=0.0),
                "X and none score the same on Set5, with 3 seeds.",
            ),
            (
                made(-0.16, -0.12, -0.08, share=GapShare(gap=0.48, share=-0.25, low=-0.3, high=-0.1)),
                "X is worse than none on Set5 by 0.120 dB (95 % interval 0.080 to 0.160 over 3 seeds).",
            ),
            (
                made(0.0, 0.12, 0.0, seeds=(7,), over_seeds=None),
                "X - none is +0.120 dB on Set5 with seed 7: one seed tells nothing of another.",
            ),
        ],
    )
    def test_sentences(self, found: Difference, sentence: str) -> None:
        assert verdict("X", "none", "Set5", found, has_teacher=True) == sentence

    def test_shares(self) -> None:
        assert [percent(share) for share in (0.0123, -0.0001, 0.0994, 0.0996, 1.5, -0.55)] == [
            *["1.2", "0.0", "9.9", "10", "150", "-55"]
        ]

    def test_without_a_teacher_nothing_is_said_of_one(self) -> None:
        assert verdict("X", "none", "Set5", made(0.08, 0.12, 0.16), has_teacher=False).endswith("over 3 seeds).")
