"""Losses by hand, and the interface that a new distillation type fills in."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import swinlet
from swinlet.distillation import Combination, Distillation, Lesson, TrainingTask
from swinlet.distillation.losses import select_loss, ssim_loss
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.options import TrainOptions, names

NET = {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4, "upsampler": "pixelshuffledirect"}


def test_losses_by_hand() -> None:
    a, b = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 3.0]])
    assert select_loss("l1")(a, b).item() == pytest.approx((0.5 + 2) / 2)
    assert select_loss("l2")(a, b).item() == pytest.approx((0.25 + 4) / 2)
    assert select_loss("l2sum")(a, b).item() == pytest.approx(4.25)
    eps = 0.11
    expected = (math.sqrt(0.25 + eps) + math.sqrt(4 + eps)) / 2
    assert select_loss("charbonnier", eps)(a, b).item() == pytest.approx(expected)


def test_ssim_loss_of_equal_and_of_flat_images() -> None:
    image = torch.rand(2, 3, 24, 24)
    assert ssim_loss(image, image).item() == pytest.approx(0, abs=1e-6)
    # Flat images differ in luminance alone: (2ab + C1) / (a^2 + b^2 + C1); also where the window does not fit.
    for side in (20, 5):
        a, b = torch.full((1, 1, side, side), 0.2), torch.full((1, 1, side, side), 0.6)
        expected = 1 - (0.24 + 1e-4) / (0.4 + 1e-4)
        assert ssim_loss(a, b).item() == pytest.approx(expected, abs=1e-3)


def test_ssim_loss_falls_towards_the_target() -> None:
    target = torch.rand(1, 3, 16, 16)
    noise = torch.randn_like(target)
    losses = [ssim_loss(target + scale * noise, target).item() for scale in (0.3, 0.1, 0.03)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("kind", ["l1", "l2", "l2sum", "charbonnier", "ssim"])
def test_losses_are_float32_under_bf16(kind: str) -> None:
    target = torch.linspace(0.4, 0.6, 3 * 24 * 24).view(1, 3, 24, 24)
    estimate = target + 0.01 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    estimate = estimate.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = select_loss(kind)(estimate, target)
    assert loss.dtype == torch.float32
    assert loss.item() == select_loss(kind)(estimate.float(), target).item()
    loss.backward()
    assert estimate.grad.isfinite().all()


class Operations(TorchDispatchMode):
    """Records which operations torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_features_are_compared_as_they_lie_in_memory(kind: str) -> None:
    """Tokens that are views of images (N, C, H, W), on one side or on both, are not copied."""
    image, other = torch.rand(2, 6, 4, 4, requires_grad=True), torch.rand(2, 6, 4, 4)
    views = image.flatten(2).transpose(1, 2), other.flatten(2).transpose(1, 2)
    expected = select_loss(kind)(*(view.contiguous() for view in views)).item()
    for a, b in (views, (views[0], views[1].contiguous())):
        with Operations() as seen:
            loss = select_loss(kind)(a, b)
            torch.autograd.grad(loss, a)
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        assert seen.names
        assert not {"clone", "_to_copy", "copy_", "contiguous"} & set(seen.names)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_translator_reads_any_precision(precision: torch.dtype) -> None:
    translator = Translator([(5, 3)])
    (feature,) = features = [torch.rand(2, 16, 5).to(precision)]
    (translated,) = translator(features)
    assert translated.dtype == torch.float32
    torch.testing.assert_close(translated, translator[0](feature.float()))
    with torch.autocast("cpu", torch.bfloat16), Operations() as seen:
        (translated,) = translator(features)
    assert translated.dtype == torch.bfloat16
    assert seen.names.count("_to_copy") == (2 if precision == torch.bfloat16 else 3)  # weight, bias; and the feature


def test_features_are_asked_for_only_where_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    forward = SwinIR.forward

    def spy(self: Any, x: Tensor, return_features: bool = False) -> Any:
        asked.append(return_features)
        return forward(self, x, return_features)

    monkeypatch.setattr(SwinIR, "forward", spy)
    for kind, wanted in (("none", [False]), ("response", [False, False]), ("feature", [True, True])):
        asked.clear()
        teacher = None if kind == "none" else NET | {"net_type": "swinir"}
        model = swinlet.define_Model(
            {"gpu_ids": None, "netG": NET, "netTeacher": teacher, "train": {"distillation_type": kind}}
        )
        model.init_train()
        model.feed_data({"L": torch.rand(1, 3, 8, 8), "H": torch.rand(1, 3, 32, 32)})
        model.optimize_parameters(1)
        assert asked == wanted


def test_translator_maps_stage_by_stage() -> None:
    translator = Translator([(5, 3), (5, 3)])
    assert set(translator.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    features = [torch.rand(2, 16, 5), torch.rand(2, 16, 5)]
    translated = translator(features)
    assert [t.shape for t in translated] == [(2, 16, 3)] * 2
    torch.testing.assert_close(translated[1], features[1] @ translator[1].weight.T + translator[1].bias)


class Darker(Distillation):
    """A new type is one small class."""

    default_weight = 0.1

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        return {"l_g_dark": lesson.E.mean()}


def test_a_new_type_is_one_small_class(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = names.DistillationEntry("tests.test_distillation.Darker", "nothing")
    monkeypatch.setitem(names.DISTILLATIONS, "dark", entry)
    student = swinlet.define_G(NET)
    train = TrainOptions(distillation_type="dark")
    task = TrainingTask(train, student, Combination(train, student, None))
    low, high = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32)
    image, losses = task(1, low, high, None, [])
    assert losses["l_g_dark"].item() == pytest.approx(0.1 * image.mean().item())
    assert losses["l_g_L1"].item() == pytest.approx((image - high).abs().mean().item())
