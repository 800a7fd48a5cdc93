"""Engines: files they take, files they refuse, several threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from swinlet.engines import Backend, open_engine, openvino_cpu
from swinlet.engines import engine as engine_module
from swinlet.errors import CheckpointError, OptionError, SwinletError
from swinlet.inference import Network, RestoreOptions, Restorer
from swinlet.models.network_swinir import SwinIR
from tests.test_export import network, saved, swinlet_export

onnx: Any = pytest.importorskip("onnx")
for name in ("onnxruntime", "openvino"):
    pytest.importorskip(name)

BACKENDS: list[Backend] = ["onnx", "openvino"]


@pytest.fixture(scope="module")
def net() -> SwinIR:
    return network()


@pytest.fixture(scope="module")
def folder(net: SwinIR, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1_E.pth, and its exports w.onnx, w.xml, w.bin."""
    folder = tmp_path_factory.mktemp("exported")
    saved(folder, net)
    words = ["--format", "onnx", "--format", "openvino", "--out", folder]
    assert swinlet_export(folder / "1_E.pth", *words).exit_code == 0
    return folder


@pytest.mark.parametrize(
    ("backend", "file"), [("onnx", "1_E.pth"), ("openvino", "1_E.pth"), ("openvino", "1_E.onnx")], ids=str
)
def test_engines_are_networks(backend: Backend, file: str, folder: Path, net: SwinIR) -> None:
    before = sorted(folder.iterdir())
    engine: Network = open_engine(backend, folder / file)
    assert sorted(folder.iterdir()) == before
    for own in ("upscale", "in_chans", "window_size", "bytes_per_pixel"):
        assert getattr(engine, own) == getattr(net, own)
    image = torch.rand(1, 3, 30, 21)
    options = RestoreOptions(torch.device("cpu"), tile=16, tile_overlap=5, self_ensemble=True)
    torch.testing.assert_close(
        Restorer(engine, options).restore(image), Restorer(net, options).restore(image), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_threads(backend: Backend, folder: Path, net: SwinIR) -> None:
    engine = open_engine(backend, folder / "1_E.onnx", threads=1)
    images = [torch.rand(1, 3, 8 + i, 30 - i) for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for image, restored in zip(images, pool.map(engine, images), strict=True):
            torch.testing.assert_close(restored, net(image), atol=1e-4, rtol=1e-4)


def test_results_stay(folder: Path) -> None:
    engine = open_engine("openvino", folder / "1_E.xml")
    first = engine(torch.rand(1, 3, 8, 8))
    copy = first.clone()
    engine(torch.rand(1, 3, 8, 8))
    assert torch.equal(first, copy)


def test_precision(folder: Path) -> None:
    with pytest.raises(OptionError, match="--precision bf16: onnxruntime computes in fp32"):
        open_engine("onnx", folder / "1_E.onnx", precision="bf16")
    image = torch.rand(1, 3, 16, 16)
    restored = open_engine("openvino", folder / "1_E.xml")(image)
    capabilities = openvino_cpu.package("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in capabilities:
        half = open_engine("openvino", folder / "1_E.xml", precision="bf16")(image)
        assert 0 < (half - restored).abs().max() < 0.05 * restored.abs().max()
    else:
        with pytest.raises(OptionError, match="no such precision on this processor"):
            open_engine("openvino", folder / "1_E.xml", precision="bf16")


def changed(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        model = onnx.load_model_from_string(content)
        change(model)
        return model.SerializeToString()

    return apply


def elsewhere(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def nested(model: Any) -> None:
    model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.name = "inner"


def says(key: str, value: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        next(entry for entry in model.metadata_props if entry.key == key).value = value

    return change


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "does not tell its scale"),
        (lambda content: b"no model at all", "no readable ONNX file"),
        (lambda content: content[: len(content) // 2], "no readable ONNX file"),
        (changed(lambda model: model.ClearField("metadata_props")), "not written by swinlet export"),
        (changed(says("scale", "5")), "scale '5' is none of a SwinIR"),
        (changed(says("in_chans", "9" * 5000)), "in_chans '9999"),
        (changed(elsewhere), "values in other files"),
        (changed(nested), "graphs inside its graph"),
        (changed(lambda model: model.graph.node.pop()), "does not take it"),
        (changed(lambda model: model.graph.node[5].input.append("nowhere")), "does not take it"),
    ],
    ids=range(10),
)
def test_wrong_onnx(
    backend: Backend, damage: Callable[[bytes], bytes], message: str, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(damage((folder / "1_E.onnx").read_bytes()))
    with pytest.raises(CheckpointError, match=message) as caught:
        open_engine(backend, file)
    assert str(caught.value).startswith(f"--weights: {file}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_is_not_what_it_says(backend: Backend, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(changed(says("scale", "4"))((folder / "1_E.onnx").read_bytes()))
    with pytest.raises(CheckpointError, match=r"makes float32 \(1, 3, 16, 16\) of an image"):
        open_engine(backend, file)(torch.rand(1, 3, 8, 8))
    with pytest.raises(CheckpointError, match=r"cannot compute it|makes float32 \(0"):
        open_engine(backend, folder / "1_E.onnx")(torch.rand(1, 1, 8, 8))


def test_wrong_openvino(folder: Path, tmp_path: Path) -> None:
    xml, weights = (folder / "1_E.xml").read_bytes(), (folder / "1_E.bin").read_bytes()
    file = tmp_path / "x.xml"
    file.write_bytes(xml)
    with pytest.raises(OptionError, match="use --backend openvino"):
        open_engine("onnx", file)
    with pytest.raises(CheckpointError, match=r"needs x\.bin beside it, which does not exist"):
        open_engine("openvino", file)
    for content, values, message in (
        (xml, weights[:100], "does not take it"),
        (xml, weights[:-4] + b"none", r"x\.bin is damaged, or of another export"),
        (xml[:1000], weights, "does not take it"),
        (xml.replace(b"<swinlet>", b"<others>").replace(b"</swinlet>", b"</others>"), weights, "does not tell"),
    ):
        file.write_bytes(content)
        file.with_suffix(".bin").write_bytes(values)
        with pytest.raises(CheckpointError, match=message):
            open_engine("openvino", file)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_the_package(backend: Backend, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(engine_module, "import_module", missing)
    with pytest.raises(SwinletError, match=r"pip install 'swinlet\[engines\]'"):
        open_engine(backend, folder / "1_E.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        open_engine(backend, folder / "absent.onnx")
