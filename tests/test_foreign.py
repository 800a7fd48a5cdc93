"""Teachers of other architectures: opened through spandrel, from tensors that swinlet has read."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import swinlet
from swinlet.errors import CheckpointError, OptionError
from swinlet.evaluation import tables
from swinlet.evaluation.evaluate import evaluate
from swinlet.evaluation.models import NamedFile, open_contenders
from swinlet.evaluation.request import evaluation_request
from swinlet.evaluation.results import Evaluation
from swinlet.inference import RestoreOptions
from swinlet.models.foreign_network import ForeignNetwork, open_foreign
from swinlet.models.image_network import ImageNetwork
from swinlet.models.open_network import open_any_network
from swinlet.models.select_teacher import define_teacher
from swinlet.models.taps import TappedNetwork
from swinlet.options import parse_options
from swinlet.train import train
from swinlet.utils.console import ProgressBar
from swinlet.weights import WeightFile, read_weight_file
from tests.fuzz import attempt, fuzz
from tests.small_run import NET, options
from tests.test_fuzz_weights import DTYPES, PREFIXES, SHAPES, VALUES, full

spandrel = pytest.importorskip("spandrel", reason="needs the extra teachers")

TEACHERS = {
    "RealESRGAN Compact": lambda **config: compact(**config),
    "RCAN": lambda: spandrel.architectures.RCAN.RCAN(n_feats=16, n_resgroups=1, n_resblocks=1, scale=4),
    "DITN": lambda: spandrel.architectures.DITN.DITN(dim=8, ITL_blocks=1, SAL_blocks=1, UFONE_blocks=1),
}


def compact(**config: Any) -> torch.nn.Module:
    return spandrel.architectures.Compact.Compact(**({"num_feat": 6, "num_conv": 2, "upscale": 4} | config))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(tmp_path, compact())


def saved(folder: Path, network: torch.nn.Module, **changed: Tensor) -> Path:
    path = folder / "teacher.pth"
    torch.save({"params": network.state_dict() | changed}, path)
    return path


def tree(path: Path, **more: Any) -> Any:
    train_keys = {"distillation_type": "response", **more.pop("train", {})}
    paths = {"pretrained_netTeacher": str(path)}
    return parse_options({"gpu_ids": None, "netG": NET, "path": paths, "train": train_keys, **more})


def teacher(path: Path, **more: Any) -> Any:
    opt = tree(path, **more)
    return define_teacher(opt, swinlet.define_G(opt))


@pytest.mark.parametrize(
    ("kind", "size"), [("RealESRGAN Compact", (5, 9)), ("RCAN", (5, 9)), ("DITN", (16, 8)), ("DITN", (13, 3))]
)
def test_a_teacher_answers_as_spandrel_has_it(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    """DITN needs whole patches of 8 pixels: others are padded by reflection, and the answer cropped."""
    torch.manual_seed(0)
    path = saved(tmp_path, TEACHERS[kind]())
    built = teacher(path)
    x = torch.rand(2, 3, *size)
    given = x.clone()
    with torch.no_grad():
        answer = built(x)
    assert torch.equal(x, given)  # RCAN computes in place, and the student sees the same image
    expected = spandrel.ModelLoader().load_from_state_dict(torch.load(path, weights_only=True))(x)
    assert answer.shape == (2, 3, 4 * size[0], 4 * size[1])
    assert torch.equal(answer, expected)

    assert (built.kind, built.upscale, built.in_chans) == (kind, 4, 3)
    assert built.window_size == (8 if kind == "DITN" else 1)
    assert 4 * 3 * 16 <= built.bytes_per_pixel < 100_000  # at least the answer
    assert not built.training
    assert not any(weight.requires_grad for weight in built.parameters())
    torch.nn.functional.l1_loss(torch.rand_like(answer).requires_grad_(), answer).backward()


def test_a_student_learns_from_it_and_resumes_exactly(photos: Path, tmp_path: Path, file: Path) -> None:
    for root, ends in (("whole", [4]), ("parts", [2, 4])):
        for end in ends:
            more = {"distillation_type": "response", "total_iter": end, "checkpoint_test": 100}
            assert train(options(photos, tmp_path / root, file, **more))
    whole, parts = (torch.load(tmp_path / root / "run/models/4_G.pth") for root in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    log = (tmp_path / "whole/run/train.log").read_text()
    assert f"teacher {file} (RealESRGAN Compact, {sum(p.numel() for p in compact().parameters()):,} parameters)" in log
    assert "l_g_distill" in log


def scored(weights: list[str], testset: Path, teacher: Path, latency_size: int) -> Evaluation:
    request = evaluation_request(
        weights,
        [str(testset)],
        teacher=str(teacher),
        download=False,
        scale=None,
        net_types=[],
        self_ensemble=False,
        tile=None,
        tile_overlap=None,
        precision="fp32",
        device="cpu",
        latency_size=latency_size,
        save_images=None,
    )
    with ProgressBar() as bar:
        found = evaluate(request, bar)
    assert not found.problems
    return found


def test_evaluate_scores_it_beside_others(photos: Path, tmp_path: Path, file: Path) -> None:
    found = scored([f"other={file}"], photos / "test", file, latency_size=8)
    assert [(card.role, card.net_type, card.multiply_adds) for card in found.models] == [
        ("student", "RealESRGAN Compact", None),
        ("teacher", "RealESRGAN Compact", None),
    ]
    text = tables.as_text(found)
    assert next(line for line in text.splitlines() if line.startswith("teacher ")).split()[-3] == "-"
    assert "null" in tables.as_json(found)


def test_the_craft_of_ntire_2024(shared: Path, photos: Path, tmp_path: Path) -> None:
    """32.39 dB on Set5; one of its images here. A student learns from it."""
    for kind in ("HR", "LR_bicubic/X4"):
        (tmp_path / "Set1" / kind).mkdir(parents=True)
        for path in (shared / "data/testsets/Set5" / kind).glob("woman*"):
            shutil.copy(path, tmp_path / "Set1" / kind)
    weights = shared / "data/teachers/craft_x4_ntire2024_team34.pth"
    found = scored([], tmp_path / "Set1", weights, latency_size=0)
    (card,) = found.models
    assert (card.net_type, card.parameters) == ("CRAFT", 753_344)
    assert found.sets[0].rows[-1].mean("psnr_y") == pytest.approx(30.833, abs=0.005)
    more = {"distillation_type": "response", "total_iter": 2, "checkpoint_test": 100}
    opt = options(photos, tmp_path, weights, **more)
    assert train(opt.model_copy(update={"datasets": opt.datasets.model_copy(update={"test": None})}))
    assert "(CRAFT, 753,344 parameters); distillation: response" in (tmp_path / "run/train.log").read_text()


# What is refused


def refusal(path: Path, kind: type[Exception] = CheckpointError, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        teacher(path, **more)
    return str(caught.value)


def test_without_the_extra(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    text = refusal(file)
    assert text.startswith(
        f"path.pretrained_netTeacher: {file}: these are not the weights of a SwinIR: there is no conv_"
    )
    assert text.endswith(
        "Networks of other architectures than SwinIR are opened with spandrel: pip install 'swinlet[teachers]'"
    )
    own = tmp_path / "own.pth"
    torch.save(swinlet.define_G(NET).state_dict(), own)
    assert teacher(own).kind == "SwinIR"  # needs nothing of it


def test_scale_channels_section_and_precision_must_fit(tmp_path: Path) -> None:
    path = saved(tmp_path, compact(upscale=2))
    assert "the teacher's upscale is 2, the student's 4: choose another teacher, or change scale" in refusal(
        path, OptionError
    )
    path = saved(tmp_path, compact(num_in_ch=1, num_out_ch=1))
    assert "the teacher's in_chans is 1, the student's 3" in refusal(path, OptionError)
    path = saved(tmp_path, compact())
    text = refusal(path, OptionError, netTeacher={"net_type": "swinir"})
    assert (
        text
        == f"netTeacher: it describes a SwinIR, but path.pretrained_netTeacher: {path} is RealESRGAN Compact: remove it"
    )
    hat = spandrel.architectures.HAT.HAT(
        embed_dim=60, depths=(1,), num_heads=(2,), window_size=4, upscale=4, upsampler="pixelshuffle"
    )
    path = saved(tmp_path, hat)
    text = refusal(path, OptionError, train={"teacher_precision": "fp16"})
    assert text == f"train.teacher_precision: {path} does not compute in fp16: use fp32 or bf16"
    options = RestoreOptions(torch.device("cpu"), "fp16")
    _, problems = open_contenders([], NamedFile(str(path), origin="--teacher"), scale=4, net_types={}, options=options)
    assert problems == [f"--teacher: {path}: it does not compute in fp16: use --precision fp32 or bf16"]


def test_hat_is_told_from_swinir_without_a_word(tmp_path: Path) -> None:
    """It has all the tensors that tell a SwinIR, and more; files without a wrapper do not say whose they are."""
    small = {"embed_dim": 60, "depths": (1,), "num_heads": (2,), "window_size": 4}
    hat = spandrel.architectures.HAT.HAT(**small, upscale=4, upsampler="pixelshuffle")
    torch.save(hat.state_dict(), tmp_path / "hat.pth")
    options = RestoreOptions(torch.device("cpu"))
    found, problems = open_contenders(
        [NamedFile(str(tmp_path / "hat.pth"))], None, scale=4, net_types={}, options=options
    )
    assert ([contender.card.net_type for contender in found], problems) == (["HAT"], [])


def test_networks_for_other_purposes(tmp_path: Path) -> None:
    path = saved(tmp_path, spandrel.architectures.DnCNN.DnCNN(in_nc=3, out_nc=3, nc=4, nb=8, act_mode="R"))
    text = refusal(path, scale=1)
    assert text.endswith("DnCNN is a network for restoration: a teacher has to be one for super-resolution")


def test_weights_of_nothing_that_is_known(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    text = refusal(tmp_path / "a.pth")
    assert text.endswith("there is no conv_first.weight. Nor are they those of another network that is known")


def test_a_damaged_swinir_is_told_as_one(tmp_path: Path) -> None:
    state = swinlet.define_G(NET).state_dict()
    del state["norm.weight"]
    torch.save(state, tmp_path / "a.pth")
    assert "does not fit the network: norm.weight missing" in refusal(tmp_path / "a.pth")


def test_damaged_weights(tmp_path: Path) -> None:
    path = saved(tmp_path, compact(), **{"body.0.bias": torch.full((6,), torch.nan)})
    assert refusal(path).endswith("body.0.bias holds values that are no numbers")
    path = saved(tmp_path, compact(), **{"body.0.bias": torch.zeros(6, dtype=torch.complex64)})
    assert refusal(path).endswith("body.0.bias holds complex numbers")
    path = saved(tmp_path, compact(), **{"body.2.weight": torch.zeros(3)})
    assert "these look like the weights of a RealESRGAN Compact, but do not fit one: " in refusal(path)


def test_a_network_that_restores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes may fit the names, and yet not each other."""
    path = saved(tmp_path, compact())
    arch = spandrel.architectures.Compact.Compact
    monkeypatch.setattr(arch, "forward", lambda self, x: x)
    assert refusal(path).endswith("made (2, 3, 16, 16) of two images of 16x16 pixels")
    monkeypatch.setattr(arch, "forward", lambda self, x: x @ torch.zeros(3, 3))
    assert "RealESRGAN Compact cannot restore an image: " in refusal(path)


def test_a_small_file_makes_no_huge_network(tmp_path: Path) -> None:
    """Two convolutions 20,000 wide would have 29 GB."""
    wide = {"body.0.weight": torch.zeros(20_000, 3, 3, 3), "body.0.bias": torch.zeros(20_000)}
    path = saved(tmp_path, compact(), **wide)
    assert refusal(path).endswith("do not fit one: they make a network of many times as many values")


def test_the_file_is_read_by_swinlet_alone(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"params": compact().state_dict(), "extra": Payload()}, tmp_path / "a.pth")
    assert "refused for safety" in refusal(tmp_path / "a.pth")
    assert not (tmp_path / "executed").exists()


def test_tensors_given_are_not_changed(file: Path) -> None:
    read = read_weight_file(file, "key")
    names = list(read.state)
    network = open_foreign(WeightFile(read.path, read.source, read.state, read.wrapper))
    assert isinstance(network, ForeignNetwork)
    assert list(read.state) == names


# Features through named modules

GRID = {"datasets": {"train": {"dataroot_H": "unused", "H_size": 32}}}  # LR patches of 8 pixels, two windows of 4


def tapped(path: Path, taps: list[str] | None, **keys: Any) -> Any:
    train_keys = {"distillation_type": "feature", "feature_taps": taps, **keys}
    return swinlet.define_Model(tree(path, train=train_keys, **GRID))


def test_taps_are_what_the_modules_put_out(file: Path) -> None:
    model = tapped(file, ["body.0", "body.3"])
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        image, features = model.netTeacher(x, return_features=True)
        network = spandrel.ModelLoader().load_from_state_dict(torch.load(file, weights_only=True)).model
        first = network.body[0](x)
        expected = [first, network.body[3](network.body[2](network.body[1](first)))]
        assert torch.equal(image, network(x).clamp(0, 1))
    for feature, wanted in zip(features, expected, strict=True):
        assert torch.equal(feature, wanted.flatten(2).transpose(1, 2))
    assert model.netTeacher.feature_widths == (6, 6)
    assert [tuple(linear.weight.shape) for linear in model.netP] == [(12, 6), (12, 6)]
    assert torch.equal(model.netTeacher(x), image)


def test_a_map_that_is_changed_in_place_afterwards(tmp_path: Path) -> None:
    """ESRGAN's activations write over the outputs of its convolutions."""
    torch.manual_seed(0)
    rrdb = spandrel.architectures.ESRGAN.ESRGAN(in_nc=3, out_nc=3, num_filters=6, num_blocks=1)
    path = saved(tmp_path, rrdb)
    name = "model.1.sub.0.RDB1.conv1.0"
    model = tapped(path, [name, "model.1"])
    seen: list[Tensor] = []
    network = model.netTeacher.network.network
    network.get_submodule(name).register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    with torch.no_grad():
        _, features = model.netTeacher(torch.rand(1, 3, 8, 8), return_features=True)
    assert torch.equal(features[0], seen[-1].flatten(2).transpose(1, 2))
    assert (features[0] < 0).any()


def test_features_are_learnt_and_resumed_exactly(photos: Path, tmp_path: Path, file: Path) -> None:
    more = {"feature_taps": ["body.1", "body.4"], "feature_pairs": [[1, 0], [0, 1]], "checkpoint_test": 100}
    for root, ends in (("whole", [4]), ("parts", [2, 4])):
        for end in ends:
            assert train(options(photos, tmp_path / root, file, total_iter=end, **more))
    for label in ("G", "P"):
        whole, parts = (torch.load(tmp_path / root / f"run/models/4_{label}.pth") for root in ("whole", "parts"))
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert "l_g_feature" in (tmp_path / "whole/run/train.log").read_text()
    more["feature_taps"] = ["body.1", "body.3"]
    with pytest.raises(CheckpointError, match=r"belongs to a run with other options.*train\.feature_taps"):
        train(options(photos, tmp_path / "whole", file, total_iter=4, **more))


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # spandrel's
def test_what_looks_like_a_map_where_one_window_covers_the_patch(tmp_path: Path) -> None:
    """Shifted windows of HAT have their tokens in another order."""
    small = {"embed_dim": 60, "depths": (2,), "num_heads": (2,), "window_size": 16}
    path = saved(tmp_path, spandrel.architectures.HAT.HAT(**small, upscale=4, upsampler="pixelshuffle"))
    name = "layers.0.residual_group.blocks.1.attn"
    keys = {"distillation_type": "feature", "feature_taps": [name]}
    patches = {"datasets": {"train": {"dataroot_H": "unused", "H_size": 64}}}
    with pytest.raises(OptionError, match=f"{name}: it puts out 4 parts of an image for a patch twice as large") as e:
        swinlet.define_Model(tree(path, train=keys, **patches))
    assert "these would fit: conv_first, " in str(e.value)


def test_taps_of_a_swinir(tmp_path: Path) -> None:
    """Its own stages need none; other modules can be named, too."""
    torch.manual_seed(0)
    own = swinlet.define_G({**NET, "embed_dim": 16})
    torch.save({"params": own.state_dict()}, tmp_path / "own.pth")
    model = tapped(tmp_path / "own.pth", ["conv_first", "layers.1"])
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        _, (first, last) = model.netTeacher(x, return_features=True)
        _, (_, stage) = tapped(tmp_path / "own.pth", None).netTeacher(x, return_features=True)
    assert first.shape == (1, 64, 16)
    assert torch.equal(last, stage)


@pytest.mark.parametrize(
    ("taps", "text"),
    [
        (None, r"train\.feature_taps: missing; RealESRGAN Compact does not say which features it has: name modules "
         r"whose outputs are token maps, such as body\.0, body\.1, body\.2, body\.3, body\.4, body\.5, body\.6$"),
        (["body.0", "bode.1"], r"feature_taps: RealESRGAN Compact has no module 'bode\.1': did you mean body\.1"),
        (["zz"], r"has no module 'zz': these would fit: body\.0, body\.1, "),
        (["body.0", "upsampler"], r"train\.feature_taps: upsampler: it puts out a map of 32x32; the student has 8x8 "
         r"tokens of a patch of 8x8 pixels: these would fit: body\.0, "),
        (["body", "body.0"], r"train\.feature_taps: body: it is not called when an image is restored"),
        (["body.0"], r"train\.feature_pairs: the student has 2 stages, the teacher 1: say which to pair"),
        (["body.0", "body.1", "body.2"], r"train\.feature_pairs: the student has 2 stages, the teacher 3: say which"),
    ],
)  # fmt: skip
def test_taps_that_do_not_fit(file: Path, taps: list[str] | None, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        tapped(file, taps)


def test_tokens_and_tuples(tmp_path: Path) -> None:
    """HAT's groups put out tokens; of tuples the first member counts."""
    small = {"embed_dim": 60, "depths": (1,), "num_heads": (2,), "window_size": 4}
    path = saved(tmp_path, spandrel.architectures.HAT.HAT(**small, upscale=4, upsampler="pixelshuffle"))
    data = {"train": {"dataroot_H": "unused", "H_size": 64}}
    keys = {"distillation_type": "feature", "feature_taps": ["layers.0", "layers.0.residual_group"]}
    model = swinlet.define_Model(tree(path, train=keys, datasets=data))
    assert model.netTeacher.feature_widths == (60, 60)

    class Pair(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return x, 1

    class Network(ImageNetwork):
        upscale, in_chans = 1, 3

        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(x)[0]

    network, x = TappedNetwork(Network(), ["pair"], side=4, grid=range(4, 5)), torch.rand(1, 3, 4, 4)
    assert torch.equal(network(x, return_features=True)[1][0], x.flatten(2).transpose(1, 2))


COMPACT = compact(upscale=2).state_dict()
TENSORS = st.builds(full, SHAPES, VALUES, st.sampled_from(DTYPES))


@fuzz(50)
@given(st.dictionaries(st.sampled_from(sorted(COMPACT)), st.none() | TENSORS, min_size=1, max_size=3), PREFIXES)
@example({"body.0.weight": torch.zeros(0)}, "")
def test_any_tensors_are_a_network_or_an_error(changes: dict[str, Tensor | None], prefix: str) -> None:
    changed = (COMPACT | changes).items()
    state = {prefix + name: tensor for name, tensor in changed if tensor is not None}
    file = WeightFile(Path("x"), "key: x", state, "")
    message = attempt("weights, another architecture", lambda: open_any_network(file), CheckpointError)
    assert message is None or message.startswith("key: x")
