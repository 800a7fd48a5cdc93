"""One optimisation step at a time: golden values of the reference, and what the seed's calls promise."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import swinlet
from swinlet.errors import CheckpointError, OptionError
from swinlet.kernels.library import PathChoice
from swinlet.models import model_plain
from swinlet.models.optimizer import load_moments
from swinlet.models.transformer import DropPath
from swinlet.options import parse_options
from swinlet.schedules import ema_decay
from swinlet.utils import accelerator as accelerator_module
from swinlet.utils import device
from tests.golden import TRAININGS, Golden, read_golden

pytestmark = pytest.mark.usefixtures("path")

NET: dict[str, Any] = {"embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "img_size": 16}
TEACHER = NET | {"net_type": "swinir", "embed_dim": 24, "depths": [1, 2, 1], "num_heads": [2, 2, 2]}


def options(tmp_path: Path, kind: str = "none", **train: Any) -> dict[str, Any]:
    return {
        "gpu_ids": None,
        "task": "t",
        "path": {"root": str(tmp_path)},
        "netG": NET,
        "netTeacher": TEACHER if kind != "none" else None,
        "train": {"distillation_type": kind, **train},
    }


def batch(seed: int = 0, size: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "L": torch.rand(size, 3, 8, 8, generator=generator),
        "H": torch.rand(size, 3, 32, 32, generator=generator),
    }


def close(actual: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    """Relative to the size of the whole tensor: 1e-4."""
    error = (actual - expected).norm() / expected.norm().clamp(min=1e-12)
    assert error <= 1e-4, f"{name}: {error:.2e}"


def without_bias_of_keys(value: torch.Tensor, name: str) -> torch.Tensor:
    """The softmax does not see it: its gradient is zero but for rounding, of which Adam makes steps of full size."""
    if not name.endswith("attn.qkv.bias"):
        return value
    q, _, v = value.chunk(3)
    return torch.cat([q, v])


@pytest.mark.parametrize("name", TRAININGS)
def test_golden_training(shared: Path, name: str, path: PathChoice) -> None:
    seen: Callable[[torch.Tensor, str], torch.Tensor] = lambda value, _: value  # noqa: E731
    if path == "native":
        seen = without_bias_of_keys
    golden = read_golden(shared / "golden" / "training" / f"{name}.safetensors")
    model = swinlet.define_Model(golden_options(shared, golden))
    model.netG.load_state_dict(golden.below("init/netG/"))
    if model.netP is not None:
        model.netP.load_state_dict(golden.below("init/netP/"))
    model.init_train()
    for step in range(1, int(golden.metadata["steps"]) + 1):
        model.feed_data({"L": golden.tensors[f"step{step}/L"], "H": golden.tensors[f"step{step}/H"]})
        model.optimize_parameters(step)
        losses = golden.below(f"step{step}/loss/")
        assert set(model.current_log()) == set(losses)
        for loss, value in model.current_log().items():
            assert value == pytest.approx(losses[loss].item(), rel=1e-4)
        assert model.current_learning_rate() == pytest.approx(golden.tensors[f"step{step}/lr"].item(), rel=1e-6)
        estimate = golden.tensors[f"step{step}/E"]
        torch.testing.assert_close(model.current_visuals()["E"], estimate[0], atol=1e-4, rtol=0)
        if step == 1:
            for net in ("netG", "netP"):
                for parameter, gradient in golden.below(f"step1/grad/{net}/").items():
                    close(getattr(model, net).get_parameter(parameter).grad, gradient, f"{net}.{parameter}")
    for net in ("netG", "netE", "netP"):
        for parameter, value in golden.below(f"final/{net}/").items():
            result = getattr(model, net).state_dict()[parameter]
            close(seen(result, parameter), seen(value, parameter), f"{net}.{parameter}")


def golden_options(shared: Path, golden: Golden) -> dict[str, Any]:
    return {
        "gpu_ids": None,
        "netG": {"net_type": golden.metadata["net_type"], "drop_path_rate": 0.0, **golden.json("student")},
        "train": golden.json("train") | {"E_warmup": False},
        "path": {"pretrained_netTeacher": str(shared / "golden" / "training" / "teacher.safetensors")},
    }


def test_teacher_is_frozen_and_outside_the_optimiser_and_the_checkpoint(tmp_path: Path) -> None:
    model = swinlet.define_Model(options(tmp_path, "feature"))
    model.init_train()
    before = {name: p.clone() for name, p in model.netTeacher.named_parameters()}
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert not model.netTeacher.training
    for name, parameter in model.netTeacher.named_parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
    saved = model.save(1)
    assert sorted(saved.files) == ["E", "G", "P", "optimizerG"]
    assert sorted(p.name for p in (tmp_path / "t" / "models").iterdir()) == [
        "1.json",
        "1_E.pth",
        "1_G.pth",
        "1_P.pth",
        "1_optimizerG.pth",
    ]


def test_student_and_translator_both_learn(tmp_path: Path) -> None:
    torch.manual_seed(0)  # of drop-path, which may leave a block out for all images
    model = swinlet.define_Model(options(tmp_path, "feature"))
    model.init_train()
    before = [p.clone() for p in (*model.netG.parameters(), *model.netP.parameters())]
    model.feed_data(batch())
    model.optimize_parameters(1)
    after = [*model.netG.parameters(), *model.netP.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_feature_loss_starts_at_its_iteration(tmp_path: Path) -> None:
    model = swinlet.define_Model(options(tmp_path, "feature", start_feature_iter=3))
    model.init_train()
    untouched = model.netP[0].weight.clone()
    for step, features in [(1, False), (2, False), (3, True)]:
        model.feed_data(batch(step))
        model.optimize_parameters(step)
        assert ("l_g_feature" in model.current_log()) is features
        assert torch.equal(model.netP[0].weight, untouched) is not features
        assert sum(v for k, v in model.current_log().items() if k != "G_loss") == pytest.approx(
            model.current_log()["G_loss"]
        )


def test_feature_pairs_choose_the_stages(tmp_path: Path) -> None:
    model = swinlet.define_Model(options(tmp_path, "feature", feature_pairs=[[1, 2]], feature_lossfn_weight=2.0))
    model.init_train()
    model.netG.eval()  # no drop-path, so that the features can be computed again
    data = batch()
    with torch.no_grad():
        student = model.netG(data["L"], return_features=True)[1][1]
        teacher = model.netTeacher(data["L"], return_features=True)[1][2]
        expected = 2.0 * (student - model.netP[0](teacher)).abs().mean()
    assert len(model.netP) == 1
    model.feed_data(data)
    model.optimize_parameters(1)
    assert model.current_log()["l_g_feature"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_pairs": [[2, 0]]}, r"feature_pairs: \[2, 0\] is out of range"),
        ({"feature_pairs": [[0, 3]]}, r"feature_pairs: \[0, 3\] is out of range"),
    ],
)
def test_feature_pairs_out_of_range(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        swinlet.define_Model(options(tmp_path, "feature", **change))


def test_a_shallow_teacher_needs_pairs(tmp_path: Path) -> None:
    opt = options(tmp_path, "feature")
    opt["netTeacher"] = TEACHER | {"depths": [1], "num_heads": [2]}
    with pytest.raises(OptionError, match="the student has 2 stages, the teacher 1"):
        swinlet.define_Model(opt)


def test_windows_must_agree_for_features(tmp_path: Path) -> None:
    opt = options(tmp_path, "feature")
    opt["netTeacher"] = TEACHER | {"window_size": 8}
    with pytest.raises(OptionError, match=r"netG\.window_size"):
        swinlet.define_Model(opt)


def test_gradient_clipping_counts_student_and_translator_together(tmp_path: Path) -> None:
    limit = 1e-3
    model = swinlet.define_Model(options(tmp_path, "feature", G_optimizer_clipgrad=limit))
    model.init_train()
    model.feed_data(batch())
    model.optimize_parameters(1)
    gradients = [p.grad for p in (*model.netG.parameters(), *model.netP.parameters())]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    assert norm.item() == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize("kind", ["l1", "l2", "l2sum", "charbonnier", "ssim"])
def test_pixel_losses_train(tmp_path: Path, kind: str) -> None:
    model = swinlet.define_Model(options(tmp_path, G_lossfn_type=kind, G_lossfn_weight=0.5, E_decay=0))
    model.init_train()
    model.feed_data(batch())
    losses = []
    for step in range(1, 7):
        model.optimize_parameters(step)
        losses.append(model.current_log()["l_g_L1"])
    assert losses[-1] < losses[0]
    assert model.netE is None


def test_adamw_decays_weights(tmp_path: Path) -> None:
    norms = {}
    for kind in ("adam", "adamw"):
        opt = options(tmp_path, G_optimizer_type=kind, G_optimizer_lr=1e-2, G_optimizer_wd=1.0, G_lossfn_weight=0.0)
        model = swinlet.define_Model(opt)
        model.init_train()
        start = model.netG.conv_first.weight.norm().item()
        model.feed_data(batch())
        model.optimize_parameters(1)
        norms[kind] = model.netG.conv_first.weight.norm().item() / start
    assert norms["adamw"] == pytest.approx(0.99, abs=1e-4)  # decoupled: 1 - lr * wd, with zero gradient
    assert norms["adam"] != pytest.approx(norms["adamw"], abs=1e-4)


@pytest.mark.parametrize("reads_are_free", [True, False])
@pytest.mark.parametrize(
    ("step", "warmup", "decay"),
    [(1, False, 0.9), (1, True, 2 / 11), (5, True, 6 / 15), (79, True, 80 / 89), (80, True, 0.9), (10**6, True, 0.9)],
)
def test_moving_average(tmp_path: Path, step: int, warmup: bool, decay: float, reads_are_free: bool) -> None:
    model = swinlet.define_Model(options(tmp_path, E_decay=0.9, E_warmup=warmup))
    model.init_train()
    model.reads_are_free = reads_are_free
    start = model.netG.conv_first.weight.detach().clone()
    assert torch.equal(model.netE.conv_first.weight, start)
    model.feed_data(batch())
    model.optimize_parameters(step)
    expected = decay * start + (1 - decay) * model.netG.conv_first.weight
    torch.testing.assert_close(model.netE.conv_first.weight.detach(), expected.detach())


def test_an_average_that_is_given_is_not_warmed_up(tmp_path: Path) -> None:
    tree = options(tmp_path, E_decay=0.9)
    assert ema_decay(parse_options(tree), 1) == 2 / 11  # the default
    tree["path"]["pretrained_netE"] = "E.pth"
    assert ema_decay(parse_options(tree), 1) == 0.9


def test_test_shows_the_average_and_leaves_training_as_it_was(tmp_path: Path) -> None:
    model = swinlet.define_Model(options(tmp_path, E_decay=0.9, G_optimizer_lr=1e-2))
    model.init_train()
    model.feed_data(batch())
    for step in (1, 2):
        model.optimize_parameters(step)
    pictures = {}
    for weights in (None, "E", "G"):
        model.test(weights)
        pictures[weights] = model.current_visuals()["E"]
    assert model.netG.training
    assert torch.equal(pictures[None], pictures["E"])
    assert not torch.equal(pictures["G"], pictures["E"])
    with torch.no_grad():
        assert torch.equal(pictures["E"], model.netE(batch()["L"])[0])
    assert set(model.current_visuals()) == {"L", "E", "H"}
    assert model.current_visuals()["L"].shape == (3, 8, 8)


def test_bytes_and_floats_feed_the_same(tmp_path: Path) -> None:
    model = swinlet.define_Model(options(tmp_path))
    data = {key: (image * 255).round() for key, image in batch().items()}
    model.feed_data({key: image.to(torch.uint8) for key, image in data.items()})
    as_bytes = model.current_visuals()
    model.feed_data({key: image / 255 for key, image in data.items()})
    for key, image in model.current_visuals().items():
        torch.testing.assert_close(image, as_bytes[key])


def test_same_seed_same_first_weights(tmp_path: Path) -> None:
    first = swinlet.define_Model(options(tmp_path, manual_seed=5))
    torch.rand(3)
    state = torch.get_rng_state()
    again = swinlet.define_Model(options(tmp_path, manual_seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    other = swinlet.define_Model(options(tmp_path, manual_seed=6))
    weights = [model.netG.conv_first.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class TestPretrained:
    def saved(self, tmp_path: Path) -> Any:
        model = swinlet.define_Model(options(tmp_path / "source", "feature", manual_seed=3))
        model.init_train()
        model.feed_data(batch())
        model.optimize_parameters(1)
        return model, model.save(1).files

    def test_every_path_has_its_effect(self, tmp_path: Path) -> None:
        source, files = self.saved(tmp_path)
        opt = options(tmp_path / "target", "feature", G_optimizer_reuse=True)
        labels = {"G": "netG", "E": "netE", "P": "netP", "optimizerG": "optimizerG"}
        opt["path"] |= {f"pretrained_{name}": str(files[label]) for label, name in labels.items()}
        model = swinlet.define_Model(opt)
        model.init_train()
        for net in ("netG", "netE", "netP"):
            for name, value in getattr(source, net).state_dict().items():
                assert torch.equal(getattr(model, net).state_dict()[name], value)
        # The optimiser's moments are there too: the next step of both is the same.
        model.netTeacher.load_state_dict(source.netTeacher.state_dict())
        for one in (source, model):
            for module in one.netG.modules():
                if isinstance(module, DropPath):
                    module.drop_prob = 0.0  # drawn by each run's own seed
            one.feed_data(batch(1))
            one.optimize_parameters(2)
        assert torch.equal(source.netG.conv_first.weight, model.netG.conv_first.weight)

    def test_average_starts_from_the_loaded_student(self, tmp_path: Path) -> None:
        source, files = self.saved(tmp_path)
        opt = options(tmp_path / "target")
        opt["path"]["pretrained_netG"] = str(files["G"])
        model = swinlet.define_Model(opt)
        model.init_train()
        assert torch.equal(model.netE.conv_first.weight, source.netG.conv_first.weight)

    def test_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        opt = options(tmp_path)
        opt["path"]["pretrained_netG"] = str(tmp_path / "nowhere.pth")
        model = swinlet.define_Model(opt)
        with pytest.raises(CheckpointError, match=r"path\.pretrained_netG: .*nowhere\.pth"):
            model.init_train()

    def test_a_file_of_another_width_is_an_error(self, tmp_path: Path) -> None:
        _, files = self.saved(tmp_path)
        opt = options(tmp_path / "target")
        opt["netG"] = NET | {"embed_dim": 16}
        opt["path"]["pretrained_netG"] = str(files["G"])
        model = swinlet.define_Model(opt)
        with pytest.raises(CheckpointError, match="does not fit the network"):
            model.init_train()


def test_regularisers_push_towards_their_bounds(tmp_path: Path) -> None:
    opt = options(tmp_path, G_regularizer_clipstep=1, G_regularizer_orthstep=1, G_optimizer_lr=1e-12)
    model = swinlet.define_Model(opt)
    model.init_train()
    with torch.no_grad():
        model.netG.layers[0].residual_group.blocks[0].mlp.fc1.weight.fill_(2.0)
        model.netG.conv_first.weight.mul_(100)
    before = singular_values(model.netG.conv_first.weight)
    model.feed_data(batch())
    model.optimize_parameters(1)
    fc1 = model.netG.layers[0].residual_group.blocks[0].mlp.fc1.weight
    torch.testing.assert_close(fc1.detach(), torch.full_like(fc1, 2.0 - 1e-4), atol=1e-6, rtol=0)
    after = singular_values(model.netG.conv_first.weight)
    assert (after < before).all()


def singular_values(weight: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(weight.detach().permute(2, 3, 1, 0).reshape(-1, weight.shape[0]).double())


def test_bf16_trains_and_keeps_the_weights_in_fp32(tmp_path: Path) -> None:
    model = swinlet.define_Model(options(tmp_path, "feature", precision="bf16"))
    model.init_train()
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert all(p.dtype == torch.float32 and p.grad.dtype == torch.float32 for p in model.netG.parameters())
    exact = swinlet.define_Model(options(tmp_path, "feature"))
    exact.init_train()
    exact.feed_data(batch())
    exact.optimize_parameters(1)
    assert model.current_log()["G_loss"] == pytest.approx(exact.current_log()["G_loss"], rel=0.02)
    assert model.current_log()["G_loss"] != exact.current_log()["G_loss"]


def test_bf16_without_instructions_is_warned_of_and_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for instructions in (True, False):
        monkeypatch.setattr(device, "has_bf16_instructions", lambda found=instructions: found)
        caplog.clear()
        model = swinlet.define_Model(options(tmp_path, precision="bf16"))
        assert model._accelerator.mixed_precision == "bf16"
        assert ("train.precision: this processor has no instructions for bf16" in caplog.text) is not instructions


@pytest.mark.parametrize("key", ["precision", "teacher_precision"])
def test_fp16_needs_a_gpu(tmp_path: Path, key: str) -> None:
    with pytest.raises(OptionError, match=rf"train\.{key}: fp16 needs a GPU"):
        swinlet.define_Model(options(tmp_path, "response", **{key: "fp16"}))


class TestTeacherPrecision:
    def one_step(self, tmp_path: Path, **train: Any) -> tuple[Any, list[Any]]:
        """The model after a step, and what its teacher was asked and answered."""
        model = swinlet.define_Model(options(tmp_path, "feature", **train))
        model.init_train()
        calls: list[Any] = []

        def spy(_: Any, arguments: Any, answer: Any) -> None:
            calls.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), arguments[0].dtype, *answer))

        model.netTeacher.register_forward_hook(spy)
        model.feed_data(batch())
        torch.manual_seed(0)  # of drop-path
        model.optimize_parameters(1)
        return model, calls

    @pytest.fixture
    def instructions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device, "has_bf16_instructions", lambda: True)

    @pytest.mark.usefixtures("instructions")
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_bf16_once_and_without_gradient(self, tmp_path: Path, precision: str) -> None:
        exact, _ = self.one_step(tmp_path, precision=precision)
        model, calls = self.one_step(tmp_path, precision=precision, teacher_precision="bf16")
        ((lower, with_gradient, _, image, features),) = calls
        assert lower
        assert not with_gradient
        assert not any(answer.requires_grad or answer.is_inference() for answer in (image, *features))
        assert all(loss.dtype == torch.float32 for loss in model._losses.values())
        assert all(p.grad.dtype == torch.float32 for p in (*model.netG.parameters(), *model.netP.parameters()))
        log, expected = model.current_log(), exact.current_log()
        assert log["l_g_L1"] == expected["l_g_L1"]  # the student's own precision is what it was
        for name in ("l_g_distill", "l_g_feature"):
            assert log[name] == pytest.approx(expected[name], rel=0.02)
            assert log[name] != expected[name]
        for ours, its in zip(model.netP.parameters(), exact.netP.parameters(), strict=True):
            assert (ours.grad - its.grad).norm() < 0.1 * its.grad.norm()

    @pytest.mark.usefixtures("instructions")
    def test_fp32_whatever_is_around(self, tmp_path: Path) -> None:
        _, calls = self.one_step(tmp_path)
        _, beside = self.one_step(tmp_path, precision="bf16")
        with torch.autocast("cpu", torch.bfloat16):
            _, inside = self.one_step(tmp_path)
        for ((lower, _, dtype, image, features),) in (calls, beside, inside):
            assert not lower
            assert dtype == torch.float32
            assert torch.equal(image, calls[0][3])
            assert all(torch.equal(a, b) for a, b in zip(features, calls[0][4], strict=True))

    def test_without_instructions_it_is_fp32_and_said_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(device, "has_bf16_instructions", lambda: False)
        exact, _ = self.one_step(tmp_path)
        model, calls = self.one_step(tmp_path, teacher_precision="bf16")
        assert not calls[0][0]
        assert model.current_log() == exact.current_log()
        assert [r.getMessage() for r in caplog.records if "bf16" in r.getMessage()] == [
            "train.teacher_precision: this processor has no instructions for bf16: the teacher computes in fp32"
        ]


class TestOptimizer:
    def trained(self, tmp_path: Path, **train: Any) -> Any:
        model = swinlet.define_Model(options(tmp_path, **train))
        model.init_train()
        for step in (1, 2):
            self.step(model, step)
        return model

    def step(self, model: Any, step: int) -> None:
        torch.manual_seed(step)
        model.feed_data(batch(step))
        model.optimize_parameters(step)

    def plain(self, model: Any) -> torch.optim.Optimizer:
        """As it was before fused kernels, and as other programs have it."""
        return torch.optim.Adam([torch.nn.Parameter(p.detach().clone()) for p in model._trained], lr=2e-4, fused=False)

    def agree(self, model: Any, plain: torch.optim.Optimizer) -> None:
        """The next step of both is the same."""
        model.feed_data(batch(9))
        model.optimize_parameters(9)
        copies = plain.param_groups[0]["params"]
        for ours, parameter in zip(copies, model._trained, strict=True):
            ours.grad = parameter.grad.clone()
        plain.step()
        for ours, parameter in zip(copies, model._trained, strict=True):
            torch.testing.assert_close(ours, parameter, rtol=1e-6, atol=1e-7)

    def test_it_is_fused_and_its_state_loads_into_any_other(self, tmp_path: Path) -> None:
        model = self.trained(tmp_path)
        file = torch.load(model.save(2).files["optimizerG"], weights_only=True)
        assert file["param_groups"][0]["fused"]
        for keep_kernel in (True, False):
            plain = self.plain(model)
            groups = plain.state_dict()["param_groups"] if keep_kernel else file["param_groups"]
            plain.load_state_dict({"state": copy.deepcopy(file["state"]), "param_groups": groups})
            assert bool(plain.param_groups[0]["fused"]) is not keep_kernel
            self.agree(copy.deepcopy(model), plain)

    @pytest.mark.parametrize("as_number", [True, False])
    def test_states_of_other_kernels_load(self, tmp_path: Path, as_number: bool) -> None:
        """Also with steps as numbers, as torch wrote them once, and with moments that lie elsewhere in memory."""
        source, model = self.trained(tmp_path), self.trained(tmp_path / "other")
        plain = self.plain(source)
        plain.load_state_dict({**source._optimizer.state_dict(), "param_groups": plain.state_dict()["param_groups"]})
        file = copy.deepcopy(plain.state_dict())
        for moments in file["state"].values():
            moments["step"] = int(moments["step"]) if as_number else moments["step"]
            for name in ("exp_avg", "exp_avg_sq"):
                if moments[name].ndim == 4:
                    moments[name] = moments[name].contiguous(memory_format=torch.channels_last)
        torch.save(file, tmp_path / "state.pth")
        load_moments(model._optimizer, tmp_path / "state.pth", "test")
        model.netG.load_state_dict(source.netG.state_dict())
        assert model._optimizer.param_groups[0]["fused"]
        self.agree(model, plain)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"exp_avg_sq": torch.zeros(3)}, "belongs to other networks"),
            ({"exp_avg": torch.zeros(3)}, "belongs to other networks"),
            ({"step": torch.zeros(3)}, "no state of Adam"),
            ({"step": None}, "no state of Adam"),
            ({"exp_avg_sq": None}, "no state of Adam"),
        ],
    )
    def test_a_state_that_does_not_fit_is_refused(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        model = self.trained(tmp_path)
        file = model._optimizer.state_dict()
        file["state"] = {index: dict(moments) for index, moments in file["state"].items()}
        file["state"][1] |= change
        torch.save(file, tmp_path / "state.pth")
        with pytest.raises(CheckpointError, match=rf"test: .*state\.pth .*({message})"):
            load_moments(model._optimizer, tmp_path / "state.pth", "test")

    def test_loss_scaling_skips_an_overflow_and_is_divided_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As fp16 training does on a GPU; the scaler works on the CPU, too."""
        exact = self.trained(tmp_path)

        def with_scaler(*arguments: Any) -> Any:
            accelerator = accelerator_module.make_accelerator(*arguments)
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
            return accelerator

        monkeypatch.setattr(model_plain, "make_accelerator", with_scaler)
        scaled = self.trained(tmp_path)
        for a, b in zip(scaled._trained, exact._trained, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        before = [p.detach().clone() for p in scaled._trained]
        scaled.feed_data({key: torch.full_like(image, torch.nan) for key, image in batch().items()})
        scaled.optimize_parameters(3)
        assert all(torch.equal(a, b) for a, b in zip(before, scaled._trained, strict=True))
        assert scaled._scaler.get_scale() == 2.0**9
        assert {int(moments["step"]) for moments in scaled._optimizer.state.values()} == {2}
        sealed = scaled.save(3)
        scaled.load_checkpoint(sealed)
        assert not scaled.not_finite()
        self.step(scaled, 4)
        assert not torch.equal(before[0], scaled._trained[0])


class TestSkippedSteps:
    """A step whose loss or gradient is no number changes nothing."""

    def state(self, model: Any) -> dict[str, torch.Tensor]:
        networks = {"G": model.netG, "E": model.netE, "P": model.netP}
        state = {f"{label}.{name}": p for label, net in networks.items() for name, p in net.named_parameters()}
        for i, moments in model._optimizer.state_dict()["state"].items():
            state |= {f"{i}.{name}": value for name, value in moments.items()}
        return {name: tensor.detach().clone() for name, tensor in state.items()}

    def model(self, tmp_path: Path, waits: bool, **train: Any) -> Any:
        """``waits``: as on a GPU, where nothing is read at each step; the kernel of the CPU knows the flag, too."""
        model = swinlet.define_Model(options(tmp_path, "feature", E_decay=0.9, **train))
        model.reads_are_free = not waits
        model.init_train()
        return model

    def step(self, model: Any, step: int, fault: str = "") -> None:
        data, handle = batch(step), None
        if fault == "loss":
            data["H"][0, 0, 0, 0] = torch.nan
        elif fault == "gradient":
            handle = model.netG.conv_first.weight.register_hook(lambda gradient: gradient * torch.inf)
        torch.manual_seed(step)
        model.feed_data(data)
        model.optimize_parameters(step)
        if handle is not None:
            handle.remove()

    @pytest.mark.parametrize("clip", [None, 0.1])
    @pytest.mark.parametrize("fault", ["loss", "gradient"])
    @pytest.mark.parametrize("waits", [False, True])
    def test_nothing_changes(self, tmp_path: Path, waits: bool, fault: str, clip: float | None) -> None:
        keys: dict[str, Any] = {"G_optimizer_clipgrad": clip, "G_regularizer_clipstep": 1, "G_regularizer_orthstep": 1}
        model, undisturbed = (self.model(tmp_path, waits, **keys) for _ in range(2))
        with torch.no_grad():
            for one in (model, undisturbed):
                one.netG.conv_first.bias.fill_(2.0)  # the regularisers have something to do
        for step in (1, 2):
            self.step(model, step)
            self.step(undisturbed, step)
        before = self.state(model)
        self.step(model, 3, fault)
        names, values = model.outcome()
        assert names == ["l_g_L1", "l_g_distill", "l_g_feature", "G_loss", "gradient norm"]
        assert values.isfinite().all().item() is False
        assert values[:-1].isfinite().all().item() is (fault == "gradient")
        after = self.state(model)
        assert before.keys() == after.keys()
        assert not [name for name in before if not torch.equal(before[name], after[name])]
        self.step(model, 4)
        self.step(undisturbed, 4)
        assert model.outcome()[1].isfinite().all()
        expected, found = self.state(undisturbed), self.state(model)
        assert not [name for name in expected if not torch.equal(expected[name], found[name])]
        assert not torch.equal(before["E.conv_first.weight"], found["E.conv_first.weight"])

    @pytest.mark.parametrize("waits", [False, True])
    def test_a_first_step(self, tmp_path: Path, waits: bool) -> None:
        model = self.model(tmp_path, waits)
        self.step(model, 1, "loss")
        resumed = self.model(tmp_path, waits)
        resumed.load_checkpoint(model.save(1))
        for one in (model, resumed):
            self.step(one, 2)
        expected, found = self.state(model), self.state(resumed)
        assert not [name for name in expected if not torch.equal(expected[name], found[name])]
        assert found["0.step"] == 1

    def test_waiting_for_the_device_or_not_is_the_same(self, tmp_path: Path) -> None:
        models = [self.model(tmp_path, waits) for waits in (False, True)]
        for model in models:
            for step, fault in enumerate(["", "loss", "", "gradient", ""], start=1):
                self.step(model, step, fault)
        one, other = map(self.state, models)
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("fault", ["loss", "gradient"])
    def test_loss_scaling_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
        """The pixel loss is no number, but has no weight in the gradient; or the gradient is none."""

        def with_scaler(*arguments: Any) -> Any:
            accelerator = accelerator_module.make_accelerator(*arguments)
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
            return accelerator

        monkeypatch.setattr(model_plain, "make_accelerator", with_scaler)
        model = self.model(tmp_path, waits=True)
        self.step(model, 1)
        before = self.state(model)
        if fault == "loss":
            model._task._pixel_loss = lambda E, _: E.detach().sum() * torch.nan
        self.step(model, 2, fault if fault == "gradient" else "")
        after = self.state(model)
        assert not [name for name in before if not torch.equal(before[name], after[name])]
        assert model._scaler.get_scale() == (2.0**10 if fault == "loss" else 2.0**9)


def test_networks_have_no_state_but_parameters(tmp_path: Path) -> None:
    """So that the moving average may leave buffers alone: they are derived from the options."""
    model = swinlet.define_Model(options(tmp_path, "feature"))
    for network in (model.netG, model.netTeacher, model.netP):
        assert network.state_dict().keys() == dict(network.named_parameters()).keys()


@pytest.mark.parametrize("place", ["netG", "netE", "netP", "moment"])
def test_what_is_no_number_is_named(tmp_path: Path, place: str) -> None:
    model = swinlet.define_Model(options(tmp_path, "feature"))
    model.init_train()
    assert model.not_finite() == []
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert model.not_finite() == []
    if place == "moment":
        model._optimizer.state[model._trained[2]]["exp_avg_sq"].view(-1)[0] = torch.inf
        assert model.not_finite() == ["optimizerG.2.exp_avg_sq"]
        return
    name, parameter = list(getattr(model, place).named_parameters())[1]
    parameter.detach().view(-1)[-1] = torch.nan
    assert model.not_finite() == [f"{place[-1]}.{name}"]
