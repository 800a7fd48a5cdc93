"""Steps that are skipped, and losses that leap: what is counted, logged and refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swinlet.errors import TrainingError
from swinlet.models.model_plain import ModelPlain
from swinlet.train import train
from swinlet.watch import SPIKE_WARM_UP, SPIKE_WINDOW, Spikes
from tests.small_run import options
from tests.test_train import assert_same_run, final_state, records

Spoil = Callable[..., None]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Make the loss of these iterations no number; ``late``: what happened is read as late as on a GPU."""
    real, real_init = ModelPlain.optimize_parameters, ModelPlain.init_train

    def at(*steps: int, late: bool = False) -> None:
        def optimize(model: ModelPlain, step: int) -> None:
            if step in steps:
                model._images["H"] = torch.full_like(model._images["H"], torch.nan)
            real(model, step)

        def init_train(model: ModelPlain, **keys: Any) -> None:
            model.reads_are_free = not late
            real_init(model, **keys)

        monkeypatch.setattr(ModelPlain, "optimize_parameters", optimize)
        monkeypatch.setattr(ModelPlain, "init_train", init_train)

    return at


@pytest.mark.parametrize("late", [False, True])
def test_skipped_steps_are_counted_and_logged(photos: Path, tmp_path: Path, spoil: Spoil, late: bool) -> None:
    spoil(2, 3, 5, late=late)
    assert train(options(photos, tmp_path, checkpoint_save=6))
    run = tmp_path / "run"
    found = records(run, "skipped")
    assert [(r["step"], r["total"], r["in_a_row"], r["first_position"]) for r in found] == [
        (2, 1, 1, 2),
        (3, 2, 2, 4),
        (5, 3, 1, 8),
    ]
    assert found[0]["values"]["l_g_L1"] is None
    assert [Path(image).parent for image in found[0]["images"]] == [photos / "train"] * 2
    assert [(r["step"], r["skipped"]) for r in records(run, "train")] == [(2, 1), (4, 2), (6, 3)]
    log = (run / "train.log").read_text()
    names = ", ".join(Path(image).name for image in found[0]["images"])
    expected = "WARNING: iteration 2 skipped: l_g_L1 nan, G_loss nan; samples 2 to 3: " + names
    assert expected in log
    assert "it/s, 3 skipped)" in log
    assert json.loads((run / "models" / "6.json").read_text())["skipped"] == {"total": 3, "in_a_row": 0}
    steps = {int(moments) for name, moments in final_state(run).items() if name.endswith("/step")}
    assert steps == {3}


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(photos: Path, tmp_path: Path, spoil: Spoil, cut: int) -> None:
    """Also where it is cut off at a skipped step, with a checkpoint due."""
    spoil(2, 3, 5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(options(photos, whole))
    train(options(photos, parts, total_iter=cut))
    train(options(photos, parts))
    assert_same_run(whole / "run", parts / "run")
    assert records(parts / "run", "train")[-1]["skipped"] == 3


def test_a_checkpoint_waits_for_a_sound_step(photos: Path, tmp_path: Path, spoil: Spoil) -> None:
    spoil(2, 3)
    train(options(photos, tmp_path))
    assert sorted(int(p.stem) for p in (tmp_path / "run" / "models").glob("[0-9]*.json")) == [4, 6]
    train(options(photos, tmp_path / "other", total_iter=1))
    keep = {"newest": 1}  # and nothing is pruned for it
    train(options(photos, tmp_path / "other", total_iter=3, keep_checkpoints=keep))  # but not beyond the end
    assert (tmp_path / "other" / "run" / "models" / "1.json").exists()
    assert (tmp_path / "other" / "run" / "models" / "3.json").exists()
    assert "the last 2 iterations were skipped" in (tmp_path / "other" / "run" / "train.log").read_text()


@pytest.mark.parametrize("late", [False, True])
def test_too_many_in_a_row_end_the_run(photos: Path, tmp_path: Path, spoil: Spoil, late: bool) -> None:
    spoil(4, 6, 7, 8, late=late)
    message = (
        r"^iteration 8: 3 iterations in a row were skipped, .*; the last: l_g_L1 nan, G_loss nan; "
        r"samples 14 to 15: \w+\.png, \w+\.png\. Saved checkpoints are kept\. "
    )
    opt = options(photos, tmp_path, max_skipped_steps=3, total_iter=9)
    with pytest.raises(TrainingError, match=message):
        train(opt)
    run = tmp_path / "run"
    assert sorted(int(p.stem) for p in (run / "models").glob("[0-9]*.json")) == [2, 5]
    spoil()
    assert train(opt)  # what was kept can be gone on from


def test_the_limit_holds_across_a_resumption(photos: Path, tmp_path: Path, spoil: Spoil) -> None:
    spoil(3, 4, 5)
    train(options(photos, tmp_path, max_skipped_steps=3, total_iter=4))
    with pytest.raises(TrainingError, match="iteration 5: 3 iterations in a row"):
        train(options(photos, tmp_path, max_skipped_steps=3))


def test_spikes_are_logged(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swinlet.watch.SPIKE_WARM_UP", 3)
    real = ModelPlain.optimize_parameters

    def optimize(model: ModelPlain, step: int) -> None:
        model._images["H"] += 30.0 if step in (5, 6) else 1.0
        real(model, step)

    monkeypatch.setattr(ModelPlain, "optimize_parameters", optimize)
    train(options(photos, tmp_path))
    (spike,) = records(tmp_path / "run", "spike")
    assert (spike["step"], spike["first_position"], len(spike["images"])) == (5, 8, 2)
    assert spike["loss"] > 10 * spike["median"]
    log = (tmp_path / "run" / "train.log").read_text()
    assert f"iteration 5: the pixel loss leaps to {spike['loss']:.3e}, " in log


def spikes_in(losses: list[float]) -> list[int]:
    spikes = Spikes()
    return [i for i, loss in enumerate(losses) if spikes.add(loss) is not None]


class TestSpikes:
    def scattered(self, spread: float, count: int = 2000) -> list[float]:
        noise = torch.randn(count, generator=torch.Generator().manual_seed(0))
        return (0.02 * torch.exp(spread * noise)).tolist()

    @pytest.mark.parametrize("spread", [0.0, 0.05, 0.3, 1.0])
    def test_no_false_alarm(self, spread: float) -> None:
        assert spikes_in(self.scattered(spread)) == []

    @pytest.mark.parametrize(("spread", "factor"), [(0.0, 2.1), (0.05, 3), (0.3, 15)])
    def test_one_that_leaps(self, spread: float, factor: float) -> None:
        losses = self.scattered(spread)
        losses[700] = factor * 0.02
        assert spikes_in(losses) == [700]

    def test_a_new_level_is_told_of_once(self) -> None:
        losses = [0.01] * 200 + [1.0] * 200 + [0.01] * 200
        assert spikes_in(losses) == [200]

    def test_a_falling_loss_is_none(self) -> None:
        assert spikes_in([math.exp(-step / 20) for step in range(400)] + [0.0] * 10) == []

    def test_the_first_losses_are_none(self) -> None:
        assert spikes_in([1.0] * (SPIKE_WARM_UP - 1) + [100.0] + [1.0] * SPIKE_WINDOW) == []
