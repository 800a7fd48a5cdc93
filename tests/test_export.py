"""swinlet export: ONNX graphs equal the network at any size, weight files open elsewhere, nothing is written over."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors import safe_open
from typer.testing import CliRunner

import swinlet
from swinlet.cli import app
from swinlet.engines import engine as engine_module
from swinlet.engines import open_engine
from swinlet.engines.engine import Backend
from swinlet.export import verification
from swinlet.export.sanity import untrained
from swinlet.export.verification import sizes
from swinlet.models.network_swinir import SwinIR
from swinlet.models.open_network import open_weights
from swinlet.models.select_network import net_type_of
from swinlet.upscale.upscaler import SHIPPED
from swinlet.utils.files import sha256_of
from swinlet.weights import read_weight_file
from tests.small_run import NET

V2 = {"net_type": "swinir_student_v2"}
UNTOLD: list[dict[str, Any]] = [
    {"img_size": 4},  # no shift
    {"img_size": 3, "window_size": 8},  # windows of 3, images padded for 8
    {"upsampler": "nearest+conv", "upscale": 3},  # has the tensors of x2
]
"""Networks that tensors alone do not tell."""


def network(**change: Any) -> SwinIR:
    """Small, with weights that make everything count: masks, biases, position tables."""
    torch.manual_seed(0)
    net = swinlet.define_G({"net_type": "swinir_student", "upscale": 2} | NET | change).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        wide = 1.0 if "table" in name or "pos_embed" in name else 0.1
        parameter += wide * torch.randn(parameter.shape)
    return net


def saved(folder: Path, net: SwinIR) -> Path:
    """As a run saves it: 1_E.pth, and what the tensors do not tell beside it."""
    path = folder / "1_E.pth"
    torch.save(net.official_state_dict(), path)
    record = {"net_type": net_type_of(net), **net.config}
    (folder / "1.json").write_text(json.dumps({"network": record}))
    return path


def swinlet_export(*words: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, words)])


def check(file: Path, net: SwinIR, backend: Backend, tolerance: float = 1e-4) -> None:
    """The file at all five sizes, one engine for all."""
    run = open_engine(backend, file)
    for n, h, w in sizes(net.window_size):
        image = torch.rand(n, net.in_chans, h, w, generator=torch.Generator().manual_seed(h))
        torch.testing.assert_close(run(image), net(image), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "change",
    [
        {"upscale": 4},
        {"upscale": 3, "depths": [1, 3]},
        {"upscale": 1},
        {"window_size": 2},  # smaller than the folded upsampler needs
        {"window_size": 7, "img_range": 255.0, "in_chans": 1, "upscale": 1, "upsampler": ""},
        {"upsampler": "pixelshuffledirect", "upscale": 3, "resi_connection": "3conv"},
        {"upsampler": "nearest+conv", "upscale": 4, "qkv_bias": False, "patch_norm": False},
        {"ape": True, "img_size": 12},
        *UNTOLD,
        V2,
    ],
    ids=str,
)
def test_onnx_equals_the_network(change: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    net = network(**change)
    weights = saved(tmp_path, net)
    result = swinlet_export(weights, "--out", tmp_path / "x.onnx")
    assert result.exit_code == 0, result.output
    onnx.checker.check_model(str(tmp_path / "x.onnx"), full_check=True)
    check(tmp_path / "x.onnx", net, "onnx")


@pytest.mark.parametrize("change", [{}, {"upsampler": "", "upscale": 1}, {"ape": True, "img_size": 12} | V2], ids=str)
def test_openvino_equals_the_network(change: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    net = network(**change)
    weights = saved(tmp_path, net)
    result = swinlet_export(weights, "--out", tmp_path, "--format", "openvino")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"1.json", "1_E.pth", "1_E.xml", "1_E.bin"}
    check(tmp_path / "1_E.xml", net, "openvino")


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.02), ("int8", 0.2)])
def test_smaller_onnx(precision: str, tolerance: float, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    net = network(embed_dim=24)
    weights = saved(tmp_path, net)
    for word in ("fp32", precision):
        assert swinlet_export(weights, "--format", "onnx", "--out", tmp_path, "--precision", word).exit_code == 0
    whole, small = tmp_path / "1_E.onnx", tmp_path / f"1_E_{precision}.onnx"
    assert small.stat().st_size < 0.7 * whole.stat().st_size
    check(small, net, "onnx", tolerance)
    with pytest.raises(AssertionError):
        check(small, net, "onnx", 1e-5)  # or it were not what it says


class TestWeightFiles:
    @pytest.mark.parametrize("change", [{"ape": True, "img_size": 12}, *UNTOLD], ids=str)
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_what_tensors_do_not_tell_stands_beside_them(
        self, change: dict[str, Any], suffix: str, tmp_path: Path
    ) -> None:
        net, file = network(**change), tmp_path / f"x{suffix}"
        weights = saved(tmp_path, net)
        torch.save(net.state_dict(), weights)  # without masks, which tell whether windows are shifted
        assert swinlet_export(weights, "--out", file).exit_code == 0
        ours, image = open_weights(file, "x")[0], torch.rand(1, 3, 13, 9)
        assert torch.equal(ours(image), net(image))

    @pytest.mark.parametrize(
        "change",
        [
            {"upscale": 4, "window_size": 8},
            {"depths": [1, 2], "num_heads": [2, 2]},  # no mask to tell the image size where spandrel looks for it
            {"upsampler": "nearest+conv", "upscale": 4, "resi_connection": "3conv"},
            {"upsampler": "pixelshuffledirect", "img_range": 255.0},  # which spandrel takes for 1
            {"window_size": 7, "upscale": 1, "upsampler": "", "in_chans": 1},  # and here 1 for 255
        ],
        ids=str,
    )
    @pytest.mark.filterwarnings("ignore:torch.meshgrid")  # spandrel's
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_spandrel_makes_the_same_picture(self, change: dict[str, Any], suffix: str, tmp_path: Path) -> None:
        spandrel = pytest.importorskip("spandrel", reason="needs spandrel (extra teachers)")
        net = network(**change)
        weights, file = saved(tmp_path, net), tmp_path / f"x{suffix}"
        result = swinlet_export(weights, "--out", file)
        assert result.exit_code == 0, result.output
        theirs = spandrel.ModelLoader(device="cpu").load_from_file(file)
        assert (theirs.scale, theirs.input_channels) == (net.upscale, net.in_chans)
        ours = open_weights(file, "x")[0]
        for size in ((16, 24), (19, 30)):
            image = torch.rand(1, net.in_chans, *size)
            torch.testing.assert_close(theirs.model.eval()(image), net(image), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(ours(image), net(image), atol=1e-4, rtol=1e-4)
        again = tmp_path / f"again{suffix}"
        assert swinlet_export(file, "--out", again).exit_code == 0
        assert sha256_of(again) == sha256_of(file)

    def test_a_recorded_window_asks_for_no_memory(self, tmp_path: Path) -> None:
        net = network(img_size=4)
        weights = saved(tmp_path, net)
        record = {"net_type": net_type_of(net), **net.config}
        for window, found in ((6, 6), (10**5, 4), (True, 4), (-8, 4)):
            (tmp_path / "1.json").write_text(json.dumps({"network": record | {"window_size": window}}))
            assert open_weights(weights, "x")[0].window_size == found

    def test_masks_are_small(self, tmp_path: Path) -> None:
        weights = saved(tmp_path, network(window_size=8, img_size=128))
        assert swinlet_export(weights, "--out", tmp_path / "x.safetensors").exit_code == 0
        state = read_weight_file(tmp_path / "x.safetensors", "x").state
        assert state["layers.0.residual_group.blocks.1.attn_mask"].shape == (4, 64, 64)

    @pytest.mark.filterwarnings("ignore:torch.meshgrid")  # spandrel's
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_v2_is_known_here_and_refused_elsewhere(self, suffix: str, tmp_path: Path) -> None:
        net, file = network(**V2), tmp_path / f"x{suffix}"
        weights = saved(tmp_path, net)
        assert swinlet_export(weights, "--out", file).exit_code == 0
        copied = tmp_path / "models" / f"copied{suffix}"  # whatever lies beside it
        copied.parent.mkdir()
        copied.write_bytes(file.read_bytes())
        ours, image = open_weights(copied, "x")[0], torch.rand(1, 3, 9, 9)
        assert torch.equal(ours(image), net(image))
        with pytest.raises(RuntimeError, match=r"Unexpected key.*swinir_student_v2"):
            SwinIR(**net.config).load_state_dict(_raw(file))
        spandrel = pytest.importorskip("spandrel", reason="needs spandrel (extra teachers)")
        with pytest.raises(RuntimeError, match=r"Unexpected key.*swinir_student_v2"):
            spandrel.ModelLoader(device="cpu").load_from_file(file)

    def test_metadata(self, tmp_path: Path) -> None:
        """Of a run's folder, with the newest of its option files."""
        run = tmp_path / "run"
        for folder in ("models", "options"):
            (run / folder).mkdir(parents=True)
        saved(run / "models", network()).rename(run / "models" / "20_G.pth")
        for time in ("260101_000000", "260102_000000"):
            (run / "options" / f"train_{time}.json").write_text(json.dumps({"netG": {"net_type": "swinir_student"}}))
        assert swinlet_export(f"{run}/models/..", "--out", tmp_path).exit_code == 0
        with safe_open(tmp_path / "run.safetensors", "pt") as file:
            metadata = file.metadata()
        assert (metadata["format_version"], metadata["net_type"], metadata["scale"]) == ("1", "swinir_student", "2")
        assert json.loads(metadata["config"])["img_range"] == 1.0
        newest = (run / "options" / "train_260102_000000.json").read_bytes()
        assert metadata["options_sha256"] == hashlib.sha256(newest).hexdigest()
        for suffix in ("pth", "safetensors"):
            again = tmp_path / "again" / f"run.{suffix}"
            assert swinlet_export(tmp_path / "run.safetensors", "--out", again).exit_code == 0
        assert sha256_of(again) == sha256_of(tmp_path / "run.safetensors")
        other = tmp_path / "other.json"
        other.write_text("{}")
        assert swinlet_export(run, "--out", tmp_path / "o.safetensors", "--options", other).exit_code == 0
        with safe_open(tmp_path / "o.safetensors", "pt") as file:
            assert file.metadata()["options_sha256"] == hashlib.sha256(b"{}").hexdigest()

    def test_half(self, tmp_path: Path) -> None:
        weights = saved(tmp_path, network())
        assert swinlet_export(weights, "--out", tmp_path, "--precision", "fp16").exit_code == 0
        state = read_weight_file(tmp_path / "1_E_fp16.safetensors", "x").state
        assert state["conv_first.weight"].dtype == torch.float16
        assert state["layers.0.residual_group.blocks.0.attn.relative_position_index"].dtype == torch.int64


def _raw(file: Path) -> dict[str, torch.Tensor]:
    """As programs read it that know nothing of markers."""
    if file.suffix == ".pth":
        return torch.load(file, weights_only=True)["params_ema"]
    with safe_open(file, "pt") as content:
        return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  (it is no dict)


class TestCommand:
    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        return saved(tmp_path, network())

    def test_verify(self, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("onnxruntime", "openvino"):
            pytest.importorskip(name)
        formats = [word for name in ("safetensors", "pth", "onnx", "openvino") for word in ("--format", name)]
        words = [weights, *formats, "--out", tmp_path / "out", "--verify", "--latency-size", 8]
        result = swinlet_export(*words)
        assert result.exit_code == 0, result.output
        lines = {line.split()[0].rpartition("/")[2]: line for line in result.output.splitlines() if " MB  " in line}
        assert set(lines) == {"1_E.safetensors", "1_E.pth", "1_E.onnx", "1_E.xml"}
        assert lines["1_E.onnx"].endswith(" ms")
        assert lines["1_E.pth"].endswith("0.0000  as torch")
        assert "8x8 LR pixels" in result.output
        monkeypatch.setattr(verification, "TOLERANCE", {"fp32": 0.0})
        result = swinlet_export(*words, "--overwrite")
        assert result.exit_code == 2
        assert "1_E.onnx: differs from the network by 0.00" in result.output

    def test_nothing_is_written_over(self, weights: Path, tmp_path: Path) -> None:
        before = weights.read_bytes()
        for words in (["--out", weights, "--overwrite"], ["--out", tmp_path, "--format", "pth", "--overwrite"]):
            result = swinlet_export(weights, *words)
            assert result.exit_code == 2
            assert "is the file to be exported" in result.output
        taken = tmp_path / "1_E.safetensors"
        taken.write_text("precious")
        result = swinlet_export(weights, "--out", tmp_path, "--format", "onnx", "--format", "safetensors")
        assert (result.exit_code, "pass --overwrite" in result.output) == (2, True)
        assert (weights.read_bytes(), taken.read_text()) == (before, "precious")
        assert {path.name for path in tmp_path.iterdir()} == {"1.json", "1_E.pth", "1_E.safetensors"}
        assert swinlet_export(weights, "--out", tmp_path, "--overwrite").exit_code == 0
        assert taken.stat().st_size > 1000

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--format", "coreml", "--precision", "int4"], "--format coreml: must be one of safetensors, pth, onnx"),
            (["--precision", "int8"], "--precision int8 is for --format onnx alone, not safetensors"),
            (["--precision", "int8", "--format", "openvino"], "takes longer"),
            (["--out", "x.onnx", "--format", "pth"], "files of format pth end with .pth"),
            (["--out", "x.onnx", "--format", "pth", "--format", "onnx"], "one file for 2 formats"),
            (["--out", "x.pt"], "--out x.pt: ends with none of .safetensors, .pth, .onnx, .xml"),
            (["--net-type", "swin"], "--net-type swin: must be one of"),
            (["--options", "nowhere.json"], "--options nowhere.json: there is no such file"),
        ],
    )
    def test_wrong_words(self, words: list[str], message: str, weights: Path, tmp_path: Path) -> None:
        result = swinlet_export(weights, *words)
        assert (result.exit_code, message in result.output) == (2, True), result.output
        assert {path.name for path in tmp_path.iterdir()} == {"1.json", "1_E.pth"}

    def test_wrong_weights(self, tmp_path: Path) -> None:
        bare = tmp_path / "bare.pth"
        torch.save(network().state_dict(), bare)
        (tmp_path / "text.pth").write_text("no")
        for words, message in (
            ([bare], "pass --net-type swinir_student or --net-type swinir_student_v2"),
            ([tmp_path / "text.pth"], "not a readable weight file"),
            ([tmp_path / "absent.pth"], "does not exist"),
            ([tmp_path / "absent.onnx"], "is an exported network: name the weights"),
            (["HF://u/m"], "HF://u/m does not exist; models of the hub are written hf://user/model"),
            ([tmp_path], "is a folder without weights"),
        ):
            result = swinlet_export(*words, "--out", tmp_path / "x.safetensors")
            assert (result.exit_code, message in result.output) == (2, True), result.output
        assert not (tmp_path / "x.safetensors").exists()

    def test_values_beyond_half_precision(self, tmp_path: Path) -> None:
        net = network()
        net.conv_last.weight *= 1e7
        weights = saved(tmp_path, net)
        for name in ("safetensors", "pth", "onnx"):
            words = ["--format", name, "--precision", "fp16", "--out", tmp_path / "out"]
            result = swinlet_export(weights, *words)
            assert (result.exit_code, "do not fit, 65504 is the largest" in result.output) == (2, True), result.output
        assert not (tmp_path / "out").exists()

    def test_a_file_where_a_folder_should_be(self, weights: Path) -> None:
        result = swinlet_export(weights, "--out", weights / "x.safetensors")
        assert result.exit_code == 1
        assert "a file stands where a folder is needed" in result.output

    def test_engines_that_verify_are_asked_for_first(
        self, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("onnx")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        result = swinlet_export(weights, "--format", "onnx", "--out", tmp_path / "out", "--verify")
        assert (result.exit_code, "the package onnxruntime is missing" in result.output) == (2, True)
        assert not (tmp_path / "out").exists()
        assert swinlet_export(weights, "--format", "onnx", "--out", tmp_path / "out").exit_code == 0

    def test_without_the_packages(self, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> Any:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        monkeypatch.setattr(engine_module, "import_module", missing)
        result = swinlet_export(weights, "--format", "openvino", "--format", "safetensors", "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert "pip install 'swinlet[engines]'" in result.output
        assert not (tmp_path / "out").exists()


class TestUntrainedNetworks:
    @pytest.mark.parametrize("scale", [2, 4])
    def test_the_students_that_ship_are_trained(self, scale: int) -> None:
        assert untrained(open_weights(SHIPPED[scale], "key")[0]) is None

    @pytest.mark.parametrize("change", [{}, {"upscale": 3}, {"in_chans": 1}])
    def test_a_network_that_knows_nothing(self, change: dict[str, Any]) -> None:
        remark = untrained(network(**change))
        assert remark is not None
        assert re.fullmatch(r"the weights look untrained: on a .* has [\d.]+ dB .PSNR-Y., bicubic .* [\d.]+ dB", remark)
        start = swinlet.define_G({"net_type": "swinir_student", "init_type": "interpolation", **NET} | change).eval()
        assert untrained(start) is None

    def test_weights_that_are_not_finite(self) -> None:
        net = network()
        net.conv_first.weight.fill_(torch.nan)
        assert untrained(net) is not None

    def test_scale_1_is_not_looked_at(self) -> None:
        assert untrained(network(upscale=1, upsampler="")) is None

    def test_the_command_says_so(self, tmp_path: Path) -> None:
        weights = saved(tmp_path, network())
        result = swinlet_export(weights, "--out", tmp_path / "out", "--verify", "--latency-size", 0)
        assert result.exit_code == 0, result.output
        assert "warning: the weights look untrained" in result.stderr
        result = swinlet_export(SHIPPED[2], "--out", tmp_path / "out", "--verify", "--latency-size", 0)
        assert result.exit_code == 0, result.output
        assert "untrained" not in result.stderr
