"""The bicubic of swinlet.utils.resize against published files, and against itself on crops."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from swinlet.errors import DataError
from swinlet.utils.resize import bicubic_downscale, bicubic_downscale_crop, bicubic_upscale, imresize


def load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize(("testset", "n_images"), [("Set5", 5), ("Set14", 14)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downscale_reproduces_published_files(shared: Path, testset: str, n_images: int, scale: int) -> None:
    folder = shared / "data/testsets" / testset
    paths = sorted((folder / "HR").glob("*.png"))
    assert len(paths) == n_images
    for path in paths:
        expected = load(folder / f"LR_bicubic/X{scale}" / f"{path.stem}x{scale}.png")
        np.testing.assert_array_equal(bicubic_downscale(load(path), scale), expected, err_msg=path.name)


def psnr_y(estimate: np.ndarray, target: np.ndarray, shave: int) -> float:
    weights = np.array([65.481, 128.553, 24.966]) / 255
    error = ((estimate.astype(float) - target.astype(float)) @ weights)[shave:-shave, shave:-shave]
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def test_upscale_gives_the_known_psnr_on_set5(shared: Path) -> None:
    folder = shared / "data/testsets/Set5"
    scores = []
    for path in sorted((folder / "HR").glob("*.png")):
        estimate = bicubic_upscale(load(folder / "LR_bicubic/X4" / f"{path.stem}x4.png"), 4)
        target = load(path)[: estimate.shape[0], : estimate.shape[1]]
        scores.append(psnr_y(estimate, target, shave=4))
    # Papers print 28.42: they round Y to 8 bits (28.416 here), or resize Y alone in floating point (28.421).
    assert np.mean(scores) == pytest.approx(28.4290, abs=1e-4)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), scale=st.sampled_from([1, 2, 3, 4, 8]), channels=st.sampled_from([None, 1, 3]))
def test_crop_equals_the_crop_of_the_whole(data: st.DataObject, scale: int, channels: int | None) -> None:
    height = data.draw(st.integers(scale, 12 * scale), label="height")
    width = data.draw(st.integers(scale, 12 * scale), label="width")
    seed = data.draw(st.integers(0, 2**32), label="seed")
    shape = (height, width) if channels is None else (height, width, channels)
    # Black and white only: overshoot, so that clipping between the passes matters.
    image = np.random.default_rng(seed).choice(np.array([0, 255], np.uint8), shape)
    top = data.draw(st.integers(0, height // scale - 1), label="top")
    left = data.draw(st.integers(0, width // scale - 1), label="left")
    rows = data.draw(st.integers(1, height // scale - top), label="rows")
    columns = data.draw(st.integers(1, width // scale - left), label="columns")
    crop = bicubic_downscale_crop(image, scale, top, left, rows, columns)
    assert crop.flags.c_contiguous
    whole = bicubic_downscale(image, scale)
    np.testing.assert_array_equal(crop, whole[top : top + rows, left : left + columns])


@pytest.mark.parametrize("scale", [Fraction(1, 3), 0.37, 1, 1.5, 4])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (9, 4, 3)])
def test_size_and_constant_images(scale: Fraction | float, shape: tuple[int, ...]) -> None:
    result = imresize(np.full(shape, 201, np.uint8), scale)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert result.shape == (int(np.ceil(shape[0] * scale)), int(np.ceil(shape[1] * scale)), *shape[2:])
    assert (result == 201).all()


def test_scale_one_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    np.testing.assert_array_equal(imresize(image, 1), image)


def test_each_pass_is_rounded() -> None:
    # The kernel at 1/4, 3/4, 5/4, 7/4 gives the weights 111, 29, -9, -3 (over 128). The height pass turns
    # (0, 2) into -0.19, 0.41, 1.59, 2.19: whole numbers again before the width pass sees them.
    image = np.array([[0, 2], [2, 2]], np.uint8)
    tall = imresize(image, size=(4, 2))
    np.testing.assert_array_equal(tall[:, 0], [0, 0, 2, 2])
    np.testing.assert_array_equal(imresize(image, 2), imresize(tall, size=(4, 4)))


def test_explicit_size_starts_with_the_side_that_shrinks_most() -> None:
    image = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (8, 12))
    width_first = imresize(imresize(image, size=(8, 3)), size=(4, 3))
    height_first = imresize(imresize(image, size=(4, 12)), size=(4, 3))
    assert (width_first != height_first).any()
    np.testing.assert_array_equal(imresize(image, size=(4, 3)), width_first)
    np.testing.assert_array_equal(imresize(image.T.copy(), size=(3, 4)), width_first.T)


def test_wrong_arguments_are_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="either a scale or a size"):
        imresize(image)
    with pytest.raises(ValueError, match="either a scale or a size"):
        imresize(image, 2, size=(4, 4))
    with pytest.raises(ValueError, match="positive scale, not 0"):
        imresize(image, 0)
    with pytest.raises(ValueError, match="positive size, not 0x4"):
        imresize(image, size=(0, 4))
    with pytest.raises(TypeError, match="uint8 images, not float64"):
        imresize(image.astype(float), 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"not \(0, 8, 3\)"):
        imresize(image[:0], 2)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        bicubic_downscale(image, 0)
    with pytest.raises(DataError, match="3x8 pixels cannot be shrunk by 4"):
        bicubic_downscale(image[:, :3], 4)
    for window in [(-1, 0, 1, 1), (0, 0, 5, 1), (0, 4, 1, 1), (0, 0, 0, 1)]:
        with pytest.raises(ValueError, match="not inside the low-resolution image of 4x4"):
            bicubic_downscale_crop(image, 2, *window)
