"""Tiles give what the whole image gives."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import swinlet
from swinlet.errors import MachineError
from swinlet.inference import RestoreOptions, Restorer
from swinlet.tiles import fade, overlap_for, spans, tile_fault, tile_for, tiled_maps
from swinlet.utils import device
from swinlet.utils.image_io import read_image
from tests.native import needs_native

CPU = torch.device("cpu")


def nearest(image: Tensor) -> Tensor:
    return F.interpolate(image, scale_factor=3, mode="nearest")


@pytest.mark.parametrize(("tile", "overlap"), [(8, 3), (8, 0), (16, 7), (5, 2), (64, 16)])
@pytest.mark.parametrize("align", [1, 4])
@pytest.mark.parametrize("size", [(40, 23), (8, 8), (3, 50), (17, 16)])
def test_what_looks_at_single_pixels_is_the_same_in_tiles(
    size: tuple[int, int], align: int, tile: int, overlap: int
) -> None:
    image = torch.rand(2, 3, *size)

    def compute(part: Tensor) -> list[Tensor]:
        return [nearest(part), part[:, :1].half()]

    large, small = tiled_maps(compute, image, [3, 1], tile, overlap, align)
    assert torch.allclose(large, nearest(image), atol=1e-6)
    assert torch.allclose(small, image[:, :1].half().float(), atol=1e-6)


def test_tiles_cover_all_and_overlap() -> None:
    found = list(spans(50, 16, 4))
    assert found == [(0, 16), (12, 28), (24, 40), (34, 50)]
    assert all(one[1] - other[0] >= 4 for one, other in pairwise(found))
    assert list(spans(10, 16, 4)) == [(0, 10)]


@pytest.mark.parametrize("length", range(1, 70))
def test_aligned_tiles_begin_at_windows(length: int) -> None:
    found = list(spans(length, 20, 6, 8))
    assert all(start % 8 == 0 for start, _ in found)
    assert (found[0][0], found[-1][1]) == (0, length)
    assert all(one[1] - other[0] >= 6 for one, other in pairwise(found))
    assert all(stop - start <= 20 + 7 for start, stop in found)


def test_a_tile_fades_towards_neighbours_only() -> None:
    inner = fade(12, 28, 50, 6, 2, CPU)
    assert inner.tolist()[:9] == pytest.approx([0, 0, 0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1])
    assert torch.equal(inner, inner.flip(0))
    assert fade(0, 16, 50, 6, 2, CPU)[:20].unique().tolist() == [1]
    assert fade(0, 16, 16, 6, 2, CPU).unique().tolist() == [1]


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_overlaps_that_do_not_suit(overlap: int) -> None:
    with pytest.raises(ValueError, match="does not suit tiles of 16"):
        tiled_maps(lambda part: [nearest(part)], torch.rand(1, 3, 32, 32), [3], 16, overlap)


def test_overlaps_and_faults_of_what_is_given() -> None:
    assert [overlap_for(tile, None) for tile in (None, 16, 144, 500)] == [48, 5, 48, 48]
    assert overlap_for(16, 7) == 7
    assert tile_fault(16, 7) is None
    assert tile_fault(7, 0) == "--tile 7: must be at least 8"
    assert tile_fault(16, 8, "") == "tile_overlap 8: must be at least 0 and less than half of tile 16"


def test_the_tile_that_a_memory_allows() -> None:
    assert tile_for((100, 200), 10, 200_000, 8) is None
    assert tile_for((1000, 2000), 10, 1_000_000, 8) == 312  # 316 squared is just below 100,000
    assert tile_for((1000, 2000), 10, 10, 8) == 128
    assert tile_for((10_000, 20_000), 10, 10**9 - 1, 8) == 1024


def test_the_student_in_tiles_differs_by_less_than_a_level(shared: Path) -> None:
    """The seams would lie in the middle of these details; whole images: docs/upscale.md."""
    needs_native()
    whole, tiled = (swinlet.load(tile=tile) for tile in (None, 104))
    for path, box in (("Set5/HR/butterfly.png", (0, 0)), ("Set14/HR/comic.png", (40, 90))):
        image = read_image(shared / "data" / "testsets" / path, 3)[box[0] :, box[1] :][:124, :150]
        difference = np.abs(whole.upscale(image / np.float32(255)) - tiled.upscale(image / np.float32(255)))
        assert 0 < 255 * difference.max() < 0.2


def test_auto_takes_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    net = swinlet.define_G({"net_type": "swinir_student", "embed_dim": 12, "depths": [1], "num_heads": [1]})
    restorer = Restorer(net, RestoreOptions(CPU, tile="auto"))
    assert restorer.tile_of((1, 3, 64, 64)) is None
    result = 2000 * 3000 * 3 * 16 * 4 * 2
    monkeypatch.setattr("swinlet.inference.available_memory", lambda _: result + 400**2 * net.bytes_per_pixel)
    assert restorer.tile_of((1, 3, 2000, 3000)) == 400
    monkeypatch.setattr("swinlet.inference.available_memory", lambda _: result - 1)
    with pytest.raises(MachineError, match=r"12000x8000 pixels needs about 2\.3 GB"):
        restorer.tile_of((1, 3, 2000, 3000))


def test_a_container_limits_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "limit", tmp_path / "used"
    monkeypatch.setattr(device, "_CGROUP", [(limit, used)])
    free = device.available_memory(CPU)
    assert free > 2**20
    limit.write_text("max\n")
    used.write_text("1\n")
    assert device.available_memory(CPU) > 2**20
    limit.write_text("5000\n")
    used.write_text("3000\n")
    assert device.available_memory(CPU) == 2000
