"""Distillation types by hand, their weights and schedules."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import swinlet
from swinlet.checkpoint import newest_sealed
from swinlet.data.augment import augment
from swinlet.data.select_dataset import define_Datasets, training_batches
from swinlet.distillation import Combination, Lesson, TrainingTask
from swinlet.distillation.augmentation import AugmentationWithoutTeacher
from swinlet.distillation.dukd import UpcyclingDistillation
from swinlet.distillation.fakd import affinity
from swinlet.distillation.feature_norm import FeatureNormDistillation, normalised
from swinlet.distillation.frequency import FrequencyDistillation, FrequencyWithoutTeacher
from swinlet.distillation.response_tta import ResponseOfViews
from swinlet.distillation.stages import paired_stages
from swinlet.distillation.unlabelled import UnlabelledDistillation
from swinlet.distillation.views import OPERATIONS, PROBABILITY, changed, downscaled, windows
from swinlet.errors import DataError, OptionError, TrainingError
from swinlet.models.model_plain import ModelPlain
from swinlet.options import TrainOptions, keys_without_effect, parse_options
from swinlet.options.names import DISTILLATIONS
from swinlet.options.schema import MethodOptions
from swinlet.train import check_teacher, train
from swinlet.utils.dihedral import VIEWS, turned, turned_back
from swinlet.utils.resize import bicubic_downscale
from tests.small_run import tree
from tests.test_teach import taught

STUDENT = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
WIDER = {"net_type": "swinir", "embed_dim": 12, "depths": [1] * 4, "num_heads": [2] * 4, "window_size": 4}


def enlarged(images: Tensor) -> Tensor:
    """A network whose image of every view is the view of its image."""
    return F.interpolate(images, scale_factor=4, mode="nearest")


def lesson(**known: Any) -> Lesson:
    L = known.pop("L", torch.zeros(1, 3, 8, 8))
    values: dict[str, Any] = {
        "step": 1,
        "L": L,
        "H": torch.zeros(len(L), 3, 4 * L.shape[2], 4 * L.shape[3]),
        "E": enlarged(L),
        "student_features": [],
        "teacher_image": None,
        "teacher_features": [],
        "grid": (L.shape[2], L.shape[3]),
        "teacher_is_stored": False,
        "U": None,
        "ask_student": enlarged,
        "ask_teacher": enlarged,
        "random": lambda count: torch.zeros(len(L), count),
    }
    return Lesson(**(values | known))


def build(kind: Callable[..., Any], student: dict[str, Any] = STUDENT, teacher: Any = None, **keys: Any) -> Any:
    network = swinlet.define_G(student)
    return kind(TrainOptions(**keys), network, None if teacher is None else swinlet.define_G(teacher))


def test_stages_by_relative_depth() -> None:
    student, teacher = swinlet.define_G({"depths": [1] * 4, "num_heads": [6] * 4}), swinlet.define_G(WIDER)
    six = swinlet.define_G(WIDER | {"depths": [1] * 6, "num_heads": [2] * 6, "window_size": 8})
    assert paired_stages(TrainOptions(), student, six, by_depth=True) == [(0, 1), (1, 2), (2, 4), (3, 5)]
    assert paired_stages(TrainOptions(), swinlet.define_G(STUDENT), teacher, by_depth=True) == [(0, 1), (1, 3)]
    given = TrainOptions(feature_pairs=((0, 0),))
    assert paired_stages(given, swinlet.define_G(STUDENT), teacher, by_depth=True) == [(0, 0)]
    with pytest.raises(OptionError, match=r"netG\.window_size: .*must be the teacher's \(4\), not 8"):
        paired_stages(TrainOptions(), student, teacher, by_depth=True)


def test_frequency_of_a_constant_difference() -> None:
    """Of 2x2 pixels that differ by c: 2 c at frequency 0, and nothing at the other three."""
    E = torch.zeros(1, 1, 2, 2)
    losses = build(FrequencyDistillation)(lesson(E=E, teacher_image=E + 0.3))
    assert losses["l_g_frequency"].item() == pytest.approx(2 * 0.3 / 4)


def test_frequency_of_the_truth() -> None:
    E = torch.zeros(1, 1, 2, 2)
    losses = build(FrequencyWithoutTeacher)(lesson(E=E, H=E + 0.3))
    assert losses["l_g_frequency_truth"].item() == pytest.approx(2 * 0.3 / 4)


def test_frequency_is_orthonormal_and_float32() -> None:
    E = torch.zeros(1, 1, 4, 4)
    wave = torch.tensor([1.0, -1.0, 1.0, -1.0]).repeat(4, 1)[
        None, None
    ]  # all of it in one of 4 * 3 bins: 16 / sqrt(16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = build(FrequencyDistillation)(lesson(E=E.bfloat16(), teacher_image=wave.bfloat16()))["l_g_frequency"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(4 / 12)


def test_affinity_by_hand() -> None:
    apart, alike = torch.tensor([[[1.0, 0.0], [0.0, 5.0]]]), torch.tensor([[[2.0, 0.0, 0.0], [7.0, 0.0, 0.0]]])
    torch.testing.assert_close(affinity(apart, (1, 2)), torch.eye(2)[None])
    torch.testing.assert_close(affinity(alike, (1, 2)), torch.ones(1, 2, 2))
    oblique = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    torch.testing.assert_close(affinity(oblique, (2, 1))[0, 0, 1], torch.tensor(math.sqrt(0.5)))
    train = TrainOptions(distillation_type="fakd")
    method = Combination(train, swinlet.define_G(STUDENT), swinlet.define_G(WIDER))
    told = lesson(
        student_features=[apart, alike], teacher_features=[apart, alike, alike, apart], grid=(1, 2)
    )  # pairs 0-1 and 1-3: each differs in 2 of 4 places by 1
    assert method.alone("fakd", told).item() == pytest.approx(0.5 + 0.5)
    assert method(told)["l_g_fakd"].item() == pytest.approx(10 / 255)


def test_affinity_is_pooled_to_bound_memory() -> None:
    assert affinity(torch.rand(1, 64 * 40, 3), (64, 40)).shape == (1, 32 * 32, 32 * 32)
    assert affinity(torch.rand(1, 64 * 8, 3), (64, 8)).shape == (1, 32 * 8, 32 * 8)
    blocks = torch.rand(1, 3, 32, 32)
    tokens = [F.interpolate(blocks, scale_factor=factor).flatten(2).mT for factor in (1, 2)]
    torch.testing.assert_close(affinity(tokens[1], (64, 64)), affinity(tokens[0], (32, 32)))


def test_affinity_of_no_features_is_finite() -> None:
    zeros = torch.zeros(1, 4, 3, requires_grad=True)
    affinity(zeros, (2, 2)).sum().backward()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


def test_feature_norm_by_hand() -> None:
    torch.testing.assert_close(
        normalised(torch.tensor([[[1.0, 3.0]]])), torch.tensor([[[-1.0, 1.0]]]), rtol=1e-4, atol=0
    )
    teacher = WIDER | {"embed_dim": 2, "num_heads": [1] * 4}
    method: FeatureNormDistillation = build(
        FeatureNormDistillation, STUDENT | {"embed_dim": 2, "num_heads": [1, 1]}, teacher
    )
    assert method.pairs == [(0, 1), (1, 3)]
    assert isinstance(method.translator, nn.ModuleList)
    with torch.no_grad():
        for linear in method.netP:
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(torch.eye(2))
            linear.bias.zero_()
    rising, falling = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[9.0, 2.0]]])
    told = lesson(student_features=[rising, rising], teacher_features=[falling, 8 * rising, rising, falling])
    # The first pair is equal but for its scale; in the second each of two channels differs by 2.
    assert method(told)["l_g_feature_norm"].item() == pytest.approx(0 + 2, rel=1e-4)


def test_feature_norm_maps_the_student() -> None:
    method: FeatureNormDistillation = build(FeatureNormDistillation, teacher=WIDER)
    assert [tuple(weight.shape) for name, weight in method.netP.named_parameters() if "weight" in name] == [(12, 8)] * 2


def test_changes_are_undone_in_reverse_order() -> None:
    images = torch.rand(1, 3, 6, 6)
    spoilt = 0.0
    for choice in itertools.product([False, True], repeat=OPERATIONS):
        chosen = torch.tensor([choice])
        torch.testing.assert_close(changed(changed(images, chosen), chosen, back=True), images, rtol=0, atol=1e-6)
        forwards = changed(changed(images, chosen), chosen)
        if not torch.allclose(forwards, images):
            spoilt += math.prod(PROBABILITY if c else 1 - PROBABILITY for c in choice)
    assert spoilt == pytest.approx(0.126)  # what forward order would spoil: design/distillation.md


def test_each_image_is_changed_by_itself() -> None:
    images = torch.rand(5, 3, 4, 4)
    chosen = torch.cat([torch.eye(4, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)])
    found = changed(images, chosen)
    expected = [1 - images[0], images[1].flip(-1), images[2].flip(-2), images[3].mT, images[4]]
    torch.testing.assert_close(found, torch.stack(expected))


def test_windows() -> None:
    images = torch.arange(2 * 16.0).view(2, 1, 4, 4)
    highest = 1 - 2.0**-24
    found = windows(images, 2, 2, torch.tensor([[0.0, 0.0], [highest, 0.5]]))
    torch.testing.assert_close(found[0, 0], images[0, 0, :2, :2])
    torch.testing.assert_close(found[1, 0], images[1, 0, 2:, 1:3])
    torch.testing.assert_close(windows(images, 4, 4, torch.full((2, 2), highest)), images)


@pytest.mark.parametrize("size", [(24, 32), (23, 18)])
def test_downscaled_is_matlabs(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = downscaled(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255, 4)
    expected = bicubic_downscale(image, 4)
    difference = np.abs((found[0].permute(1, 2, 0) * 255).round().numpy() - expected)
    assert found.shape[2:] == expected.shape[:2]
    assert difference.max() <= 1  # a value that lies between two levels, in float32
    assert difference.mean() < 0.01


def test_dukd_of_networks_that_agree_is_zero() -> None:
    """Nearest-neighbour networks treat all views alike: only the order of the inverse could make a difference."""
    method = build(UpcyclingDistillation, distillation_type="dukd")
    for choice in itertools.product([0.0, 0.9], repeat=OPERATIONS):
        told = lesson(
            L=torch.rand(2, 3, 8, 8),
            H=torch.rand(2, 3, 32, 32),
            random=lambda count, choice=choice: torch.tensor([[0.2, 0.7, *choice]] * 2),
        )
        losses = method(told)
        assert set(losses) == {"l_g_zoom_in", "l_g_consistency"}  # 2x2 pixels are less than a window
        assert all(loss.item() == pytest.approx(0, abs=1e-6) for loss in losses.values())


def test_dukd_by_hand() -> None:
    """S is nearest, T is nearest + 0.1: every comparison with T costs 0.1."""
    method = build(UpcyclingDistillation, distillation_type="dukd")
    x = torch.full((1, 3, 16, 16), 0.5)
    told = lesson(
        L=x,
        H=torch.rand(1, 3, 64, 64),
        ask_teacher=lambda images: enlarged(images) + 0.1,
        random=lambda n: torch.ones(1, n) * 0.5,
    )
    losses = {name: loss.item() for name, loss in method(told).items()}
    # v is flat, so S(v) is x but for rounding to 8 bits: 128 / 255 instead of 0.5.
    rounding = 128 / 255 - 0.5
    expected = {"l_g_zoom_in": 5 * 0.1, "l_g_consistency": 0.1, "l_g_zoom_out": rounding + 0.1}
    assert losses == pytest.approx(expected, rel=1e-4)
    none = {"dukd": {"zoom_in": 0, "consistency": 0, "zoom_out": 0}}
    assert build(UpcyclingDistillation, distillation_type="dukd", distillation=none)(told)["l_g_zoom_in"].item() == 0


def test_dukd_takes_the_window_of_H_as_input() -> None:
    asked: list[Tensor] = []

    def teacher(images: Tensor) -> Tensor:
        asked.append(images)
        return enlarged(images)

    H = torch.rand(1, 3, 32, 32)
    build(UpcyclingDistillation, distillation_type="dukd")(lesson(H=H, ask_teacher=teacher))
    assert len(asked) == 1
    torch.testing.assert_close(asked[0], H[..., :8, :8])


def test_augmentation_without_teacher() -> None:
    method = build(AugmentationWithoutTeacher)
    x = torch.rand(2, 3, 16, 16)
    told = lesson(L=x, H=enlarged(x) + 0.2, random=lambda count: torch.tensor([[0.1, 0.9, 0.1, 0.1], [0.9] * 4]))
    losses = method(told)
    assert losses["l_g_consistency_truth"].item() == pytest.approx(0.2, rel=1e-4)
    expected = (enlarged(downscaled(x, 4)) - x).abs().mean().item()
    assert losses["l_g_zoom_out_truth"].item() == pytest.approx(expected)


def test_unlabelled() -> None:
    told = lesson(U=torch.rand(1, 3, 8, 8), ask_teacher=lambda images: enlarged(images) - 0.4)
    assert build(UnlabelledDistillation)(told)["l_g_unlabelled"].item() == pytest.approx(0.4)
    squared = build(UnlabelledDistillation, distill_lossfn_type="l2")(told)["l_g_unlabelled"]
    assert squared.item() == pytest.approx(0.16, rel=1e-4)


def test_response_of_views() -> None:
    """The teacher adds a gradient from left to right: its mean over all turns and flips is flat."""
    x = torch.rand(1, 3, 8, 8)
    ramp = torch.linspace(-1, 1, 32)

    def teacher(images: Tensor) -> Tensor:
        return enlarged(images) + ramp

    method = build(ResponseOfViews)
    told = lesson(L=x, teacher_image=teacher(x), ask_teacher=teacher)
    torch.testing.assert_close(method.target(told), enlarged(x), rtol=0, atol=1e-5)
    assert method(told)["l_g_distill"].item() == pytest.approx(0, abs=1e-6)
    stored = lesson(L=x, teacher_image=teacher(x), teacher_is_stored=True, ask_teacher=teacher)
    torch.testing.assert_close(method.target(stored), teacher(x))
    views = [turned_back(teacher(turned(x, view)), view) for view in range(VIEWS)]
    torch.testing.assert_close(method.target(told), torch.stack(views).mean(0), rtol=0, atol=1e-5)


def test_schedule() -> None:
    plain = MethodOptions()
    assert [plain.factor(step) for step in (1, 2, 1000)] == [1, 1, 1]
    part = MethodOptions(start_iter=3, end_iter=4)
    assert [part.factor(step) for step in range(1, 7)] == [0, 0, 1, 1, 0, 0]
    rising = MethodOptions(start_iter=2, warmup_iter=4)
    assert [rising.factor(step) for step in range(1, 8)] == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [MethodOptions(warmup_iter=2).factor(step) for step in (1, 2, 3)] == [0.5, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation_type": ["none", "fakd"]}, r'"none" is nothing: leave it out'),
        ({"distillation_type": ["fakd", "fakd"]}, r"train\.distillation_type: fakd twice"),
        ({"distillation_type": ["feature", "response"]}, r"feature includes response: leave response out"),
        ({"distillation_type": ["response_tta", "response"]}, r"response_tta includes response"),
        ({"distillation_type": ["feature", "feature_norm"]}, r"each train maps .* choose one"),
        ({"distillation_type": []}, r"train\.distillation_type: must have at least 1 item"),
        ({"distillation_type": ["fakd", "fkad"]}, r'train\.distillation_type\.1: must be one of .* \(got "fkad"\)'),
        (
            {"distillation": {"fakd": {"weight": -1}}},
            r"train\.distillation\.fakd\.weight: .*greater than or equal to 0",
        ),
        (
            {"distillation": {"fakd": {"wieght": 1}}},
            r"train\.distillation\.fakd\.wieght: unknown key, did you mean weight",
        ),
        ({"distillation": {"fkad": {}}}, r"train\.distillation\.fkad: unknown key, did you mean fakd"),
        ({"distillation": {"fakd": {"zoom_in": 1}}}, r"train\.distillation\.fakd\.zoom_in: unknown key"),
        (
            {"distillation": {"fakd": {"weight": 1, "gradient_share": 0.1}}},
            r"fakd\.gradient_share: the weight is given: leave one of the two out",
        ),
        ({"distillation": {"fakd": {"start_iter": 9, "end_iter": 8}}}, r"fakd\.end_iter: 8, but it starts in 9"),
        ({"distillation_type": "unlabelled"}, r"datasets\.unlabelled: missing; distillation type unlabelled needs it"),
    ],
)
def test_wrong_options(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_options({"train": changes})


def test_static_graph_and_schedules() -> None:
    with pytest.raises(OptionError, match=r"use_static_graph: the graph changes when fakd starts or ends"):
        parse_options(
            {
                "use_static_graph": True,
                "train": {"distillation_type": "fakd", "distillation": {"fakd": {"end_iter": 100}}},
            }
        )


def test_keys_without_effect() -> None:
    section = {"distillation_type": "fakd", "total_iter": 100, "distillation": {"frequency": {"weight": 1}}}
    unused = keys_without_effect(parse_options({"train": section | {"distill_lossfn_weight": 2.0}}))
    assert "train.distillation.frequency (distillation_type is 'fakd')" in unused
    assert "train.distill_lossfn_weight (distillation_type is 'fakd')" in unused
    unused = keys_without_effect(
        parse_options(
            {
                "datasets": {"train": {"dataroot_H": "HR", "H_size": 96}, "unlabelled": {"dataroot": "U"}},
                "train": {
                    "total_iter": 100,
                    "distillation_type": ["response", "dukd"],
                    "feature_pairs": [[0, 0]],
                    "distillation": {"dukd": {"start_iter": 101, "zoom_out": 1}},
                },
            }
        )
    )
    assert "train.distillation.dukd.start_iter (it never starts: total_iter is 100)" in unused
    assert any(text.startswith("train.distillation.dukd.zoom_out (datasets.train.H_size 96") for text in unused)
    assert any(text.startswith("train.feature_pairs (") for text in unused)
    assert any(text.startswith("datasets.unlabelled (") for text in unused)
    assert not any("distill_lossfn" in text for text in unused)


def model_of(train_keys: dict[str, Any], **more: Any) -> ModelPlain:
    torch.manual_seed(0)
    model = swinlet.define_Model(
        {"gpu_ids": None, "netG": STUDENT | {"drop_path_rate": 0.1}, "netTeacher": WIDER, "train": train_keys, **more}
    )
    model.init_train()
    return model


def fed(model: ModelPlain, count: int = 4, **more: Tensor) -> ModelPlain:
    generator = torch.Generator().manual_seed(1)
    L, H = (torch.rand(count, 3, side, side, generator=generator) for side in (16, 64))
    model.feed_data({"L": L, "H": H, **more})
    return model


def test_weights_and_schedules_of_a_combination() -> None:
    keys = {
        "distillation_type": ["response", "frequency", "fakd"],
        "distill_lossfn_weight": 0.5,
        "distillation": {"response": {"weight": 3.0}, "frequency": {"start_iter": 2}, "fakd": {"warmup_iter": 4}},
    }
    model = model_of(keys)
    alone = {}
    for kind in ("response", "fakd", "frequency"):
        one = fed(model_of({"distillation_type": kind}))
        one.optimize_parameters(1)
        alone |= one.current_log()
    fed(model).optimize_parameters(1)
    found = model.current_log()
    assert set(found) == {"l_g_L1", "l_g_distill", "l_g_fakd", "G_loss"}
    assert found["l_g_distill"] == pytest.approx(3 * 0.5 * alone["l_g_distill"], rel=1e-4)
    assert found["l_g_fakd"] == pytest.approx(alone["l_g_fakd"] / 4, rel=1e-4)
    assert found["G_loss"] == pytest.approx(found["l_g_L1"] + found["l_g_distill"] + found["l_g_fakd"], rel=1e-5)
    model.optimize_parameters(2)
    assert "l_g_frequency" in model.current_log()


@pytest.mark.parametrize("kind", ["response", "feature", "fakd", "dukd"])
def test_the_teacher_is_asked_while_something_acts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = {"feature_pairs": [[0, 1], [1, 3]]} if kind in ("feature", "fakd") else {}
    schedule = {kind: {"start_iter": 2, "end_iter": 2}}
    model = fed(model_of({"distillation_type": kind, "distillation": schedule, **pairs}))
    asked: list[int] = []
    teacher = model.netTeacher
    assert teacher is not None
    teacher.register_forward_hook(lambda *_: asked.append(step))
    for step in (1, 2, 3):
        model.optimize_parameters(step)
        assert (len(model.current_log()) > 2) == (step == 2)
    assert asked
    assert set(asked) == {2}


@pytest.mark.parametrize("parts", [1, 2])
def test_gradient_share(parts: int, caplog: pytest.LogCaptureFixture) -> None:
    """The weight is such that the gradient has the share that is wanted, over the whole batch."""
    caplog.set_level("INFO", "swinlet")
    keys = {"distillation_type": ["feature_norm", "fakd"], "gradient_accumulation_steps": parts}
    model = fed(model_of(keys | {"distillation": {"fakd": {"gradient_share": 0.1, "start_iter": 2}}}))
    model.optimize_parameters(1)
    assert set(model._distillation.measured) == {"feature_norm"}
    model.optimize_parameters(2)
    weights = model._distillation.measured
    assert caplog.text.count("weight of feature_norm") == 1
    assert caplog.text.count("weight of fakd") == 1
    fresh = fed(model_of(keys))
    pixel, own = (fresh._student_gradient(1, which) for which in ("pixel", "feature_norm"))
    assert weights["feature_norm"] == pytest.approx(0.2 * pixel / own, rel=1e-3)
    weight = {"distillation": {"feature_norm": {"weight": 1.0}}}
    found = fed(model_of({"distillation_type": "feature_norm", "G_lossfn_weight": 0.0, **weight}))
    found.optimize_parameters(1)
    norm = math.sqrt(sum(float(w.grad.square().sum()) for w in found.netG.parameters() if w.grad is not None))
    assert norm == pytest.approx(own, rel=1e-4)


def test_a_weight_that_is_given_is_not_measured() -> None:
    model = fed(model_of({"distillation_type": "feature_norm", "distillation": {"feature_norm": {"weight": 0.5}}}))
    model.optimize_parameters(1)
    assert model._distillation.measured == {}
    assert model._distillation.weight("feature_norm") == 0.5


def test_a_skipped_iteration_is_not_measured() -> None:
    model = fed(model_of({"distillation_type": "feature_norm"}))
    good = dict(model._images)
    model.feed_data(good | {"H": torch.full_like(good["H"], torch.nan)})
    model.optimize_parameters(1)
    assert model._distillation.measured == {}
    assert model.current_log()["l_g_feature_norm"] == 0
    model.feed_data(good)
    model.optimize_parameters(2)
    assert set(model._distillation.measured) == {"feature_norm"}


def test_a_gradient_of_zero_has_no_weight() -> None:
    nothing = {"gradient_share": 0.1, "zoom_in": 0, "consistency": 0, "zoom_out": 0}
    model = fed(model_of({"distillation_type": "dukd", "distillation": {"dukd": nothing}}))
    with pytest.raises(TrainingError, match=r"dukd: its weight cannot be measured in iteration 1: the norm of its"):
        model.optimize_parameters(1)
    with pytest.raises(
        OptionError, match=r"feature_norm: its weight is measured .* \(train\.G_lossfn_weight\): give it"
    ):
        model_of({"distillation_type": "feature_norm", "G_lossfn_weight": 0.0})


def test_a_share_that_has_changed_is_measured_again() -> None:
    def of_share(share: float) -> ModelPlain:
        return fed(model_of({"distillation_type": "fakd", "distillation": {"fakd": {"gradient_share": share}}}))

    first, same, other = of_share(0.5), of_share(0.5), of_share(0.1)
    first.optimize_parameters(1)
    state = first._distillation.measured, first._distillation.shares
    for model in (same, other):
        model._distillation.resume(*state)
        model.optimize_parameters(1)
    assert same._distillation.measured == first._distillation.measured
    assert other._distillation.weight("fakd") == pytest.approx(first._distillation.weight("fakd") / 5, rel=1e-3)


def test_all_types_together_have_losses_of_their_own() -> None:
    """Types that may stand in one list never hide each other's losses."""
    names = [name for name in DISTILLATIONS if name not in ("none", "response", "response_tta", "feature_norm")]
    keys = {"distillation_type": names, "feature_pairs": [[0, 1], [1, 3]]}
    unlabelled = {"datasets": {"unlabelled": {"dataroot": "photos"}}}
    model = fed(model_of(keys, **unlabelled), U=torch.rand(4, 3, 16, 16))
    model.optimize_parameters(1)
    together = model.current_log()
    assert set(together) == {"l_g_L1", "G_loss"} | {
        *("l_g_distill", "l_g_feature", "l_g_frequency", "l_g_fakd", "l_g_unlabelled", "l_g_frequency_truth"),
        *("l_g_zoom_in", "l_g_consistency", "l_g_zoom_out", "l_g_consistency_truth", "l_g_zoom_out_truth"),
    }
    for name in ("frequency", "frequency_truth"):
        alone = fed(model_of({"distillation_type": name}))
        alone.optimize_parameters(1)
        assert together[f"l_g_{name}"] == pytest.approx(alone.current_log()[f"l_g_{name}"], rel=1e-4)


def test_losses_named_alike_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a type of somebody's own may have them."""
    monkeypatch.setattr(
        FrequencyDistillation, "forward", lambda _, lesson: {"l_g_distill": (lesson.E - lesson.H).abs().mean()}
    )
    model = fed(model_of({"distillation_type": ["response", "frequency"]}))
    with pytest.raises(OptionError, match=r"frequency has losses that another type .* names alike \(l_g_distill\)"):
        model.optimize_parameters(1)


@pytest.mark.parametrize("kind", ["dukd", "augmentation"])
def test_patches_too_small_to_zoom_out_are_told(kind: str) -> None:
    for size, is_told in ((96, True), (128, False)):
        opt = parse_options(
            {"datasets": {"train": {"dataroot_H": "HR", "H_size": size}}, "train": {"distillation_type": kind}}
        )
        found = [text for text in keys_without_effect(opt) if "zoom" in text]
        assert bool(found) == is_told
        assert all(f"H_size {size} makes patches of less than 8 pixels" in text for text in found)


@pytest.mark.parametrize("kind", ["dukd", "augmentation", "unlabelled", "feature_norm", "response_tta"])
def test_parts_of_a_batch_are_the_batch(kind: str) -> None:
    """What is drawn for a sample does not depend on how the batch is taken."""
    found = []
    for parts in (1, 3):
        sets = {"datasets": {"unlabelled": {"dataroot": "U"}}} if kind == "unlabelled" else {}
        model = model_of({"distillation_type": kind, "gradient_accumulation_steps": parts}, **sets)
        U = {"U": torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))}
        for step in (1, 2):
            fed(model, **U).optimize_parameters(step)
        found.append(model.current_log())
    assert found[0] == pytest.approx(found[1], rel=2e-3)


def test_what_is_drawn_depends_on_seed_iteration_and_sample() -> None:
    train_keys = TrainOptions(distillation_type="augmentation", manual_seed=3)
    student = swinlet.define_G(STUDENT)
    told: list[Tensor] = []

    class Spy(Combination):
        def forward(self, lesson: Lesson) -> dict[str, Tensor]:
            told.append(lesson.random(2))
            return {}

    def ask(seed: int, step: int, **more: Any) -> Tensor:
        section = train_keys.model_copy(update={"manual_seed": seed})
        task = TrainingTask(section, student, Spy(section, student, None))
        task(step, torch.rand(4, 3, 8, 8), torch.rand(4, 3, 32, 32), None, [], **more)
        return told[-1]

    first = ask(3, 1)
    assert first.shape == (4, 2)
    assert first.dtype == torch.float32
    assert ((first >= 0) & (first < 1)).all()
    assert torch.equal(ask(3, 1), first)
    assert not torch.equal(ask(4, 1), first)
    assert not torch.equal(ask(3, 2), first)
    assert torch.equal(ask(3, 1, positions=range(4, 8)), ask(3, 2))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unlabelled")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 17, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "own.png")
    return folder


def test_messages_name_the_key_of_unlabelled_photographs(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    run = tree(photos, tmp_path, teacher_file, distillation_type="unlabelled")
    run["datasets"]["unlabelled"] = {"dataroot": str(tmp_path / "none")}
    with pytest.raises(DataError, match=r"^datasets\.unlabelled\.dataroot: .*none"):
        define_Datasets(parse_options(run))


@pytest.mark.parametrize("workers", [0, 1])
def test_unlabelled_photographs_go_with_the_patches(
    photos: Path, teacher_file: Path, unlabelled: Path, tmp_path: Path, workers: int
) -> None:
    run = tree(photos, tmp_path, teacher_file, distillation_type="unlabelled")
    run["datasets"]["unlabelled"] = {"dataroot": str(unlabelled)}
    run["datasets"]["train"]["dataloader_num_workers"] = workers
    opt = parse_options(run)
    sets = define_Datasets(opt)
    batches = list(training_batches(sets["train"], opt, range(1, 4), None, sets["unlabelled"]))
    image = np.asarray(Image.open(unlabelled / "own.png"))
    for batch in batches:
        assert batch["U"].shape == batch["L"].shape == (2, 3, 8, 8)
        patch = batch["U"][0].permute(1, 2, 0).numpy()
        places = [
            mode
            for top in range(13)
            for left in range(10)
            for mode in range(8)
            if np.array_equal(augment(image[top : top + 8, left : left + 8], mode), patch)
        ]
        assert len(places) == 1
    assert not torch.equal(batches[0]["U"], batches[1]["U"])
    without = parse_options(run | {"train": run["train"] | {"distillation_type": "response"}})
    assert "unlabelled" not in define_Datasets(without)


@pytest.mark.parametrize(
    "kinds",
    [["response", "dukd", "fakd"], ["feature_norm", "frequency", "unlabelled"], "response_tta", "augmentation"],
)
def test_trained_in_parts_as_in_one(
    photos: Path, teacher_file: Path, unlabelled: Path, tmp_path: Path, kinds: Any
) -> None:
    """Every type trains, and goes on after a stop as if there had been none, with the weights once measured."""
    for name, stops in (("whole", [4]), ("parts", [2, 4])):
        for stop in stops:
            run = tree(photos, tmp_path / name, teacher_file, distillation_type=kinds, total_iter=stop)
            run["datasets"]["unlabelled"] = {"dataroot": str(unlabelled)}
            run["datasets"]["train"]["H_size"] = 64
            assert train(parse_options(run))
    whole, parts = (torch.load(tmp_path / name / "run/models/4_G.pth") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    found = newest_sealed(tmp_path / "parts/run/models")
    assert found is not None
    assert set(found.extra["distillation_weights"]) == ({"feature_norm"} if "feature_norm" in kinds else set())
    assert (tmp_path / "parts/run/models/4_P.pth").exists() == ("feature_norm" in kinds)


def test_which_types_need_the_network() -> None:
    stored = {"datasets": {"train": {"dataroot_H": "HR", "dataroot_T": "T"}}}
    for kinds, is_stored, is_asked in (
        ("response", True, False),
        (["response", "dukd"], True, True),
        ("dukd", False, True),
        ("augmentation", False, False),
    ):
        opt = parse_options(stored | {"train": {"distillation_type": kinds}})
        assert (opt.teacher_is_stored, opt.teacher_is_asked) == (is_stored, is_asked)
    with pytest.raises(OptionError, match=r"pretrained_netTeacher: missing; distillation_type 'dukd' needs a teacher"):
        check_teacher(parse_options(stored | {"train": {"distillation_type": ["response", "dukd"]}}))


def test_stored_answers_and_network_together(
    photos: Path, teacher_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of response and dukd one reads what is stored, and the other asks."""
    taught(teacher_file, photos / "train", tmp_path / "T")
    run = tree(photos, tmp_path / "both", teacher_file, distillation_type=["response", "dukd"])
    run["datasets"]["train"]["dataroot_T"] = str(tmp_path / "T")
    assert train(parse_options(run))
    assert "stored answers of swinir" in caplog.text
    assert "no teacher network" not in caplog.text
    live = tree(photos, tmp_path / "live", teacher_file, distillation_type=["response", "dukd"])
    assert train(parse_options(live))
    found = [torch.load(tmp_path / name / "run/models/6_G.pth") for name in ("both", "live")]
    for name, weight in found[0].items():  # stored images have 8 bits
        torch.testing.assert_close(weight, found[1][name], rtol=0, atol=2e-2)


def test_stored_answers_of_views(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    def run(name: str) -> Any:
        keys = tree(photos, tmp_path / "runs", None, distillation_type="response_tta")
        keys["datasets"]["train"]["dataroot_T"] = str(tmp_path / name)
        return parse_options(keys)

    taught(teacher_file, photos / "train", tmp_path / "one")
    with pytest.raises(OptionError, match=r"its answers are of one view each, .* swinlet teach --self-ensemble"):
        train(run("one"))
    taught(teacher_file, photos / "train", tmp_path / "eight", self_ensemble=True)
    assert train(run("eight"))
