"""Pairing, checking and sampling of swinlet.data.dataset_sr."""

import logging
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import swinlet.data.dataset_sr as module
from swinlet.data.augment import MODES, augment
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.prepare import prepare
from swinlet.data.prepare_image import Request
from swinlet.errors import DataError
from swinlet.utils.console import ProgressBar
from swinlet.utils.image_io import read_image
from swinlet.utils.resize import bicubic_downscale

CHELSEA = Path(__file__).resolve().parents[1] / "demo" / "images" / "test" / "chelsea.png"


def coordinates(height: int, width: int, number: int) -> np.ndarray:
    """Every pixel says where it is, and in which image."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, number)], axis=2).astype(np.uint8)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def make_folder(root: Path, n_images: int = 5, size: tuple[int, int] = (20, 26)) -> Path:
    for number in range(n_images):
        write(root / f"{number}.png", noise(*size, seed=number))
    return root


def same(one: dict, other: dict) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[k], other[k]) if k in "LH" else one[k] == other[k] for k in one)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(1, 2, 0).numpy()


# --- pairing ---


def test_pairing_by_name_with_both_rules_in_subfolders(tmp_path: Path) -> None:
    for name in ("a.v1.bmp", "sub/b.png", "sub/deep/c.png", "b.png"):
        write(tmp_path / "H" / name, noise(21, 16))
    for name in ("a.v1x4.png", "sub/b.bmp", "sub/deep/cx4.png", "bx4.png"):
        write(tmp_path / "L" / name, noise(5, 4))
    dataset = DatasetSR(tmp_path / "H", tmp_path / "L", scale=4, phase="test")
    assert len(dataset) == 4
    assert dataset.names == ["a.v1x4", "bx4", "sub/b", "sub/deep/cx4"]
    assert dataset.skipped == []
    pairs = [(Path(item["H_path"]), Path(item["L_path"])) for item in (dataset[i] for i in range(4))]
    assert [(h.relative_to(tmp_path / "H"), low.relative_to(tmp_path / "L")) for h, low in pairs] == [
        (Path("a.v1.bmp"), Path("a.v1x4.png")),
        (Path("b.png"), Path("bx4.png")),
        (Path("sub/b.png"), Path("sub/b.bmp")),
        (Path("sub/deep/c.png"), Path("sub/deep/cx4.png")),
    ]


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ("0001", "0001_x4"),
        ("0001", "0001_LR"),
        ("0001", "0001_lr"),
        ("0001", "0001x4m"),
        ("0001", "0001x4d"),
        ("0001", "0001_LRx4"),
        ("0001_HR", "0001_LR"),
        ("0001-hr", "0001x4"),
        ("img_SRF_4_HR", "img_SRF_4_LR"),
    ],
)
def test_the_usual_names_of_low_resolution_files(high: str, low: str, tmp_path: Path) -> None:
    write(tmp_path / "H" / "sub" / f"{high}.png", noise(21, 16))
    write(tmp_path / "L" / "sub" / f"{low}.png", noise(5, 4))
    assert DatasetSR(tmp_path / "H", tmp_path / "L", scale=4, phase="test").names == [f"sub/{low}"]


def test_other_names_by_a_template(tmp_path: Path) -> None:
    write(tmp_path / "H" / "sub" / "a.png", noise(21, 16))
    write(tmp_path / "L" / "sub" / "small-a-4.png", noise(5, 4))
    with pytest.raises(DataError, match=r"sub/a.png: no low-resolution image named sub/a.\* or .*filename_tmpl"):
        DatasetSR(tmp_path / "H", tmp_path / "L", scale=4, phase="test")
    words: dict[str, Any] = {"scale": 4, "phase": "test", "filename_tmpl": "small-{}-4"}
    assert DatasetSR(tmp_path / "H", tmp_path / "L", **words).names == ["sub/small-a-4"]
    write(tmp_path / "L" / "sub" / "a.png", noise(5, 4))  # not asked for
    with pytest.raises(DataError, match=r"L/sub/a.png: no high-resolution image for it"):
        DatasetSR(tmp_path / "H", tmp_path / "L", **words)


def photograph() -> np.ndarray:
    return np.asarray(Image.open(CHELSEA).convert("RGB"))[100:180, 120:216]


MIXED = [
    ("GTmod12/bird.png", "LRbicx4/bird.png"),
    ("HR/bird.png", "LR/birdx4.png"),
    ("bird.png", "bird_LR.png"),
    ("bird_HR.png", "bird_x4.png"),
    ("bird_HR.png", "bird_LRx4.png"),
]


@pytest.mark.parametrize(("high", "low"), MIXED)
def test_ground_truth_beside_its_low_resolution_is_refused(high: str, low: str, tmp_path: Path) -> None:
    write(tmp_path / high, photograph())
    write(tmp_path / low, bicubic_downscale(photograph(), 4))
    message = (
        rf"^{{}}: it holds high- and low-resolution images of the same pictures, such as .*{high} and .*{low} \(x4\)"
    )
    with pytest.raises(DataError, match=message.format("datasets.train")):
        DatasetSR(tmp_path, scale=2, phase="train", H_size=8)
    with pytest.raises(DataError, match=message.format("swinlet prepare")):
        prepare(Request(tmp_path, scale=2), tmp_path.with_name("out"), ProgressBar())


def test_names_that_are_alike_by_chance_are_not_refused(tmp_path: Path) -> None:
    picture = photograph()
    write(tmp_path / "a/001.png", picture)
    write(tmp_path / "b/001.png", 255 - bicubic_downscale(picture, 2))  # another picture of a fitting size
    write(tmp_path / "c/002.png", picture)
    write(tmp_path / "c/002T0.png", bicubic_downscale(picture, 2))  # copies of several sizes, made on purpose
    assert len(DatasetSR(tmp_path, scale=2, phase="train", H_size=8)) == 4
    write(tmp_path / "d/003.png", picture[:-2])
    write(tmp_path / "d/003x2.png", bicubic_downscale(picture[:-2], 2))  # one pair of many
    for i in range(3):
        write(tmp_path / f"e/{i}.png", picture)
    assert len(DatasetSR(tmp_path, scale=2, phase="train", H_size=8)) == 9


def test_images_that_are_not_read_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.png", noise(21, 16))
    for name in ("b.heic", "sub/c.cr2", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING, logger="swinlet"):
        DatasetSR(tmp_path, scale=4, phase="test")
    assert f"datasets.train: {tmp_path} holds images that are not read: 1 .cr2, 1 .heic" in caplog.text


def test_twins_are_told_apart_where_nothing_is_paired(tmp_path: Path) -> None:
    names = ("dup.png", "dup.bmp", "dup.png.png", "sub/dup.png", "other.png")
    for number, name in enumerate(names):
        write(tmp_path / name, noise(12, 12, seed=number))
    dataset = DatasetSR(tmp_path, scale=2, phase="test")
    assert sorted(dataset.names) == ["dup.bmp", "dup.png", "dup.png.png", "other", "sub/dup"]
    for index, name in enumerate(dataset.names):
        assert dataset[index]["H_path"].startswith(str(tmp_path / name))
        assert dataset[index]["name"] == name


def make_bad_folders(root: Path) -> tuple[Path, Path]:
    """One good pair and one of each problem, at scale 2 and H_size 12."""
    high, low = root / "H", root / "L"
    for name, size in {
        "good.png": (12, 13),
        "alone.png": (12, 12),
        "two.png": (12, 12),
        "twin.png": (12, 12),
        "twin.bmp": (12, 12),
        "rival.png": (12, 12),
        "rivalx2.png": (12, 12),
        "small.png": (40, 11),
        "wrong.png": (24, 20),
        "cut.png": (12, 12),
    }.items():
        write(high / name, noise(*size))
    for name, size in {
        "good.png": (6, 6),
        "lonely.png": (6, 6),
        "two.png": (6, 6),
        "twox2.png": (6, 6),
        "twin.png": (6, 6),
        "rivalx2.png": (6, 6),
        "smallx2.png": (20, 5),
        "wrongx2.png": (12, 11),
        "cut.png": (6, 6),
    }.items():
        write(low / name, noise(*size))
    (high / "cut.png").write_bytes((high / "cut.png").read_bytes()[:-60])
    (low / "cut.png").write_text("text")
    return high, low


PROBLEMS = [
    "H/alone.png: no low-resolution image named alone.* or alonex2.*",
    "H/rival.png: ambiguous, by its name it goes with *H/rivalx2.png, *L/rivalx2.png",
    "H/rivalx2.png: ambiguous, by its name it goes with *H/rival.png, *L/rivalx2.png",
    "H/twin.bmp: ambiguous, by its name it goes with *H/twin.png, *L/twin.png",
    "H/two.png: ambiguous, by its name it goes with *L/two.png, *L/twox2.png",
    "L/lonely.png: no high-resolution image for it",
    "cannot read *H/cut.png: *",
    "cannot read *L/cut.png: not an image*",
    "H/small.png: too small: 11x40 pixels, but each side needs 12",
    "L/wrongx2.png: 11x12 pixels, but scale 2 needs 10x12, as *H/wrong.png has 20x24",
]


def test_all_problems_come_in_one_error(tmp_path: Path) -> None:
    high, low = make_bad_folders(tmp_path)
    with pytest.raises(DataError) as caught:
        DatasetSR(high, low, scale=2, phase="train", H_size=12)
    message = str(caught.value)
    assert message.startswith(f"datasets.train: problems with its images ({len(PROBLEMS)}):\n")
    assert 'datasets.train.on_bad_image = "skip"' in message.splitlines()[-1]
    lines = message.replace("\\", "/").splitlines()[1:-1]
    assert len(lines) == len(PROBLEMS)
    for problem in PROBLEMS:
        parts = problem.split("*")
        assert any(all(part in line for part in parts) for line in lines), f"{problem} is not in {message}"


def test_skip_mode_drops_counts_and_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    high, low = make_bad_folders(tmp_path)
    with caplog.at_level(logging.WARNING, logger="swinlet"):
        dataset = DatasetSR(high, low, scale=2, phase="train", H_size=12, on_bad_image="skip", name="extra")
    assert dataset.names == ["good"]
    assert len(dataset.skipped) == len(PROBLEMS)
    assert len(caplog.records) == 1
    assert f"extra: bad images left out ({len(PROBLEMS)}):" in caplog.text
    assert "alone.png: no low-resolution image" in caplog.text
    assert f"  and {len(PROBLEMS) - 5} more" in caplog.text
    assert dataset[7]["H"].shape == (3, 12, 12)


def test_long_lists_of_problems_are_cut(tmp_path: Path) -> None:
    make_folder(tmp_path, n_images=23, size=(4, 4))
    with pytest.raises(DataError, match=r"images \(23\)") as caught:
        DatasetSR(tmp_path, scale=2, phase="train", H_size=8)
    assert str(caught.value).count("too small") == 20
    assert "  and 3 more" in str(caught.value)


def test_nothing_left(tmp_path: Path) -> None:
    make_folder(tmp_path, n_images=2, size=(4, 4))
    with pytest.raises(DataError, match=r"no usable image is left:\n.*0\.png: too small: 4x4"):
        DatasetSR(tmp_path, scale=2, phase="train", H_size=8, on_bad_image="skip")


@pytest.mark.parametrize(("scale", "needed"), [(1, 1), (2, 6), (3, 9), (4, 12)])
def test_test_images_keep_a_pixel_for_the_scores(tmp_path: Path, scale: int, needed: int) -> None:
    write(tmp_path / "a.png", noise(needed, needed + 1))
    L = DatasetSR(tmp_path, scale=scale, phase="test", H_size=1)[0]["L"]
    assert L.shape == (3, needed // scale, (needed + 1) // scale)
    if scale == 1:
        return
    write(tmp_path / "b.png", noise(needed - 1, 20))
    problem = rf"b\.png: too small: 20x{needed - 1} pixels, but each side needs {needed}$"
    with pytest.raises(DataError, match=f"(?m){problem}"):
        DatasetSR(tmp_path, scale=scale, phase="test")
    skipping = DatasetSR(tmp_path, scale=scale, phase="test", on_bad_image="skip")
    assert skipping.names == ["a"]
    assert len(skipping.skipped) == 1
    write(tmp_path / "L/b.png", noise((needed - 1) // scale, 20 // scale))
    write(tmp_path / "H/b.png", noise(needed - 1, 20))
    with pytest.raises(DataError, match=f"(?m){problem}"):
        DatasetSR(tmp_path / "H", tmp_path / "L", scale=scale, phase="test")


def test_large_folders_are_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert module._CHECKED_SILENTLY == 100
    monkeypatch.setattr(module, "_CHECKED_SILENTLY", 2)
    with caplog.at_level(logging.INFO, logger="swinlet"):
        DatasetSR(make_folder(tmp_path, 2), scale=2, phase="train", H_size=8)
        assert caplog.messages == []
        DatasetSR(make_folder(tmp_path, 3), scale=2, phase="train", H_size=8)
    assert caplog.messages == ["datasets.train: reading 3 images to check them"]


def test_wrong_options_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "H", 1)
    with pytest.raises(DataError, match=r"datasets\.train\.H_size is 10, not a multiple of .* 4: use .* 8"):
        DatasetSR(tmp_path / "H", scale=4, phase="train", H_size=10)
    with pytest.raises(DataError, match=r"H_size is 0, .* 4: use for example 4"):
        DatasetSR(tmp_path / "H", scale=4, phase="train", H_size=0)
    with pytest.raises(DataError, match=r"datasets\.train\.dataroot_H: folder .*none does not exist"):
        DatasetSR(tmp_path / "none", scale=4, phase="train")
    with pytest.raises(DataError, match=r"datasets\.test\.dataroot_L: folder .*none does not exist"):
        DatasetSR(tmp_path / "H", tmp_path / "none", scale=4, phase="test", name="datasets.test")


# --- training samples ---


def test_samples_are_tensors_of_the_right_kind(tmp_path: Path) -> None:
    dataset = DatasetSR(make_folder(tmp_path), scale=4, phase="train", H_size=16)
    sample = dataset[10**12]
    assert sample.keys() == {"L", "H", "L_path", "H_path"}
    assert sample["L"].shape == (3, 4, 4)
    assert sample["H"].shape == (3, 16, 16)
    assert all(sample[key].dtype == torch.uint8 and sample[key].is_contiguous() for key in "LH")
    assert sample["L_path"] == sample["H_path"]
    with pytest.raises(IndexError, match="no sample -1 in a dataset of 5 images"):
        dataset[-1]


def test_sampling_depends_on_seed_and_position_only(tmp_path: Path) -> None:
    dataset = DatasetSR(make_folder(tmp_path), scale=2, phase="train", H_size=12, seed=3)
    expected = [dataset[position] for position in range(12)]
    other = pickle.loads(pickle.dumps(dataset))
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    for position in [*reversed(range(12)), 5, 5]:
        assert same(other[position], expected[position])
        assert same(dataset[position], expected[position])
    again = DatasetSR(tmp_path, scale=2, phase="train", H_size=12, seed=3)
    assert same(again[7], expected[7])
    assert same(again[np.int64(7)], expected[7])
    reseeded = DatasetSR(tmp_path, scale=2, phase="train", H_size=12, seed=4)
    assert not all(same(reseeded[position], expected[position]) for position in range(12))
    assert not any(torch.equal(expected[i]["H"], expected[j]["H"]) for i in range(12) for j in range(i))


def test_samples_are_the_same_in_a_spawned_worker(tmp_path: Path) -> None:
    dataset = DatasetSR(make_folder(tmp_path), scale=2, phase="train", H_size=12)
    dataset[0]  # decoded images and the order of the epoch must not hinder pickling
    loader = DataLoader(dataset, batch_size=3, sampler=range(6, 12), num_workers=1, multiprocessing_context="spawn")
    batches = list(loader)
    assert len(batches) == 2
    for number, batch in enumerate(batches):
        for slot in range(3):
            expected = dataset[6 + number * 3 + slot]
            assert torch.equal(batch["L"][slot], expected["L"])
            assert torch.equal(batch["H"][slot], expected["H"])
            assert batch["H_path"][slot] == expected["H_path"]


def test_every_epoch_visits_every_image_once(tmp_path: Path) -> None:
    dataset = DatasetSR(make_folder(tmp_path), scale=2, phase="train", H_size=8)
    visits = [Path(dataset[position]["H_path"]).stem for position in range(5 * 20)]
    epochs = ["".join(visits[first : first + 5]) for first in range(0, 100, 5)]
    assert all(sorted(epoch) == list("01234") for epoch in epochs)
    assert len(set(epochs)) > 10
    assert epochs[:3] == ["02143", "01324", "21034"], "an old run could not be resumed after this change"
    dataset = DatasetSR(tmp_path, scale=2, phase="train", H_size=8, shuffle=False)
    assert [Path(dataset[position]["H_path"]).stem for position in range(7)] == list("0123401")


def test_crops_and_augmentation_cover_everything(tmp_path: Path) -> None:
    write(tmp_path / "a.png", coordinates(11, 14, 0))
    dataset = DatasetSR(tmp_path, scale=2, phase="train", H_size=8)
    views = [augment(coordinates(8, 8, 0), mode) for mode in range(MODES)]
    seen: list[tuple[int, int, int]] = []
    for position in range(600):
        patch = array(dataset[position]["H"])
        top, left = int(patch[:, :, 0].min()), int(patch[:, :, 1].min())
        moved = patch - np.array([top, left, 0], np.uint8)
        (mode,) = (mode for mode in range(MODES) if np.array_equal(views[mode], moved))
        seen.append((top, left, mode))
    assert seen[:3] == [(2, 6, 5), (2, 6, 2), (2, 2, 3)], "an old run could not be resumed after this change"
    # 11 x 14 is cropped to 10 x 14: tops 0 and 2, lefts 0, 2, 4 and 6.
    assert set(seen) == {(top, left, mode) for top in (0, 2) for left in (0, 2, 4, 6) for mode in range(MODES)}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computed_patches_equal_crops_of_the_whole(tmp_path: Path, scale: int) -> None:
    rng = np.random.default_rng(5)
    H = coordinates(31, 38, 0)
    H[:, :, 2] = rng.integers(0, 2, (31, 38)) * 255
    write(tmp_path / "a.png", H)
    L, size = bicubic_downscale(H, scale), 5
    dataset = DatasetSR(tmp_path, scale=scale, phase="train", H_size=size * scale)
    for position in range(60):
        sample = dataset[position]
        patch = array(sample["H"])
        top, left = int(patch[:, :, 0].min()), int(patch[:, :, 1].min())
        whole = H[top : top + size * scale, left : left + size * scale]
        (mode,) = (m for m in range(MODES) if np.array_equal(augment(whole, m), patch))
        top, left = top // scale, left // scale
        expected = augment(L[top : top + size, left : left + size], mode)
        np.testing.assert_array_equal(array(sample["L"]), expected)


@pytest.mark.parametrize("scale", [2, 3])
def test_patches_of_given_files_are_aligned(tmp_path: Path, scale: int) -> None:
    for number in range(3):
        write(tmp_path / f"H/{number}.png", coordinates(22, 25, number * scale))
        write(tmp_path / f"L/{number}x{scale}.png", coordinates(22 // scale, 25 // scale, number))
    dataset = DatasetSR(tmp_path / "H", tmp_path / "L", scale=scale, phase="train", H_size=4 * scale)
    for position in range(60):
        sample = dataset[position]
        blocks = array(sample["L"]).repeat(scale, axis=0).repeat(scale, axis=1)
        np.testing.assert_array_equal(array(sample["H"]) // scale, blocks)
        assert Path(sample["L_path"]).stem == f"{Path(sample['H_path']).stem}x{scale}"


# --- test samples ---


def test_whole_pairs_for_testing(tmp_path: Path) -> None:
    H = noise(23, 31)
    write(tmp_path / "H/a.png", H)
    L = noise(5, 7)
    write(tmp_path / "L/ax4.png", L)
    computed = DatasetSR(tmp_path / "H", scale=4, phase="test")[0]
    given = DatasetSR(tmp_path / "H", tmp_path / "L", scale=4, phase="test")
    assert computed["name"] == "a"
    assert given[0]["name"] == "ax4"
    np.testing.assert_array_equal(array(computed["L"]), bicubic_downscale(H, 4))
    np.testing.assert_array_equal(array(given[0]["L"]), L)
    for sample in (computed, given[0]):
        np.testing.assert_array_equal(array(sample["H"]), H[:20, :28])
    with pytest.raises(IndexError, match="no sample 1 in a dataset of 1 images"):
        given[1]


def test_gray(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", noise(9, 9))
    sample = DatasetSR(tmp_path, scale=2, phase="test", n_channels=1)[0]
    gray = read_image(path, 1)
    np.testing.assert_array_equal(array(sample["H"]), gray[:8, :8])
    np.testing.assert_array_equal(array(sample["L"]), bicubic_downscale(gray, 2))


def test_set5_and_set14(shared: Path) -> None:
    folder = shared / "data/testsets"
    for testset, count in (("Set5", 5), ("Set14", 14)):
        given = DatasetSR(folder / testset / "HR", folder / testset / "LR_bicubic/X3", scale=3, phase="test")
        computed = DatasetSR(folder / testset / "HR", scale=3, phase="test")
        assert len(given) == len(computed) == count
        assert given.names == [f"{name}x3" for name in computed.names]
        for index in range(count):
            assert torch.equal(given[index]["L"], computed[index]["L"])
            assert torch.equal(given[index]["H"], computed[index]["H"])


# --- cache ---


def test_images_are_decoded_once_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = DatasetSR(make_folder(tmp_path, 4), scale=2, phase="train", H_size=8, shuffle=False)
    decoded: list[str] = []

    def counting(path: Path, n_channels: int) -> np.ndarray:
        decoded.append(path.stem)
        return read_image(path, n_channels)

    monkeypatch.setattr(module, "read_image", counting)
    for position in range(8):
        dataset[position]
    assert decoded == list("0123")
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * 20 * 26 * 3)
    small = DatasetSR(tmp_path, scale=2, phase="train", H_size=8, shuffle=False)
    decoded.clear()
    for position in (0, 1, 0, 2, 0, 1):
        small[position]
    assert decoded == list("0121"), "the least recently used image goes first"


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    dataset = DatasetSR(make_folder(tmp_path, 1), scale=2, phase="test")
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png: there is no such file"):
        dataset[0]
