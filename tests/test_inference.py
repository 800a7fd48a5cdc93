"""Views and costs by hand."""

import statistics
from pathlib import Path

import pytest
import torch

from swinlet import kernels
from swinlet.inference import RestoreOptions, Restorer
from swinlet.kernels import block
from swinlet.metrics import GroundTruth
from swinlet.models.cost import multiply_adds, parameter_count
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_swinir_student import SwinIRStudent
from swinlet.models.open_network import open_network
from swinlet.options import Precision
from swinlet.utils.dihedral import VIEWS, turned, turned_back
from swinlet.utils.image_io import read_image
from swinlet.weights import read_weight_file
from tests.native import needs_native

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


def test_eight_views_and_back() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    views = [turned(image, view) for view in range(VIEWS)]
    assert len({(tuple(view.shape), tuple(view.flatten().tolist())) for view in views}) == 8
    assert all(torch.equal(turned_back(view, i), image) for i, view in enumerate(views))


def test_a_restorer_keeps_sizes_and_makes_8_bits() -> None:
    net = SwinIR(embed_dim=8, depths=(1,), num_heads=(2,), window_size=4, upscale=2)
    for options in (RestoreOptions(CPU), RestoreOptions(CPU, self_ensemble=True, tile=8, tile_overlap=2)):
        picture = Restorer(net, options)(torch.randint(0, 256, (13, 21, 3), dtype=torch.uint8).numpy())
        assert picture.shape == (26, 42, 3)
        assert picture.dtype == "uint8"
    assert not net.training


def test_multiply_adds_by_hand() -> None:
    """One block, width 8, window 4, x4: an LR image of 320x180 pixels, which are whole windows."""
    net = SwinIR(embed_dim=8, depths=(1,), num_heads=(2,), window_size=4, upsampler="pixelshuffledirect")
    tokens = 320 * 180
    block = 8 * 24 + 8 * 8 + 2 * 8 * 16 + 2 * (16 * 8)  # qkv, proj, the two layers of the MLP; scores and their use
    convolutions = 9 * (3 * 8 + 8 * 8 + 8 * 8 + 8 * 48)  # first, end of the RSTB, after the body, upsampling
    assert multiply_adds(net) == tokens * (block + convolutions)


def test_costs_of_the_two_sizes() -> None:
    assert parameter_count(SwinIRStudent()) == 988_959
    assert parameter_count(SwinIR()) == 11_900_199
    assert multiply_adds(SwinIRStudent()) == pytest.approx(91.075e9, rel=1e-4)


def test_bf16_costs_less_than_a_hundredth_of_a_decibel(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With trained weights, on three photographs of Set5; the kernels imitate bf16 where the processor has none."""
    needs_native()
    monkeypatch.setattr(block, "_has_bf16", lambda: True)
    file = read_weight_file(ROOT / "demo" / "teacher_x4.safetensors", "the demo's teacher")
    network = open_network(file, default_type="swinir")
    folder = shared / "data" / "testsets" / "Set5"
    scores: dict[Precision, list[float]] = {"fp32": [], "bf16": []}
    for name in ("bird", "butterfly", "woman"):
        truth = GroundTruth(read_image(folder / "HR" / f"{name}.png", 3), 4)
        image = read_image(folder / "LR_bicubic" / "X4" / f"{name}x4.png", 3)
        for precision, found in scores.items():
            with kernels.using("native"):
                found.append(truth.psnr_y(Restorer(network, RestoreOptions(CPU, precision=precision))(image)))
    assert scores["bf16"] != scores["fp32"]
    assert statistics.mean(scores["bf16"]) == pytest.approx(statistics.mean(scores["fp32"]), abs=0.01)
    assert statistics.mean(scores["fp32"]) > 28
