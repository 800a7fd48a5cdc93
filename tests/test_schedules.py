"""The learning rate as a function of the step."""

import math
import time
from typing import Any

import pytest
import torch

from swinlet.options import TrainOptions
from swinlet.schedules import feature_loss_is_on, learning_rate


def rates(steps: range | list[int], **train: Any) -> list[float]:
    options = TrainOptions.model_validate({"G_optimizer_lr": 1.0, **train})
    return [learning_rate(options, step) for step in steps]


def restarts(steps: range | list[int], periods: Any, **train: Any) -> list[float]:
    kind = "CosineAnnealingWarmRestarts"
    return rates(steps, G_scheduler_type=kind, G_scheduler_periods=periods, **train)


def test_a_milestone_lowers_the_rate_from_its_iteration_on() -> None:
    assert rates(range(1, 7), G_scheduler_milestones=[2, 5], G_scheduler_gamma=0.5) == [1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_milestones_may_coincide_or_be_none() -> None:
    assert rates([1, 2, 3], G_scheduler_milestones=[2, 2]) == [1, 0.25, 0.25]
    assert rates([1, 10**9], G_scheduler_milestones=[]) == [1, 1]


def test_the_default_is_the_seeds_protocol() -> None:
    steps = [1, 9999, 10000, 15999, 16000, 17999, 18000, 18999, 19000, 20000]
    expected = [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]
    assert rates(steps) == expected


@pytest.mark.parametrize("growth", [1, 2, 3])
@pytest.mark.parametrize("period", [1, 4, 7])
@pytest.mark.parametrize("low", [0.0, 0.1])
def test_restarts_equal_torch(period: int, growth: int, low: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, period, growth, low)
    optimizer.step()
    expected: list[float] = []
    for step in range(1, 60):
        scheduler.step(step)  # as the reference does, before the update of that iteration
        expected.append(optimizer.param_groups[0]["lr"])
    actual = restarts(range(1, 60), period, G_scheduler_restart_weights=growth, G_scheduler_eta_min=low)
    assert actual == pytest.approx(expected, abs=1e-9)


def basicsr(step: int, periods: list[int], weights: list[float], low: float) -> float:
    """CosineAnnealingRestartLR of BasicSR, for the base rate 1."""
    ends = [sum(periods[: i + 1]) for i in range(len(periods))]
    i = next(i for i, end in enumerate(ends) if step <= end)
    start = ends[i - 1] if i else 0
    return low + weights[i] * 0.5 * (1 - low) * (1 + math.cos(math.pi * (step - start) / periods[i]))


def test_lists_equal_basicsr() -> None:
    periods, weights = [4, 6, 2], [1.0, 0.5, 0.25]
    actual = restarts(range(1, 13), periods, G_scheduler_restart_weights=weights, G_scheduler_eta_min=0.1)
    assert actual == pytest.approx([basicsr(step, periods, weights, 0.1) for step in range(1, 13)])


def test_lists_end_at_the_minimum_and_the_last_cycle_repeats() -> None:
    """A run as long as its only cycle must not take its last step at the full rate."""
    halves = [math.cos(math.pi / 8) ** 2, 0.5, math.sin(math.pi / 8) ** 2]  # (1 + cos) / 2 at 1/4, 2/4, 3/4
    expected = [halves[1], 0, *halves, 0, *halves, 0]
    assert restarts(range(1, 11), [2, 4]) == pytest.approx(expected, abs=1e-12)


def test_cosine_falls_once_over_the_run() -> None:
    low = {"G_scheduler_type": "cosine", "total_iter": 100, "G_scheduler_eta_min": 0.2}
    first, middle, last, after, long_after = rates([1, 51, 100, 101, 10**9], **low)
    assert first == 1.0
    assert middle == pytest.approx(0.6)
    assert last == pytest.approx(0.2, abs=3e-4)
    assert (after, long_after) == pytest.approx((0.2, 0.2))
    falling = rates(range(1, 101), **low)
    assert falling == sorted(falling, reverse=True)


def test_a_run_of_one_iteration() -> None:
    assert rates([1], G_scheduler_type="cosine", total_iter=1) == [1.0]


def test_warm_up_is_linear_and_multiplies() -> None:
    assert rates(range(1, 6), G_scheduler_warmup_iter=4, G_scheduler_milestones=[3]) == [0.25, 0.5, 0.375, 0.5, 0.5]
    cosine = {"G_scheduler_type": "cosine", "total_iter": 10}
    plain, warm = rates(range(1, 11), **cosine), rates(range(1, 11), G_scheduler_warmup_iter=2, **cosine)
    assert warm == [plain[0] / 2, *plain[1:]]


@pytest.mark.parametrize(
    "train",
    [
        {"G_scheduler_periods": 1},
        {"G_scheduler_periods": 1, "G_scheduler_restart_weights": 2},
        {"G_scheduler_periods": [1, 2]},
    ],
)
def test_huge_steps_are_no_slower(train: dict[str, Any]) -> None:
    began = time.perf_counter()
    rate = rates([10**15], G_scheduler_type="CosineAnnealingWarmRestarts", **train)[0]
    assert 0 <= rate <= 1
    assert time.perf_counter() - began < 0.5


def test_feature_loss_is_on_from_its_iteration() -> None:
    train = TrainOptions(start_feature_iter=3)
    assert [feature_loss_is_on(train, step) for step in (1, 2, 3, 4)] == [False, False, True, True]
