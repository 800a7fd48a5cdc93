"""The teacher: its architecture read off its file, compared with the options, and frozen."""

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import swinlet
from swinlet.errors import CheckpointError, OptionError
from swinlet.models.architecture import disagreements, read_architecture
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_swinir_student_v2 import SwinIRStudentV2
from swinlet.models.select_teacher import define_teacher
from swinlet.options import parse_options
from swinlet.weights import Recorded, recorded_network
from tests.golden import NETWORKS, read_golden

SMALL: dict[str, Any] = {"embed_dim": 12, "depths": (1, 2), "num_heads": (2, 3), "window_size": 4, "img_size": 16}
NET: dict[str, Any] = {**SMALL, "upscale": 2}
BUFFERS = ("attn_mask", "relative_position_index")


def teacher(tmp_path: Path, state: dict[str, Tensor] | SwinIR, scale: int = 2, **section: Any) -> SwinIR:
    """Write the weights, and let the options ask for them."""
    if isinstance(state, SwinIR):
        state = dict(state.state_dict())
    torch.save({"params": state}, tmp_path / "teacher.pth")
    opt = parse_options(
        {
            "scale": scale,
            "path": {"pretrained_netTeacher": tmp_path / "teacher.pth"},
            "netG": SMALL,
            "netTeacher": section or None,
            "train": {"distillation_type": "response"},
        }
    )
    return define_teacher(opt, swinlet.define_G(opt))


def assert_same_picture(a: torch.nn.Module, b: torch.nn.Module, x: torch.Tensor) -> None:
    """Without gradients, whether the weights are frozen or not: they may be computed in another way."""
    with torch.no_grad():
        assert torch.equal(a(x), b(x))


# Reading the architecture


@pytest.mark.parametrize("with_buffers", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_golden_architectures(shared: Path, name: str, with_buffers: bool) -> None:
    golden = read_golden(shared / "golden/networks" / f"{name}.safetensors")
    state, config = golden.below("state_dict/"), golden.json("config")
    if with_buffers:
        state = SwinIR(**config).official_state_dict()
        assert any(key.endswith(BUFFERS) for key in state)
    found = read_architecture(state, name)
    told = {"embed_dim", "depths", "num_heads", "window_size", "mlp_ratio", "upsampler", "upscale", "resi_connection"}
    told |= {"in_chans", "img_size"} if with_buffers else {"in_chans"}
    for key in told:
        expected = tuple(config[key]) if isinstance(config[key], list) else config[key]
        assert found[key] == expected, key
    assert (found["qkv_bias"], found["patch_norm"], found["ape"]) == (True, True, False)
    assert not disagreements(state, found, {**config, "depths": found["depths"], "num_heads": found["num_heads"]})


VARIANTS: list[dict[str, Any]] = [
    {},
    {"qkv_bias": False},
    {"patch_norm": False},
    {"ape": True, "img_size": 12},
    {"resi_connection": "3conv"},
    {"mlp_ratio": 2.7},
    {"in_chans": 1},
    {"depths": (1,), "num_heads": (1,)},
    {"img_size": 4},  # one window: no shift
    {"depths": (3,), "num_heads": (2,), "img_size": 4},
    {"window_size": 7, "img_size": 28},
    {"upscale": 1, "upsampler": ""},
    *({"upscale": scale, "upsampler": "pixelshuffle"} for scale in (1, 2, 3, 4, 8)),
    *({"upscale": scale, "upsampler": "pixelshuffledirect"} for scale in (1, 2, 3, 4, 8)),
    *({"upscale": scale, "upsampler": "nearest+conv"} for scale in (1, 2, 4, 8)),
]


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_every_variant_is_read_off_its_file(change: dict[str, Any]) -> None:
    network = SwinIR(**(NET | change))
    found = read_architecture(network.official_state_dict(), "x")
    rebuilt = SwinIR(**found)
    rebuilt.load_state_dict(network.state_dict())
    shift_matters = max(network.config["depths"]) > 1
    untold = {"img_range", "drop_path_rate", "mlp_ratio"} | (set() if shift_matters else {"img_size"})
    assert {k: v for k, v in found.items() if k not in untold} == {
        k: v for k, v in network.config.items() if k not in untold
    }
    x = torch.rand(1, network.config["in_chans"], 9, 8)
    assert_same_picture(rebuilt.eval(), network.eval(), x)


def test_an_official_mask_tells_the_image_size() -> None:
    state = SwinIR(**(NET | {"img_size": 32})).official_state_dict()
    assert read_architecture(state, "x")["img_size"] == 32


def without(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda s: {"weight": torch.zeros(1)}, "there is no conv_first.weight"),
        (lambda s: without(s, "conv_first.weight"), "there is no conv_first.weight"),
        (lambda s: without(s, "layers."), "there is no layers.0.residual_group.blocks.0"),
        (lambda s: without(s, "layers.0."), "there is no layers.0.residual_group.blocks.0"),
        (lambda s: without(s, "layers.1.residual_group.blocks.0."), "there is no layers.1.residual_group.blocks.0"),
        (lambda s: without(s, "mlp.fc1.weight"), "there is no layers.0.residual_group.blocks.0.mlp.fc1.weight"),
        (
            lambda s: without(s, "bias_table"),
            "there is no layers.0.residual_group.blocks.0.attn.relative_position_bias",
        ),
        (lambda s: s | {"layers.0.residual_group.blocks.999999999.x": s["conv_first.bias"]}, "there is no layers.0."),
        (lambda s: s | {"layers.999999999.residual_group.blocks.0.x": s["conv_first.bias"]}, "there is no layers.2."),
        (lambda s: s | {"conv_first.weight": torch.zeros(3)}, "the shapes do not fit"),
        (lambda s: s | {"conv_first.weight": torch.zeros(0, 0, 3, 3)}, "conv_first.weight is empty: (0, 0, 3, 3)"),
        (lambda s: s | {"conv_first.weight": torch.zeros(12, 4, 3, 3)}, "in_chans: 4 is neither 1"),
        (lambda s: s | {"conv_first.weight": torch.zeros(13, 3, 3, 3)}, "embed_dim: 13 is not a multiple"),
        (lambda s: s | {"norm.weight": torch.zeros(13)}, "norm.weight is (13,), not (12,)"),
        (lambda s: s | {"more": torch.zeros(13)}, "more unknown"),
        (lambda s: without(s, "norm.weight"), "missing"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, change: Any, missing: str) -> None:
    state = change(dict(SwinIR(**NET).state_dict()))
    with pytest.raises(CheckpointError, match=re.escape(missing)) as caught:
        teacher(tmp_path, state)
    assert str(caught.value).startswith(f"path.pretrained_netTeacher: {tmp_path / 'teacher.pth'}")


# Building the teacher


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("official", [False, True])
def test_the_teacher_is_the_network_of_its_file_frozen(tmp_path: Path, suffix: str, official: bool) -> None:
    network = SwinIR(**NET).eval()
    state = network.official_state_dict() if official else dict(network.state_dict())
    path = tmp_path / f"t{suffix}"
    save_file({k: v.clone() for k, v in state.items()}, path) if suffix == ".safetensors" else torch.save(state, path)
    opt = parse_options(
        {
            "gpu_ids": None,
            "scale": 2,
            "path": {"pretrained_netTeacher": path},
            "netG": SMALL,
            "train": {"distillation_type": "response"},
        }
    )
    built = swinlet.define_Model(opt).netTeacher
    assert built is not None
    assert not built.training
    assert not any(module.training for module in built.modules())
    assert not any(parameter.requires_grad for parameter in built.parameters())
    x = torch.rand(1, 3, 9, 7)
    assert_same_picture(built, network, x)


def test_half_precision_files_become_float32(tmp_path: Path) -> None:
    built = teacher(tmp_path, {name: tensor.half() for name, tensor in SwinIR(**NET).state_dict().items()})
    assert {parameter.dtype for parameter in built.parameters()} == {torch.float32}


def test_a_section_that_agrees_adds_what_weights_do_not_tell(tmp_path: Path) -> None:
    network = SwinIR(**NET, img_range=255.0).eval()
    x = torch.rand(1, 3, 8, 8)
    built = teacher(tmp_path, network, net_type="swinir", img_range=255.0, upscale=2, in_chans=3, **SMALL)
    assert built.config["img_range"] == 255.0
    assert_same_picture(built, network, x)
    assert not torch.allclose(teacher(tmp_path, network)(x), network(x))  # 1.0 is assumed without a section


def test_a_section_may_say_less_than_the_preset(tmp_path: Path) -> None:
    """net_type alone does not bring the preset's width and depths into the comparison."""
    assert teacher(tmp_path, SwinIR(**NET), net_type="swinir").config["embed_dim"] == 12


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"depths": [2, 2]}, "netTeacher.depths: (2, 2), but {source} has (1, 2)"),
        ({"embed_dim": 60}, "netTeacher.embed_dim: 60, but {source} has 12"),
        ({"num_heads": [2, 2]}, "netTeacher.num_heads: (2, 2), but {source} has (2, 3)"),
        ({"window_size": 8}, "netTeacher.window_size: 8, but {source} has 4"),
        (
            {"upsampler": "pixelshuffledirect"},
            "netTeacher.upsampler: pixelshuffledirect, but {source} has pixelshuffle",
        ),
        ({"resi_connection": "3conv"}, "netTeacher.resi_connection: 3conv, but {source} has 1conv"),
        ({"qkv_bias": False}, "netTeacher.qkv_bias: False, but {source} has True"),
        ({"mlp_ratio": 4}, "netTeacher.mlp_ratio: 4.0, but {source} has 2.0"),
        ({"ape": True}, "netTeacher.ape: True, but {source} has False"),
    ],
)
def test_a_section_that_disagrees(tmp_path: Path, section: dict[str, Any], message: str) -> None:
    source = f"path.pretrained_netTeacher: {tmp_path / 'teacher.pth'}"
    with pytest.raises(OptionError) as caught:
        teacher(tmp_path, SwinIR(**NET), **section)
    assert str(caught.value) == message.format(source=source)


def test_all_disagreements_at_once(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        teacher(tmp_path, SwinIR(**NET), embed_dim=60, depths=[3])
    assert len(str(caught.value).splitlines()) == 2


def test_a_ratio_that_rounds_to_the_same_width_agrees(tmp_path: Path) -> None:
    """12 * 2.7 = 32.4 and 12 * 2.75 = 33: the file shows 32."""
    network = SwinIR(**NET, mlp_ratio=2.7)
    teacher(tmp_path, network, mlp_ratio=2.7)
    teacher(tmp_path, network, mlp_ratio=2.67)
    with pytest.raises(OptionError, match=r"netTeacher\.mlp_ratio: 2\.75"):
        teacher(tmp_path, network, mlp_ratio=2.75)


@pytest.mark.parametrize(
    ("trained", "official", "given", "agrees"),
    [
        (16, True, 16, True),
        (16, True, 32, True),  # another mask size changes nothing
        (16, True, 4, False),  # but its masks show that it shifts
        (4, True, 4, True),
        (4, True, 16, False),  # and their absence that it does not
        (16, False, 4, True),  # without buffers only the section can tell
        (4, False, 4, True),
        (4, False, 16, True),
    ],
)
def test_image_size_decides_shifting_only(
    tmp_path: Path, trained: int, official: bool, given: int, agrees: bool
) -> None:
    network = SwinIR(**(NET | {"img_size": trained})).eval()
    state = network.official_state_dict() if official else dict(network.state_dict())
    if not agrees:
        with pytest.raises(OptionError, match=rf"netTeacher\.img_size: {given}, but .* has {trained}"):
            teacher(tmp_path, state, img_size=given)
        return
    built = teacher(tmp_path, state, img_size=given)
    assert bool(built.shift_size) == (given > 4)
    x = torch.rand(1, 3, 8, 8)
    if (given > 4) == (trained > 4):
        assert_same_picture(built, network, x)


def test_a_position_table_decides_its_size(tmp_path: Path) -> None:
    network = SwinIR(**(NET | {"ape": True, "img_size": 8}))
    assert teacher(tmp_path, network).config["img_size"] == 8
    with pytest.raises(OptionError, match=r"netTeacher\.img_size: 16, but .* has 8"):
        teacher(tmp_path, network, img_size=16)


def test_x3_by_nearest_neighbours_looks_like_x2(tmp_path: Path) -> None:
    network = SwinIR(**(SMALL | {"upscale": 3, "upsampler": "nearest+conv"})).eval()
    built = teacher(tmp_path, network, scale=3, upscale=3)
    x = torch.rand(1, 3, 5, 5)
    assert built(x).shape == (1, 3, 15, 15)
    assert_same_picture(built, network, x)
    with pytest.raises(OptionError, match=r"its weights serve x2 and x3: if it is x3, say so in netTeacher\.upscale"):
        teacher(tmp_path, network, scale=3)
    with pytest.raises(OptionError, match=r"netTeacher\.upscale: 4, but .* has 2"):
        teacher(tmp_path, network, scale=4, upscale=4)


def test_a_v2_student_as_teacher(tmp_path: Path) -> None:
    network = SwinIRStudentV2(**NET).eval()
    x = torch.rand(1, 3, 8, 8)
    built = teacher(tmp_path, network, net_type="swinir_student_v2")
    assert isinstance(built, SwinIRStudentV2)
    assert_same_picture(built, network, x)


def test_scale_and_channels_must_be_the_students(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"teacher\.pth: the teacher's upscale is 2, the student's 4: choose another"):
        teacher(tmp_path, SwinIR(**NET), scale=4)
    gray = SwinIR(**NET, in_chans=1)
    with pytest.raises(OptionError, match=r"the teacher's in_chans is 1, the student's 3: .*n_channels"):
        teacher(tmp_path, gray)


def test_without_a_file_the_section_is_built() -> None:
    opt = parse_options(
        {
            "scale": 2,
            "netG": SMALL,
            "netTeacher": {**SMALL, "embed_dim": 24},
            "train": {"distillation_type": "response"},
        }
    )
    built = define_teacher(opt, swinlet.define_G(opt))
    assert (built.config["embed_dim"], built.config["upscale"]) == (24, 2)
    assert not any(parameter.requires_grad for parameter in built.parameters())


class TestRecorded:
    """What tensors do not tell is taken from the metadata or the manifest beside them."""

    NET: ClassVar[dict[str, Any]] = {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4}

    def file(self, tmp_path: Path, **record: Any) -> Path:
        path = tmp_path / "2_G.pth"
        net = swinlet.define_G(self.NET | record)
        torch.save(net.state_dict(), path)
        record = {"net_type": "swinir"} | record
        (tmp_path / "2.json").write_text(json.dumps({"network": record}))
        return path

    def options(self, path: Path, **section: Any) -> Any:
        tree: dict[str, Any] = {"path": {"pretrained_netTeacher": str(path)}, "netG": self.NET}
        return parse_options(tree | ({"netTeacher": section} if section else {}))

    def test_a_v2_teacher_is_built_as_v2(self, tmp_path: Path) -> None:
        opt = self.options(self.file(tmp_path, net_type="swinir_student_v2"))
        assert isinstance(define_teacher(opt, swinlet.define_G(opt)), SwinIRStudentV2)

    def test_a_section_that_says_v1_of_a_v2_is_refused(self, tmp_path: Path) -> None:
        opt = self.options(self.file(tmp_path, net_type="swinir_student_v2"), net_type="swinir_student")
        with pytest.raises(CheckpointError, match="was saved by a swinir_student_v2"):
            define_teacher(opt, swinlet.define_G(opt))

    def test_img_range(self, tmp_path: Path) -> None:
        path = self.file(tmp_path, img_range=255.0)
        opt = self.options(path)
        assert define_teacher(opt, swinlet.define_G(opt)).img_range == 255.0
        with pytest.raises(CheckpointError, match=r"img_range 255\.0, not 1\.0"):
            define_teacher(self.options(path, img_range=1.0), swinlet.define_G(opt))

    def test_metadata_of_safetensors(self, tmp_path: Path) -> None:
        path = tmp_path / "t.safetensors"
        save_file({"a": torch.zeros(1)}, path, metadata={"net_type": "swinir", "config": '{"img_range": 255}'})
        assert recorded_network(path) == Recorded("swinir", 255.0)

    @pytest.mark.parametrize(
        "manifest", ["", "[]", '{"network": 3}', '{"network": {"net_type": [1], "img_range": "x"}}']
    )
    def test_odd_records_say_nothing(self, tmp_path: Path, manifest: str) -> None:
        path = self.file(tmp_path)
        (tmp_path / "2.json").write_text(manifest)
        assert recorded_network(path) == Recorded()

    def test_v2_weights_are_refused_by_a_v1_student(self, tmp_path: Path) -> None:
        path = self.file(tmp_path, net_type="swinir_student_v2")
        model = swinlet.define_Model({"gpu_ids": None, "netG": self.NET, "path": {"pretrained_netG": str(path)}})
        with pytest.raises(CheckpointError, match=r"path\.pretrained_netG: .* was saved by a swinir_student_v2"):
            model.init_train()


class TestSeveral:
    """The mean of several teachers' images."""

    def options(self, tmp_path: Path, count: int = 2, **changes: Any) -> Any:
        paths: list[str] = []
        for seed in range(count):
            torch.manual_seed(seed)
            paths.append(str(tmp_path / f"{seed}.pth"))
            torch.save(SwinIR(**NET).state_dict(), paths[-1])
        train = {"distillation_type": "response", **changes.pop("train", {})}
        tree = {"gpu_ids": None, "scale": 2, "netG": SMALL, "path": {"pretrained_netTeacher": paths}, "train": train}
        return parse_options(tree | changes)

    @pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ([3, 1], (0.75, 0.25))])
    def test_the_weighted_mean(self, tmp_path: Path, weights: Any, shares: tuple[float, float]) -> None:
        opt = self.options(tmp_path, train={"teacher_weights": weights})
        model = swinlet.define_Model(opt)
        x = torch.rand(2, 3, 8, 8)
        single = [
            swinlet.define_G(opt.model_copy(update={"netG": opt.netG.model_copy(update={"net_type": "swinir"})}))
            for _ in range(2)
        ]
        with torch.no_grad():
            images = []
            for seed, network in enumerate(single):
                network.load_state_dict(torch.load(tmp_path / f"{seed}.pth"))
                images.append(network.eval()(x))
            torch.testing.assert_close(model.netTeacher(x), shares[0] * images[0] + shares[1] * images[1])
        model.init_train()
        model.feed_data({"L": x, "H": torch.rand(2, 3, 16, 16)})
        model.optimize_parameters(1)
        assert model.current_log()["l_g_distill"] > 0
        assert model.netTeacher.kind == "mean of SwinIR, SwinIR"

    def test_one_in_a_list_is_one(self, tmp_path: Path) -> None:
        opt = self.options(tmp_path, count=1)
        assert isinstance(define_teacher(opt, swinlet.define_G(opt)), SwinIR)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"train": {"distillation_type": "feature"}},
                "path.pretrained_netTeacher: 2 teachers, but",
            ),
            ({"train": {"teacher_weights": [1, 1, 1]}}, "train.teacher_weights: 3 weights, but 2 teachers"),
            ({"train": {"teacher_weights": [1, 0]}}, "train.teacher_weights.1: input should be greater than 0 (got 0)"),
            ({"netTeacher": {}}, "netTeacher: describes one teacher, but there are 2"),
        ],
    )
    def test_what_does_not_fit(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=re.escape(message)):
            self.options(tmp_path, **changes)

    def test_paths_that_are_none(self, tmp_path: Path) -> None:
        for nothing in (None, ""):
            assert parse_options({"path": {"pretrained_netTeacher": nothing}}).path.teachers == ()
        with pytest.raises(OptionError, match=r"path\.pretrained_netTeacher"):
            parse_options({"path": {"pretrained_netTeacher": ["a.pth", ""]}})
        with pytest.raises(OptionError, match=r"path\.pretrained_netTeacher: must have at least 1"):
            parse_options({"path": {"pretrained_netTeacher": []}})
