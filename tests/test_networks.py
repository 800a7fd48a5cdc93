"""The networks: golden values, any size of input, every upsampler, first weights."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import swinlet
from swinlet.errors import OptionError
from swinlet.models.network_swinir import SwinIR, reflect_to_multiple
from swinlet.models.select_network import define_G
from swinlet.options.names import PRESETS
from tests.golden import NETWORKS as GOLDEN_NETWORKS
from tests.golden import read_golden

pytestmark = pytest.mark.usefixtures("path")

SMALL: dict[str, Any] = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 4, "img_size": 16}


@pytest.mark.parametrize("name", GOLDEN_NETWORKS)
def test_golden(shared: Path, name: str) -> None:
    golden = read_golden(shared / "golden" / "networks" / f"{name}.safetensors")
    net = swinlet.define_G(golden.network_options).eval()
    net.load_state_dict(golden.below("state_dict/"), strict=True)
    assert sum(p.numel() for p in net.parameters()) == int(golden.metadata["params"])
    for i in range(int(golden.metadata["cases"])):
        with torch.no_grad():
            image, features = net(golden.tensors[f"case{i}/input"], return_features=True)
            alone = net(golden.tensors[f"case{i}/input"])
        torch.testing.assert_close(image, golden.tensors[f"case{i}/output"], atol=1e-4, rtol=0)
        assert torch.equal(alone, image)
        expected = golden.below(f"case{i}/feature")
        assert len(features) == len(expected)
        for j, feature in enumerate(features):
            torch.testing.assert_close(feature, expected[str(j)], atol=1e-4, rtol=0)


def test_presets() -> None:
    def size(net_type: str) -> int:
        return sum(p.numel() for p in swinlet.define_G({"net_type": net_type, "upscale": 4}).parameters())

    assert size("swinir_student") == size("swinir_student_v2") == 988_959
    assert size("swinir") == 11_900_199


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect", "nearest+conv"])
@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_every_upsampler_reaches_every_scale(upsampler: str, upscale: int, in_chans: int) -> None:
    net = swinlet.define_G(SMALL | {"upsampler": upsampler, "upscale": upscale, "in_chans": in_chans}).eval()
    with torch.no_grad():
        assert net(torch.rand(1, in_chans, 6, 9)).shape == (1, in_chans, 6 * upscale, 9 * upscale)


@pytest.mark.parametrize(
    "change",
    [
        {"window_size": 7},
        {"window_size": 3, "resi_connection": "3conv"},
        {"qkv_bias": False},
        {"patch_norm": False},
        {"ape": True},
        {"img_range": 255.0},
        {"img_size": 4},  # one window: no shift, as in the official network
        {"img_size": 2},  # smaller than the window
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (13, 5)])
def test_inputs_of_any_size(change: dict[str, Any], size: tuple[int, int]) -> None:
    net = swinlet.define_G(SMALL | change).eval()
    with torch.no_grad():
        image = net(torch.rand(2, 3, *size))
    assert image.shape == (2, 3, 4 * size[0], 4 * size[1])
    assert torch.isfinite(image).all()


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_reflection_equals_torch_where_torch_can(h: int, w: int, multiple: int) -> None:
    x = torch.arange(h * w, dtype=torch.float32).view(1, 1, h, w)
    ours = reflect_to_multiple(x, multiple)
    assert ours.shape[2] % multiple == ours.shape[3] % multiple == 0
    assert torch.equal(ours[..., :h, :w], x)
    pad = (-w % multiple, -h % multiple)
    if pad[0] < w and pad[1] < h:
        assert torch.equal(ours, F.pad(x, (0, pad[0], 0, pad[1]), mode="reflect"))


def test_reflection_of_three_pixels_to_eight_bounces_back_and_forth() -> None:
    row = reflect_to_multiple(torch.tensor([[[[0.0, 1.0, 2.0]]]]), 8)[0, 0, 0]
    assert row.tolist() == [0, 1, 2, 1, 0, 1, 2, 1]


def test_a_window_does_not_look_across_the_border_of_the_cyclic_shift() -> None:
    net = swinlet.define_G(SMALL | {"upscale": 1, "upsampler": ""}).eval()
    with torch.no_grad():
        x = torch.rand(1, 3, 16, 16)
        changed = x.clone()
        changed[..., :1, :] = 0.0  # the top row is rolled next to the bottom rows
        assert torch.equal(net(x)[..., -4:, :], net(changed)[..., -4:, :])


def test_official_files_load_strictly_whatever_their_mask_size() -> None:
    net = swinlet.define_G(SMALL)
    official = swinlet.define_G(SMALL | {"img_size": 24}).official_state_dict()
    assert official["layers.0.residual_group.blocks.1.attn_mask"].shape == (36, 16, 16)
    assert official["layers.0.residual_group.blocks.0.attn.relative_position_index"].shape == (16, 16)
    assert "layers.0.residual_group.blocks.0.attn_mask" not in official
    net.load_state_dict(official, strict=True)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, official[name])
    with pytest.raises(RuntimeError, match="Unexpected key"):
        net.load_state_dict(official | {"stranger": torch.zeros(1)}, strict=True)


def test_v2_adds_the_blocks_input_once_more() -> None:
    v1 = swinlet.define_G(SMALL | {"net_type": "swinir_student"}).eval()
    v2 = swinlet.define_G(SMALL | {"net_type": "swinir_student_v2"}).eval()
    v2.load_state_dict(v1.state_dict())
    x = torch.rand(1, 16, 12)
    blocks = [net.get_submodule("layers.0.residual_group.blocks.0") for net in (v1, v2)]
    torch.testing.assert_close(blocks[1](x, (4, 4), None), blocks[0](x, (4, 4), None) + x)


def test_drop_path_rises_linearly_and_rests_in_eval_mode() -> None:
    net = swinlet.define_G(SMALL | {"depths": [2, 3], "num_heads": [2, 2]})
    rates = [module.drop_prob for module in net.modules() if type(module).__name__ == "DropPath"]
    assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])  # reference default 0.1
    x = torch.rand(8, 3, 8, 8)
    torch.manual_seed(0)
    with torch.no_grad():
        net.train()
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))


def test_drop_path_keeps_the_expectation() -> None:
    from swinlet.models.transformer import DropPath

    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(20000, 1, 1))
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": 13}, "embed_dim"),
        ({"depths": [2, 2]}, "num_heads: 1 entries for 2"),
        ({"upsampler": "", "upscale": 4}, "does not enlarge"),
    ],
)
def test_contradictory_options_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as error:
        swinlet.define_G(SMALL | change)
    assert str(error.value).startswith("netG.")


def test_unknown_key_of_a_network_section() -> None:
    with pytest.raises(OptionError, match="embed_dims: unknown key, did you mean embed_dim"):
        swinlet.define_G({"embed_dims": 60})


def test_networks_take_a_copy_and_a_pickle() -> None:
    net = swinlet.define_G(SMALL)
    twin = copy.deepcopy(net)
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net.eval()(x), twin.eval()(x))


class TestInitialisation:
    @pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect", "nearest+conv"])
    @pytest.mark.parametrize("upscale", [2, 3, 4, 8])
    @pytest.mark.parametrize("in_chans", [1, 3])
    @pytest.mark.parametrize("resi_connection", ["1conv", "3conv"])
    def test_interpolation_is_bilinear(self, upsampler: str, upscale: int, in_chans: int, resi_connection: str) -> None:
        options = {"upsampler": upsampler, "upscale": upscale, "in_chans": in_chans}
        net = swinlet.define_G(
            SMALL | options | {"resi_connection": resi_connection, "init_type": "interpolation"}
        ).eval()
        x = torch.rand(1, in_chans, 12, 16)
        with torch.no_grad():
            image = net(x)
        expected = F.interpolate(x, scale_factor=upscale, mode="bilinear", align_corners=False)
        inside = (..., slice(2 * upscale, -2 * upscale), slice(2 * upscale, -2 * upscale))
        torch.testing.assert_close(image[inside], expected[inside], atol=1e-5, rtol=0)

    def test_interpolation_without_upsampler_is_the_identity(self) -> None:
        net = swinlet.define_G(SMALL | {"upscale": 1, "upsampler": "", "init_type": "interpolation"}).eval()
        x = torch.rand(1, 3, 9, 8)
        with torch.no_grad():
            torch.testing.assert_close(net(x), x)

    def test_interpolation_lets_every_weight_learn(self) -> None:
        net = swinlet.define_G(SMALL | {"init_type": "interpolation", "drop_path_rate": 0.0})
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        x, target = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
        for _ in range(4):  # zero weights open one layer after the other
            optimizer.zero_grad()
            F.l1_loss(net(x), target).backward()
            optimizer.step()
        still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not still

    @pytest.mark.parametrize(
        ("init_type", "gain", "scale"),
        [("normal", None, 0.02), ("uniform", 1.0, 0.1155), ("xavier_normal", 0.5, None), ("orthogonal", None, None)],
    )
    def test_classic_types_fill_weights_and_clear_biases(
        self, init_type: str, gain: float | None, scale: float | None
    ) -> None:
        net = swinlet.define_G(SMALL | {"init_type": init_type, "init_gain": gain})
        weights = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert all(m.bias is None or not m.bias.any() for m in weights)
        if scale is not None:
            # 0.2 * normal(0, 0.1), and 1.0 * uniform(-0.2, 0.2) with deviation 0.2 / sqrt(3)
            assert net.get_submodule("upsample.0").weight.std().item() == pytest.approx(scale, rel=0.02)

    def test_default_is_the_official_one(self) -> None:
        torch.manual_seed(0)
        ours = swinlet.define_G(SMALL)
        torch.manual_seed(0)
        plain = SwinIR(**(SMALL | {"depths": (2,), "num_heads": (2,)}))
        for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
            assert torch.equal(a, b)
        assert ours.get_submodule("layers.0.residual_group.blocks.0.attn.qkv").weight.std().item() == pytest.approx(
            0.02, rel=0.15
        )


@pytest.mark.parametrize("net_type", ["swinir", "swinir_student", "swinir_student_v2"])
def test_the_table_of_presets_is_what_networks_have(net_type: str) -> None:
    preset = dict(PRESETS[net_type])
    preset["num_heads"] = (preset["num_heads"],) * len(preset["depths"])
    assert define_G({"net_type": net_type}).config == preset


@pytest.mark.parametrize(
    ("given", "heads"),
    [
        ({"depths": [2, 2]}, (6, 6)),
        ({"depths": [2, 2, 1], "num_heads": 4}, (4, 4, 4)),
        ({"num_heads": 3}, (3, 3, 3, 3)),
        ({"depths": [1, 1], "num_heads": [2, 3]}, (2, 3)),
    ],
)
def test_one_number_of_heads_serves_for_all(given: dict[str, Any], heads: tuple[int, ...]) -> None:
    assert define_G({"net_type": "swinir_student", **given}).config["num_heads"] == heads


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"embed_dim": 50},
            "netG.embed_dim: 50 is not a multiple of every entry of num_heads [6, 6, 6, 6] (num_heads: the default)",
        ),
        ({"num_heads": [6, 6]}, "netG.num_heads: 2 entries for 4 entries of depths (depths: the default)"),
        ({"num_heads": 7}, "num_heads [7, 7, 7, 7] (embed_dim: the default)"),
        ({"depths": [2, 2], "num_heads": [6]}, "netG.num_heads: 1 entries for 2 entries of depths"),
        ({"upsampler": ""}, "netG.upsampler: '' does not enlarge, but upscale is 4 (upscale: the default)"),
    ],
)
def test_messages_tell_which_values_are_defaults(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        define_G({"net_type": "swinir_student", **given})
    assert message in str(caught.value)
    assert ("default" in message) == ("default" in str(caught.value))
