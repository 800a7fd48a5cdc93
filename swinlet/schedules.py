"""What varies with the step, as pure functions of the step: a resumed run needs no scheduler state."""

import bisect
import math

from swinlet.options import Options, TrainOptions


def learning_rate(train: TrainOptions, step: int) -> float:
    """The learning rate in force during iteration ``step`` (the first iteration is 1).

    MultiStepLR lowers it by ``gamma`` from each milestone on. "cosine" falls over ``total_iter``, from the base rate
    at the first iteration; CosineAnnealingWarmRestarts restarts after each period (SGDR, arXiv:1608.03983). Warm-up
    multiplies any of them by step / warmup_iter.
    """
    base = train.G_optimizer_lr
    if train.G_scheduler_type == "MultiStepLR":
        rate = base * train.G_scheduler_gamma ** bisect.bisect_right(train.G_scheduler_milestones, step)
    else:
        low = train.G_scheduler_eta_min or 0.0
        if train.G_scheduler_type == "cosine":
            progress, weight = min((step - 1) / train.total_iter, 1.0), 1.0
        else:
            progress, weight = _cycle(train, step)
        rate = low + weight * (base - low) * (1 + math.cos(math.pi * progress)) / 2
    warmup = train.G_scheduler_warmup_iter
    return rate * min(step / warmup, 1.0) if warmup else rate


def _cycle(train: TrainOptions, step: int) -> tuple[float, float]:
    """Progress inside the current cosine cycle, in [0, 1], and the cycle's weight."""
    periods, weights = train.G_scheduler_periods, train.G_scheduler_restart_weights
    if isinstance(periods, tuple):
        factors = weights if isinstance(weights, tuple) else (1.0,) * len(periods)
        return _listed_cycle(periods, factors, step)
    assert periods is not None  # checked by TrainOptions
    growth = weights if isinstance(weights, int) else 1
    return _growing_cycle(periods, growth, step), 1.0


def _listed_cycle(periods: tuple[int, ...], factors: tuple[float, ...], step: int) -> tuple[float, float]:
    """As in BasicSR: one length and weight for each cycle, whose last iteration is at the minimum.

    The last cycle repeats.
    """
    start = 0
    for period, factor in zip(periods, factors, strict=True):
        if step <= start + period:
            return (step - start) / period, factor
        start += period
    return ((step - start - 1) % periods[-1] + 1) / periods[-1], factors[-1]


def _growing_cycle(period: int, growth: int, step: int) -> float:
    """As in torch: each cycle is ``growth`` times as long as the one before, and its last iteration starts the next."""
    if growth == 1:
        return step % period / period
    start = 0
    while step >= start + period:
        start, period = start + period, period * growth
    return (step - start) / period


def feature_loss_is_on(train: TrainOptions, step: int) -> bool:
    """Whether iteration ``step`` has reached ``start_feature_iter``."""
    return step >= train.start_feature_iter


def ema_decay(opt: Options, step: int) -> float:
    """Decay of the EMA in iteration ``step``: ``E_decay``, while it warms up at most (1 + step) / (10 + step).

    So the average follows closely at first, and does not remember the first weights; TensorFlow's
    ``ExponentialMovingAverage`` with ``num_updates`` does the same.
    """
    decay = opt.train.E_decay
    return min(decay, (1 + step) / (10 + step)) if opt.ema_warms_up else decay
