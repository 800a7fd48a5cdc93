"""PSNR by hand, and the known score of bicubic interpolation on Set5."""

import math
from pathlib import Path

import numpy as np
import pytest

from swinlet.metrics import luma, psnr, psnr_y
from swinlet.utils.image_io import read_image
from swinlet.utils.resize import bicubic_upscale


def flat(value: int, size: int = 8, channels: int = 3) -> np.ndarray:
    return np.full((size, size, channels), value, dtype=np.uint8)


def test_psnr_by_hand() -> None:
    # An error of 5 everywhere: 20 log10(255 / 5)
    assert psnr(flat(100), flat(105), 0) == pytest.approx(20 * math.log10(51))


def test_luma_of_white_black_and_primaries() -> None:
    assert luma(flat(255))[0, 0] == pytest.approx(16 + 65.481 + 128.553 + 24.966)
    assert luma(flat(0))[0, 0] == 16
    red = np.array([[[255, 0, 0]]], dtype=np.uint8)
    assert luma(red)[0, 0] == pytest.approx(16 + 65.481)


def test_luma_of_gray_is_the_image() -> None:
    assert luma(flat(7, channels=1))[0, 0] == 7


def test_psnr_y_weighs_channels() -> None:
    estimate = flat(100)
    estimate[..., 1] += 10  # green alone: an error of 128.553 / 255 * 10 in Y
    assert psnr_y(estimate, flat(100), 0) == pytest.approx(20 * math.log10(255 / (1285.53 / 255)))


def test_shaving_leaves_the_border_out() -> None:
    estimate = flat(100)
    estimate[0] = estimate[:, -1] = 0
    assert psnr(estimate, flat(100), 0) < 30
    assert psnr(estimate, flat(100), 1) == math.inf


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="different size"):
        psnr(flat(0), flat(0, size=9), 0)
    with pytest.raises(ValueError, match="nothing left of a 8x8 image after shaving 4"):
        psnr(flat(0), flat(0), 4)


def test_bicubic_on_set5(shared: Path) -> None:
    """The literature's 28.42 dB enlarges Y alone; RGB enlarged by the same rule, then Y, gives 28.429."""
    folder = shared / "data" / "testsets" / "Set5"
    scores = []
    for path in sorted((folder / "HR").iterdir()):
        low = read_image(folder / "LR_bicubic" / "X4" / f"{path.stem}x4.png", 3)
        estimate = bicubic_upscale(low, 4)
        truth = read_image(path, 3)[: estimate.shape[0], : estimate.shape[1]]
        scores.append(psnr_y(estimate, truth, 4))
    assert len(scores) == 5
    assert np.mean(scores) == pytest.approx(28.429, abs=5e-4)
