"""The native kernels: the numbers of the torch path, from every build, and the torch path where they cannot serve."""

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import swinlet
from benchmarks import engines
from swinlet import kernels
from swinlet.errors import OptionError
from swinlet.kernels import block as block_module
from swinlet.kernels import library as library_module
from swinlet.models.network_swinir import SwinIR
from tests.golden import NETWORKS, read_golden
from tests.native import needs_native
from tests.small_run import NET

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def network(net_type: str = "swinir_student", **config: Any) -> SwinIR:
    """A small network whose attention, norms and biases all matter."""
    torch.manual_seed(0)
    net = swinlet.define_G({"net_type": net_type, "upsampler": "pixelshuffledirect", "upscale": 2, **NET, **config})
    for name, parameter in net.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.15)
    return net


def outcome(net: SwinIR, x: torch.Tensor, path: Any) -> dict[str, torch.Tensor]:
    """Image and gradients."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    torch.manual_seed(1)  # of drop-path
    with kernels.using(path):
        image = net(x)
        (image * torch.linspace(-1, 1, image.numel()).view_as(image)).sum().backward()
    gradients = {
        name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None
    }
    return {"image": image.detach(), "x": x.grad, **gradients}


def assert_close(image: torch.Tensor, expected: torch.Tensor) -> None:
    """Every pixel, relative to the brightest: these networks do not keep to [0, 1]."""
    torch.testing.assert_close(image, expected, atol=1e-5 * float(expected.detach().abs().max()), rtol=0)


def assert_same(native: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], bound: float = 1e-5) -> None:
    assert native.keys() == expected.keys()
    for name, value in expected.items():
        if name.endswith("qkv.bias"):  # the keys' part is zero but for rounding
            value, result = (torch.cat([t.chunk(3)[0], t.chunk(3)[2]]) for t in (value, native[name]))
        else:
            result = native[name]
        error = (result - value).norm() / value.norm().clamp(min=1e-12)
        assert error < bound, f"{name}: {error:.1e}"


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_random_shapes_have_the_values_and_gradients_of_the_torch_path(data: st.DataObject) -> None:
    needs_native()
    heads = data.draw(st.integers(1, 4), "heads")
    window = data.draw(st.integers(1, 9) | st.just(16), "window")
    net = network(
        data.draw(st.sampled_from(["swinir_student", "swinir_student_v2"]), "type"),
        embed_dim=heads * data.draw(st.integers(4, 13), "head dimension"),
        num_heads=[heads],
        depths=[2],
        window_size=window,
        img_size=data.draw(st.sampled_from([window, 4 * window]), "img_size"),  # without and with shifted windows
        mlp_ratio=data.draw(st.sampled_from([1.0, 1.5, 2.0]), "mlp_ratio"),
        qkv_bias=data.draw(st.booleans(), "qkv_bias"),
        drop_path_rate=data.draw(st.sampled_from([0.0, 0.5]), "drop_path_rate"),
    )
    size = data.draw(st.tuples(st.integers(1, 3), st.just(3), *[st.integers(3, 2 * window + 3)] * 2), "input")
    x = torch.rand(size, generator=torch.Generator().manual_seed(2))
    # Narrow LayerNorms divide by small deviations and enlarge the rounding of both paths.
    bound = 1e-5 if net.config["embed_dim"] >= 8 else 1e-3
    assert_same(outcome(net, x, "native"), outcome(net, x, "torch"), bound)


def test_every_build_has_the_values_and_gradients_of_the_torch_path(level: str) -> None:
    for net_type in ("swinir_student", "swinir_student_v2"):
        net = network(net_type, embed_dim=36, num_heads=[4, 3], window_size=5, img_size=20, drop_path_rate=0.4)
        x = torch.rand(3, 3, 14, 11)
        assert_same(outcome(net, x, "native"), outcome(net, x, "torch"))
        net.eval()
        with torch.no_grad():
            image = net(x)
            with kernels.using("torch"):
                assert_close(image, net(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_networks_by_both_paths(shared: Path, name: str) -> None:
    needs_native()
    golden = read_golden(shared / "golden" / "networks" / f"{name}.safetensors")
    net = swinlet.define_G(golden.network_options).eval()
    net.load_state_dict(golden.below("state_dict/"), strict=True)
    for i in range(int(golden.metadata["cases"])):
        with torch.no_grad():
            with kernels.using("native"):
                native = net(golden.tensors[f"case{i}/input"])
            with kernels.using("torch"):
                by_torch = net(golden.tensors[f"case{i}/input"])
        torch.testing.assert_close(native, by_torch, atol=1e-5, rtol=0)
        torch.testing.assert_close(by_torch, golden.tensors[f"case{i}/output"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"embed_dim": 18, "window_size": 7, "img_size": 28, "mlp_ratio": 1.5},  # odd: tokens and hidden width
        {"embed_dim": 30, "img_size": 8},  # odd: head dimension, which is served in float32
    ],
)
def test_operands_in_bf16_cost_less_than_60_dB(
    config: dict[str, Any], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for by autocast; on processors without the instructions their rounding is imitated for this test."""
    monkeypatch.setattr(block_module, "_has_bf16", lambda: True)
    torch.manual_seed(0)
    heads = 6 if config.get("embed_dim", 60) != 18 else 3
    net = swinlet.define_G({"net_type": "swinir_student", "depths": [2, 2], "num_heads": [heads] * 2, **config}).eval()
    side = 2 * net.window_size
    with torch.no_grad():
        tokens = torch.rand(1, side**2, net.config["embed_dim"])
        group = net.layers[0].residual_group
        with torch.autocast("cpu", torch.bfloat16):
            rounded = group(tokens, (side, side))
        exact = group(tokens, (side, side))
    error = (rounded - exact).pow(2).mean().sqrt() / exact.abs().max()
    assert error < 1e-3
    assert (error == 0) == (net.config["embed_dim"] == 30)


def test_gradients_with_operands_in_bf16(level: str) -> None:
    net = network(embed_dim=24, num_heads=[3, 3])
    block = net.layers[0].residual_group.blocks[0]
    x = torch.randn(2, 64, 24)
    results = []
    for half in (False, True):
        inputs = x.clone().requires_grad_()
        weights = block_module.fold(block.parameters_for_kernel(), 3)
        block_module._swin_block(inputs, *weights, None, None, 8, 8, *block.spec, half).square().sum().backward()
        gradients = {name: parameter.grad.clone() for name, parameter in block.named_parameters()}
        results.append({"x": inputs.grad, **gradients})
        block.zero_grad()
    assert_same(results[1], results[0], 0.03)
    assert not torch.equal(results[1]["x"], results[0]["x"])


def test_the_same_bits_from_run_to_run_and_in_inference(level: str, two_threads: None) -> None:
    net = network(drop_path_rate=0.0)
    x = torch.rand(2, 3, 19, 22)
    first, second = outcome(net, x, "native"), outcome(net, x, "native")
    assert all(torch.equal(first[name], second[name]) for name in first)
    with torch.inference_mode():
        assert torch.equal(net.eval()(x), first["image"])


def test_changed_weights_are_noticed() -> None:
    needs_native()
    net = network(upsampler="pixelshuffle").eval()
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad(), kernels.using("native"):
        net(x)
        for parameter in net.parameters():
            parameter.data.mul_(1.25)  # leaves no trace in the tensor's version
        changed = net(x)
        assert torch.equal(changed, copy.deepcopy(net)(x))
        assert torch.equal(changed, network(upsampler="pixelshuffle").eval().requires_grad_(False)(x)) is False
        with kernels.using("torch"):
            net.fold_upsampler = False
            assert_close(changed, net(x))


def test_weights_may_lie_in_any_order_and_some_be_frozen() -> None:
    needs_native()
    net = network()
    for module in net.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight = torch.nn.Parameter(module.weight.detach().t().contiguous().t())
    net.layers[0].residual_group.blocks[0].norm1.requires_grad_(False)
    x = torch.rand(1, 3, 8, 12)
    assert_same(outcome(net, x, "native"), outcome(net, x, "torch"))
    net.eval()
    with torch.no_grad():
        with kernels.using("native"):
            image = net(x)
        with kernels.using("torch"):
            assert_close(image, net(x))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's check looks at it
def test_operators_are_well_formed() -> None:
    needs_native()
    net = network(embed_dim=8, num_heads=[2, 2])
    block = net.layers[0].residual_group.blocks[1]
    weights = [weight.detach().requires_grad_() for weight in block_module.fold(block.parameters_for_kernel(), 2)]
    x = torch.randn(2, 64, 8, requires_grad=True)
    keeps = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.5])
    torch.library.opcheck(
        block_module._swin_block, (x, *weights, *keeps, 8, 8, *block.spec, False), atol=1e-5, rtol=1e-4
    )


def test_torch_compile_takes_both_paths() -> None:
    net = network().eval()
    x = torch.rand(1, 3, 8, 12)
    expected = net(x)
    for path in ("torch", "native"):
        if path == "native":
            needs_native()
        torch.compiler.reset()
        with kernels.using(path):
            compiled = torch.compile(net, backend="aot_eager", fullgraph=True)(x)
        assert_close(compiled, expected)


def test_exported_graphs_hold_operators_of_torch_alone() -> None:
    net = network(upsampler="pixelshuffle").eval()
    x = torch.rand(1, 3, 16, 16)
    exported = torch.export.export(net, (x,))
    assert "swinlet" not in str(exported.graph)
    assert_close(exported.module()(x), net(x))


@pytest.mark.filterwarnings("ignore")  # torch calls this exporter outdated, in several ways
@pytest.mark.parametrize("engine", engines._ENGINES, ids=lambda engine: engine.name)
def test_onnx_in_other_engines(engine: engines.Engine, tmp_path: Path) -> None:
    """The masks of shifted windows, and the sums with convolutions."""
    if engine.missing:
        pytest.skip(engine.missing)
    net, x = network(depths=[2], num_heads=[2], upsampler="pixelshuffle").eval(), torch.rand(1, 3, 16, 24)
    file = tmp_path / "net.onnx"
    with torch.no_grad():
        torch.onnx.export(net, (x,), str(file), dynamo=False)
        image = engine.load(file, False, 1)(x.numpy())
        assert_close(torch.from_numpy(image), net(x))


def test_what_the_kernels_cannot_do_is_done_by_torch_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    needs_native()
    block_module._say_once.cache_clear()
    x = torch.rand(1, 3, 17, 17)
    with caplog.at_level(logging.INFO, "swinlet"), torch.no_grad():
        for _ in range(2):
            network(window_size=17, img_size=34).eval()(x)
            network().double().eval()(x.double())
    said = [record.message for record in caplog.records if "computed by torch" in record.message]
    assert len(said) == 2
    assert "windows up to 16" in said[0]
    assert "float64" in said[1]


def test_without_a_build_everything_works_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "_file", lambda level: None)
    library_module._find.cache_clear()
    try:
        with kernels.using("auto"):
            status = kernels.status()
            assert network()(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)
        assert status.path == "torch"
        assert "compiler" in status.reason
        with pytest.raises(OptionError, match="SWINLET_KERNELS=native"), kernels.using("native"):
            pass
    finally:
        library_module._find.cache_clear()


def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="none of torch, native, auto"), kernels.using("fast"):  # type: ignore
        pass
    monkeypatch.setenv("SWINLET_KERNELS", "quick")
    with pytest.raises(OptionError, match="SWINLET_KERNELS: 'quick'"):
        kernels.status()
    monkeypatch.setenv("SWINLET_KERNELS", "auto")
    monkeypatch.setenv("SWINLET_KERNELS_LEVEL", "sse9")
    with pytest.raises(OptionError, match="SWINLET_KERNELS_LEVEL: 'sse9'"):
        kernels.status()


def test_a_machine_without_compiler_installs_the_package_without_kernels(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        str(tmp_path / "lib"),
        "--build-temp",
        str(tmp_path),
    ]
    environment = {**os.environ, "CC": "/no/such/compiler", "CXX": "/no/such/compiler"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "lib").rglob("*.so"))


@pytest.mark.parametrize(("setting", "expected"), [("torch", "kernels:         torch"), ("auto", "kernels:         ")])
def test_info(setting: str, expected: str) -> None:
    environment = {**os.environ, "SWINLET_KERNELS": setting}
    command = [str(Path(sys.executable).with_name("swinlet")), "info"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert expected in done.stdout
    assert torch.__version__ in done.stdout
