"""PSNR by hand, SSIM against scikit-image, and the known scores of bicubic interpolation."""

import math
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from swinlet.metrics import METRICS, GroundTruth, luma
from swinlet.utils.image_io import is_gray, read_image
from swinlet.utils.resize import bicubic_round_trip, bicubic_upscale, round_to_uint8


def flat(value: int, size: int = 8, channels: int = 3) -> np.ndarray:
    return np.full((size, size, channels), value, dtype=np.uint8)


def psnr(estimate: np.ndarray, truth: np.ndarray, shave: int) -> float:
    return GroundTruth(truth, shave).score(estimate)["psnr_rgb"]


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
    truth = GroundTruth(flat(100), 0)
    assert truth.score(estimate)["psnr_y"] == truth.psnr_y(estimate)
    assert truth.psnr_y(estimate) == pytest.approx(20 * math.log10(255 / (1285.53 / 255)))
    assert truth.score(estimate)["psnr_rgb"] == pytest.approx(20 * math.log10(255 / math.sqrt(100 / 3)))


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


def test_ssim_of_flat_images_by_hand() -> None:
    # No variance: (2 * 100 * 110 + C1) / (100^2 + 110^2 + C1)
    c1 = 2.55**2
    expected = (22000 + c1) / (22100 + c1)
    assert GroundTruth(flat(100, 11), 0).score(flat(110, 11))["ssim_rgb"] == pytest.approx(expected, abs=1e-12)


def test_ssim_needs_room_for_its_window() -> None:
    assert math.isnan(GroundTruth(flat(100, 12), 1).score(flat(100, 12))["ssim_rgb"])
    assert GroundTruth(flat(100, 13), 1).score(flat(100, 13))["ssim_rgb"] == 1


def independent(estimate: np.ndarray, truth: np.ndarray, shave: int) -> dict[str, float]:
    """The same scores by other means: matrix product, numpy's mean, scikit-image."""
    e, t = (image[shave:-shave, shave:-shave].astype(np.float64) for image in (estimate, truth))
    weights = np.array([65.481, 128.553, 24.966]) / 255
    pairs = {"rgb": (e, t), "y": (e @ weights + 16, t @ weights + 16)}
    scores = {}
    for name, (one, other) in pairs.items():
        scores[f"psnr_{name}"] = 20 * math.log10(255) - 10 * math.log10(((one - other) ** 2).mean())
        planes = [(one, other)] if one.ndim == 2 else [(one[..., c], other[..., c]) for c in range(3)]
        maps = [
            structural_similarity(
                a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
            )[1]
            for a, b in planes
        ]
        scores[f"ssim_{name}"] = np.mean([m[5:-5, 5:-5].mean() for m in maps])
    return scores


# Set5: SRCNN, VDSR and later papers. Set14: SRCNN (arXiv:1501.00092), quoted from memory;
# others print slightly more (26.00 / 0.7027).
PUBLISHED = {
    ("Set5", 2): ("33.66", "0.9299"),
    ("Set5", 3): ("30.39", "0.8682"),
    ("Set5", 4): ("28.42", "0.8104"),
    ("Set14", 2): ("30.23", "0.8687"),
    ("Set14", 3): ("27.54", "0.7736"),
    ("Set14", 4): ("26.00", "0.7019"),
}
# Of the enlarged LR files, 8 bits, scored as every network: computed by ``independent``, pinned.
BICUBIC_OF_LR = {("Set5", 4): (28.4290, 0.8111), ("Set14", 4): (26.0884, 0.7048)}


@pytest.mark.parametrize("testset", ["Set5", "Set14"])
def test_scores_of_every_test_image_agree_with_an_independent_implementation(shared: Path, testset: str) -> None:
    folder = shared / "data" / "testsets" / testset
    table = []
    for path in sorted((folder / "HR").iterdir()):
        low = read_image(folder / "LR_bicubic" / "X4" / f"{path.stem}x4.png", 3)
        estimate = bicubic_upscale(low, 4)
        truth = read_image(path, 3)[: estimate.shape[0], : estimate.shape[1]]
        scores = GroundTruth(truth, 4).score(estimate)
        assert scores == pytest.approx(independent(estimate, truth, 4), abs=1e-9), path.name
        table.append([scores[metric] for metric in METRICS])
    mean = np.mean(table, axis=0)
    assert mean[:2] == pytest.approx(BICUBIC_OF_LR[testset, 4], abs=5e-5)


@pytest.mark.parametrize(("testset", "scale"), PUBLISHED)
def test_bicubic_of_the_literature(shared: Path, testset: str, scale: int) -> None:
    table = []
    for path in sorted((shared / "data" / "testsets" / testset / "HR").iterdir()):
        truth = read_image(path, 3)
        truth = truth[: truth.shape[0] // scale * scale, : truth.shape[1] // scale * scale]
        plane = truth[..., 0] if is_gray(path) else round_to_uint8(luma(truth))
        scores = GroundTruth(plane[..., None], scale).score(bicubic_round_trip(plane, scale)[..., None])
        table.append((scores["psnr_y"], scores["ssim_y"]))
    psnr_y, ssim_y = np.mean(table, axis=0)
    assert (f"{psnr_y:.2f}", f"{ssim_y:.4f}") == PUBLISHED[testset, scale]


def test_a_round_trip_needs_whole_pixels() -> None:
    with pytest.raises(ValueError, match="not multiples of 4"):
        bicubic_round_trip(np.zeros((8, 9), dtype=np.uint8), 4)
