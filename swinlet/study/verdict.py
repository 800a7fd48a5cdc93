"""A difference in words: what it shows, and what it does not."""

from swinlet.study.results import Difference, Interval
from swinlet.study.student_t import MAX_SEEDS


def verdict(variant: str, reference: str, testset: str, found: Difference | None, *, has_teacher: bool) -> str:
    """One sentence about a variant on a test set."""
    if found is None:
        return (
            f"{variant} and {reference} cannot be compared on {testset}: there is no seed with finite scores of both."
        )
    size = f"{variant} - {reference} is {signed(found.mean)} dB"
    if found.over_seeds is None:
        return f"{size} on {testset} with seed {found.seeds[0]}: one seed tells nothing of another."
    if found.is_clear:
        return _clear(variant, reference, testset, found, found.over_seeds, has_teacher=has_teacher)
    if found.mean == found.deviation == 0:
        return f"{variant} and {reference} score the same on {testset}, with {len(found.seeds)} seeds."
    many = f"more than {MAX_SEEDS:,}" if found.seeds_needed is None else f"{found.seeds_needed:,}"
    return (
        f"{variant} and {reference} cannot be told apart on {testset}: {size} (95 % interval "
        f"{signed(found.over_seeds.low)} to {signed(found.over_seeds.high)} over {len(found.seeds)} seeds); with this "
        f"spread {many} seeds would be needed to show a difference of this size four times in five."
    )


def _clear(
    variant: str, reference: str, testset: str, found: Difference, interval: Interval, *, has_teacher: bool
) -> str:
    is_better = found.mean > 0
    low, high = (interval.low, interval.high) if is_better else (-interval.high, -interval.low)
    text = (
        f"{variant} is {'better' if is_better else 'worse'} than {reference} on {testset} by {abs(found.mean):.3f} dB "
        f"(95 % interval {low:.3f} to {high:.3f} over {len(found.seeds)} seeds)"
    )
    if found.share is not None and is_better:
        text += f", {percent(found.share.share)} % of the teacher's gap"
    elif found.share is None and has_teacher:
        text += f"; there is no gap, as the teacher is not better than {reference} with every seed"
    return f"{text}."


def signed(value: float) -> str:
    """A difference in dB with its sign, three decimals."""
    return f"{round(value, 3) + 0.0:+.3f}"  # adding 0.0 turns -0.0 into 0.0


def percent(share: float) -> str:
    """A share in per cent, without the sign: whole ones, or a decimal where they are few."""
    value = 100 * share
    return f"{round(value, 1) + 0.0:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
