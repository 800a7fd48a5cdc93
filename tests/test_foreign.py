"""Teachers of other architectures: opened through spandrel, from tensors that swinlet has read."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import swinlet
from swinlet.errors import CheckpointError, OptionError
from swinlet.evaluation import evaluate, tables
from swinlet.evaluation.models import NamedFile, open_contenders
from swinlet.evaluation.request import evaluation_request
from swinlet.evaluation.results import Evaluation
from swinlet.inference import RestoreOptions
from swinlet.models.foreign_network import ForeignNetwork, open_foreign
from swinlet.models.select_teacher import define_teacher
from swinlet.options import parse_options
from swinlet.train import train
from swinlet.utils.console import ProgressBar
from swinlet.weights import WeightFile, read_weight_file
from tests.small_run import NET, options

spandrel = pytest.importorskip("spandrel", reason="needs the extra teachers")

TEACHERS = {
    "RealESRGAN Compact": lambda **config: compact(**config),
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


@pytest.mark.parametrize(("kind", "size"), [("RealESRGAN Compact", (5, 9)), ("DITN", (16, 8)), ("DITN", (13, 3))])
def test_a_teacher_answers_as_spandrel_has_it(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    """DITN needs whole patches of 8 pixels: others are padded by reflection, and the answer cropped."""
    torch.manual_seed(0)
    path = saved(tmp_path, TEACHERS[kind]())
    built = teacher(path)
    x = torch.rand(2, 3, *size)
    with torch.no_grad():
        answer = built(x)
    expected = spandrel.ModelLoader().load_from_state_dict(torch.load(path, weights_only=True))(x)
    assert answer.shape == (2, 3, 4 * size[0], 4 * size[1])
    assert torch.equal(answer, expected)
    assert (built.kind, built.upscale, built.in_chans) == (kind, 4, 3)
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
        teacher=teacher,
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


def test_the_craft_of_ntire_2024(shared: Path, tmp_path: Path) -> None:
    """32.39 dB on Set5; one of its images here."""
    for kind in ("HR", "LR_bicubic/X4"):
        (tmp_path / "Set1" / kind).mkdir(parents=True)
        for path in (shared / "data/testsets/Set5" / kind).glob("woman*"):
            shutil.copy(path, tmp_path / "Set1" / kind)
    weights = shared / "data/teachers/craft_x4_ntire2024_team34.pth"
    found = scored([], tmp_path / "Set1", weights, latency_size=0)
    (card,) = found.models
    assert (card.net_type, card.parameters) == ("CRAFT", 753_344)
    assert found.sets[0].rows[-1].mean("psnr_y") == pytest.approx(30.833, abs=0.005)


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
    _, problems = open_contenders([], NamedFile(path, origin="--teacher"), scale=4, net_types={}, options=options)
    assert problems == [f"--teacher: {path}: it does not compute in fp16: use --precision fp32 or bf16"]


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
    path = saved(tmp_path, compact(), **{"body.2.weight": torch.zeros(3)})
    assert "these look like the weights of a RealESRGAN Compact, but do not fit one: " in refusal(path)


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
