"""Weight files of other tools: one prefix before all names of a network is taken off, and said; never a guess."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import swinlet
from swinlet.errors import CheckpointError
from swinlet.models.foreign_network import ForeignNetwork
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_swinir_student_v2 import SwinIRStudentV2
from swinlet.models.network_translator import Translator
from swinlet.models.open_network import open_any_network, open_network
from swinlet.options import parse_options
from swinlet.prefixes import common_prefixes, without_prefix
from swinlet.weights import load_into, read_weight_file, read_weights

NET: dict[str, Any] = {"embed_dim": 4, "depths": [1], "num_heads": [1], "window_size": 2, "upscale": 2}
NETWORK = SwinIR(**NET, upsampler="pixelshuffledirect")
STATE: dict[str, Tensor] = dict(NETWORK.state_dict())
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}
PREFIXES = [
    *("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net_g.", "netG.", "generator."),
    *("model._orig_mod.", "module.net_g.", "any.tool.at.all."),
]


def below(prefix: str, state: Mapping[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def opened(path: Path, content: object) -> SwinIR:
    torch.save(content, path)
    return open_network(read_weight_file(path, "weights"), default_type="swinir")


def same(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    own = network.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in state)


@pytest.fixture(autouse=True)
def _all_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "swinlet")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_is_taken_off_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, prefix: str) -> None:
    assert same(opened(tmp_path / "x.pth", {"params": below(prefix)}), STATE)
    assert caplog.messages == [f"weights: {tmp_path / 'x.pth'}: the prefix {prefix} was taken off"]
    save_file(below(prefix), tmp_path / "x.safetensors", {"net_type": "swinir_student_v2"})
    file = read_weight_file(tmp_path / "x.safetensors", "weights")
    assert isinstance(open_network(file), SwinIRStudentV2)  # what the file records still counts


def test_names_as_they_stand_are_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert same(opened(tmp_path / "x.pth", STATE), STATE)
    assert not caplog.messages
    with pytest.raises(CheckpointError, match=r"x\.pth does not fit the network: ema\.conv_first\.weight unknown"):
        opened(tmp_path / "x.pth", STATE | below("ema."))


def test_what_the_tools_themselves_save(tmp_path: Path) -> None:
    assert same(opened(tmp_path / "x.pth", nn.DataParallel(NETWORK).state_dict()), STATE)
    assert same(opened(tmp_path / "x.pth", AveragedModel(NETWORK).state_dict()), STATE)  # with its n_averaged


def lightning(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """A checkpoint of Lightning, with all that it keeps beside the weights."""
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": dict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(1.0), "dirpath": "/x"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}],
        "lr_schedulers": [{"base_lrs": [1e-3], "last_epoch": 3}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"scale": 2},
    }


def test_lightning_checkpoints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beside the network stand tensors of losses, left out with a warning."""
    losses = {f"loss.vgg.{i}.weight": torch.zeros(1) for i in range(6)}
    assert same(opened(tmp_path / "x.ckpt", lightning(below("net_g.") | losses)), STATE)
    assert caplog.messages[0].endswith(
        "the prefix net_g. was taken off; left out: loss.vgg.0.weight, loss.vgg.1.weight, loss.vgg.2.weight, "
        "loss.vgg.3.weight and 2 more"
    )
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    ("live", "average"),
    [("net_g.", "net_g_ema."), ("model.", "ema.module."), ("netG.", "netE."), ("online_model.", "ema_model.")],
)
def test_the_moving_average_is_preferred_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, live: str, average: str
) -> None:
    content = lightning(below(live) | below(average, OTHER) | {"loss.weight": torch.zeros(1)})
    assert same(opened(tmp_path / "x.ckpt", content), OTHER)
    assert caplog.messages[0].endswith(
        f"the prefix {average} was taken off; this is the moving average (EMA), the file also holds {live}"
    )
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("prefixes", [("student.", "teacher."), ("ema_a.", "ema_b."), ("cinema.", "b.")])
def test_of_several_networks_none_is_guessed(tmp_path: Path, prefixes: tuple[str, str]) -> None:
    state = below(prefixes[0]) | below(prefixes[1])
    with pytest.raises(CheckpointError, match=rf"^weights: .* it holds 2 networks, under {', '.join(prefixes)}: save"):
        opened(tmp_path / "x.pth", state)


@pytest.mark.parametrize("prefix", ["module.", "net_g."])
@pytest.mark.parametrize("is_inside", [True, False])
def test_a_marker_of_v2_still_counts(tmp_path: Path, prefix: str, is_inside: bool) -> None:
    marker = {f"{prefix if is_inside else ''}swinir_student_v2": torch.zeros(1)}
    torch.save(below(prefix) | marker, tmp_path / "x.pth")
    network = open_network(read_weight_file(tmp_path / "x.pth", "key"))
    assert isinstance(network, SwinIRStudentV2)
    assert same(network, STATE)


def test_wherever_weights_are_named(tmp_path: Path) -> None:
    """As weights to upscale with, and as a student's, an average's and a translator's in an option file."""
    path = tmp_path / "x.pth"
    torch.save({"params": below("net_g.")}, path)
    image = torch.full((1, 3, 4, 4), 0.5)
    assert swinlet.load(path).upscale(image).shape == (1, 3, 8, 8)
    tree = {
        "gpu_ids": None,
        "scale": 2,
        "path": {"pretrained_netG": path, "pretrained_netE": path, "pretrained_netTeacher": path},
        "netG": NET | {"net_type": "swinir", "upsampler": "pixelshuffledirect"},
        "train": {"distillation_type": "response"},
    }
    model = swinlet.define_Model(parse_options(tree))
    model.init_train()
    assert model.netE is not None
    assert isinstance(model.netTeacher, SwinIR)
    assert all(same(network, STATE) for network in (model.netG, model.netE, model.netTeacher))
    translator = Translator([(2, 3)])
    torch.save(below("module._orig_mod.", translator.state_dict()), path)
    load_into(translator, read_weights(path, "key"), strict=True, source="x")


def test_a_network_of_another_architecture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The names as they stand come first: ESRGAN's own begin with ``model.``."""
    spandrel = pytest.importorskip("spandrel", reason="needs the extra teachers")
    networks = {
        "RealESRGAN Compact": spandrel.architectures.Compact.Compact(num_feat=6, num_conv=2, upscale=4),
        "ESRGAN": spandrel.architectures.ESRGAN.ESRGAN(num_filters=8, num_blocks=1, scale=2),
    }
    assert all(name.startswith("model.") for name in networks["ESRGAN"].state_dict())
    for kind, network in networks.items():
        for prefix in ("", "net_g.", "model.", "module._orig_mod.generator."):
            caplog.clear()
            torch.save(lightning(below(prefix, network.state_dict())), tmp_path / "x.ckpt")
            built = open_any_network(read_weight_file(tmp_path / "x.ckpt", "key"))
            assert isinstance(built, ForeignNetwork)
            assert built.kind == kind
            assert same(built.network, network.state_dict())
            said = "".join(message.rpartition("the prefix ")[2] for message in caplog.messages)
            assert said.replace(" was taken off", "") == prefix


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ([".conv_first.weight"], ["conv_first.weight"]),
        (["a.conv_first.weight", "a."], ["", "conv_first.weight"]),
        (["module."], [""]),
        (["module", "module.a"], ["module", "module.a"]),
        (["\ud800.conv_first.weight", "\x1b[2J"], ["conv_first.weight"]),
        (["module." * 200_000 + "a"], ["a"]),
        (["conv_first.weight" * 2], ["conv_first.weight" * 2]),
    ],
)
def test_names_that_nobody_gives(caplog: pytest.LogCaptureFixture, names: list[str], kept: list[str]) -> None:
    state = dict.fromkeys(names, torch.zeros(1))
    assert sorted(without_prefix(state, "key: x")) == kept
    assert all(message.isprintable() and len(message) < 500 for message in caplog.messages)


def test_prefixes_common_to_all() -> None:
    assert common_prefixes(["a.b.c", "a.b.d.e"]) == ["a.", "a.b."]
    assert common_prefixes(["a.bc", "a.bd"]) == ["a."]
    assert common_prefixes(["a.b", "c.b"]) == common_prefixes(["", "a."]) == []
    assert len(common_prefixes(["a." * 10_000])) == 4
