"""swinlet prepare: what is in a prepared folder, when it is refused, and that training from it changes nothing."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import swinlet.data.dataset_sr as dataset_module
import swinlet.data.prepare_image as prepare_image
import swinlet.utils.files as files
from swinlet.cli import app
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.prepare import prepare, prepare_request, verify_prepared
from swinlet.data.prepare_image import Request
from swinlet.data.prepared import LOCK, Index, map_array, read_index
from swinlet.data.select_dataset import training_batches
from swinlet.errors import DataError
from swinlet.evaluation.scoring import pictures
from swinlet.evaluation.testsets import open_testset
from swinlet.options import parse_options
from swinlet.utils.console import ProgressBar
from swinlet.utils.files import locked
from swinlet.utils.image_io import read_image
from swinlet.utils.resize import bicubic_downscale

NAMES = ("a.png", "a.bmp", "with space.png", "ünïcode/日本.png", "deep/er/z.png")


def write(path: Path, height: int, width: int, seed: int = 0, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(path)
    return path


@pytest.fixture
def HR(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        write(tmp_path / "HR" / name, 21 + number, 26 - number, number)
    return tmp_path / "HR"


def run(source: Path, out: Path, **keys: Any) -> Index:
    return prepare(Request(source, **keys), out, ProgressBar())


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])
    return result.exit_code, result.stdout + result.stderr


def dataset(root: Path, low: Path | None = None, **keys: Any) -> DatasetSR:
    return DatasetSR(root, low, **({"scale": 2, "phase": "train", "H_size": 8, "seed": 3} | keys))


def check_same(one: DatasetSR, other: DatasetSR, count: int = 24) -> None:
    assert one.names == other.names
    for position in range(count):
        a, b = one[position], other[position]
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]) if key in ("L", "H") else a[key] == b[key]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded."""
    names: list[str] = []

    def counting(path: Path, n_channels: Any) -> np.ndarray:
        names.append(path.name)
        return read_image(path, n_channels)

    monkeypatch.setattr(prepare_image, "read_image", counting)
    monkeypatch.setattr(dataset_module, "read_image", counting)
    return names


# --- samples ---


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_samples_are_those_of_the_files(HR: Path, scale: int, n_channels: int) -> None:
    cache = HR.parent / "cache"
    run(HR, cache, scale=scale, n_channels=n_channels)
    keys = {"scale": scale, "n_channels": n_channels, "H_size": 4 * scale}
    check_same(dataset(HR, **keys), dataset(cache, **keys))
    check_same(dataset(HR, phase="test", **keys), dataset(cache, phase="test", **keys), len(NAMES))


def test_samples_of_pairs_are_those_of_the_files(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"HR/{number}.png", 21, 24, number)
        write(tmp_path / f"LR/{number}x2.bmp", 10, 12, number)
    run(tmp_path / "HR", tmp_path / "cache", dataroot_L=tmp_path / "LR", scale=2)
    for given in (None, tmp_path / "LR"):
        check_same(dataset(tmp_path / "HR", tmp_path / "LR"), dataset(tmp_path / "cache", given))
    assert dataset(tmp_path / "cache").root_L == tmp_path / "LR"
    with pytest.raises(DataError, match=r"low-resolution files of scale 2, but the scale is 4: .* --scale 4"):
        dataset(tmp_path / "cache", scale=4)
    with pytest.raises(DataError, match=r"train\.dataroot_L: .*HR, but .* prepared with .*LR: leave dataroot_L out"):
        dataset(tmp_path / "cache", tmp_path / "HR")


@pytest.mark.parametrize("prepared_scale", [None, 1, 2])
def test_at_scale_1_L_is_H(
    HR: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, prepared_scale: int | None
) -> None:
    cache = HR.parent / "cache"
    run(HR, cache, scale=prepared_scale)
    arrays = len(list((cache / "arrays").rglob("*.npy")))
    assert arrays == len(NAMES) * (2 if prepared_scale == 2 else 1)
    for function in ("bicubic_downscale", "bicubic_downscale_crop"):
        monkeypatch.setattr(dataset_module, function, lambda *_: pytest.fail("there is nothing to scale"))
    with caplog.at_level(logging.INFO, logger="swinlet"):
        for data in (dataset(HR, scale=1), dataset(cache, scale=1), dataset(cache, scale=1, phase="test")):
            assert torch.equal(data[0]["L"], data[0]["H"])
    assert "slower" not in caplog.text


@pytest.mark.parametrize("prepared_scale", [None, 4])
def test_other_scales_are_made_from_H(HR: Path, caplog: pytest.LogCaptureFixture, prepared_scale: int | None) -> None:
    run(HR, HR.parent / "cache", scale=prepared_scale)
    with caplog.at_level(logging.INFO, logger="swinlet"):
        check_same(dataset(HR), dataset(HR.parent / "cache"))
    assert "those of scale 2 are made for each sample (slower)" in caplog.text


def test_training_batches_are_those_of_the_files(HR: Path) -> None:
    run(HR, HR.parent / "cache", scale=2)
    batches: list[list[dict[str, Any]]] = []
    for root, workers in ((HR, 0), (HR.parent / "cache", 0), (HR.parent / "cache", 2)):
        section = {"dataroot_H": str(root), "H_size": 8, "dataloader_batch_size": 3, "dataloader_num_workers": workers}
        opt = parse_options({"scale": 2, "datasets": {"train": section}, "netG": {}})
        batches.append(list(training_batches(dataset(root), opt, range(4, 8))))
    assert len(batches[0]) == 4
    for other in batches[1:]:
        for a, b in zip(batches[0], other, strict=True):
            assert a["H_path"] == b["H_path"]
            assert torch.equal(a["L"], b["L"])
            assert torch.equal(a["H"], b["H"])


def test_nothing_is_decoded_at_start_or_later(HR: Path, decoded: list[str]) -> None:
    run(HR, HR.parent / "cache", scale=2)
    assert sorted(decoded) == sorted(Path(name).name for name in NAMES)
    decoded.clear()
    data = dataset(HR.parent / "cache")
    data.batch(range(10))
    assert decoded == []
    assert not data._read(data._pairs[0].H_array).flags.writeable


def test_evaluate_takes_prepared_folders(tmp_path: Path) -> None:
    write(tmp_path / "HR/gray.png", 40, 40, channels=1)
    write(tmp_path / "HR/rgb.png", 40, 40)
    run(tmp_path / "HR", tmp_path / "cache", scale=2)
    found = open_testset(tmp_path / "cache", 2, 3)
    expected = open_testset(tmp_path / "HR", 2, 3)
    shutil.rmtree(tmp_path / "HR")
    problems: list[str] = []
    shown = [(picture.name, picture.is_gray) for picture in pictures(found, problems)]
    assert shown == [("gray", True), ("rgb", False)]
    assert problems == []
    assert found.low_resolution == expected.low_resolution == "made by MATLAB's bicubic"


# --- the folder ---


def test_what_is_in_the_folder(HR: Path) -> None:
    write(HR / "same.png", 21, 26, 0)  # the same picture as a.png
    index = run(HR, HR.parent / "cache", scale=2)
    assert read_index(HR.parent / "cache") == index
    assert [image.name for image in index.images] == dataset(HR).names
    for image in index.images:
        H = np.load(HR.parent / "cache/arrays" / image.H.file)
        np.testing.assert_array_equal(H, read_image(HR / image.high.path, 3))
        assert (image.H.height, image.H.width) == H.shape[:2]
        assert image.high.sha256 == files.sha256_of(HR / image.high.path)
        assert image.L is not None
        L = np.load(HR.parent / "cache/arrays" / image.L.file)
        np.testing.assert_array_equal(L, bicubic_downscale(H, 2))
    used = {array.file for image in index.images for array in (image.H, image.L) if array}
    assert {path.name for path in (HR.parent / "cache/arrays").iterdir()} == used
    assert len(used) == 2 * len(index.images)


def test_again_only_what_changed_is_decoded(HR: Path, decoded: list[str]) -> None:
    cache = HR.parent / "cache"
    run(HR, cache, scale=2)
    decoded.clear()
    run(HR, cache, scale=2)
    assert decoded == []
    write(HR / "a.png", 30, 30, 9)
    (HR / "a.bmp").unlink()
    write(HR / "new.png", 22, 22, 8)
    os.utime(HR / "with space.png", (1, 1))  # copied: another time, the same content
    index = run(HR, cache, scale=2)
    assert sorted(decoded) == ["a.png", "new.png"]
    assert [image.name for image in index.images] == ["a", "deep/er/z", "new", "with space", "ünïcode/日本"]
    assert len(list((cache / "arrays").iterdir())) == 2 * 5
    check_same(dataset(HR), dataset(cache))


def test_a_stopped_prepare_goes_on(HR: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = HR.parent / "cache"
    write_array = prepare_image._write_array

    def full_disk(path: Path, pixels: np.ndarray) -> str:
        if len(decoded) >= 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write_array(path, pixels)

    monkeypatch.setattr(prepare_image, "_write_array", full_disk)
    code, output = command(HR, "--out", cache, "--scale", 2, "--workers", 1)
    assert code == 1
    assert "No space left on device; what is done stays, and the same command goes on" in output
    assert not (cache / "index.json").exists()
    (cache / "arrays/.half.npy.tmp").write_bytes(b"of a killed process")
    monkeypatch.setattr(prepare_image, "_write_array", write_array)
    assert all(np.load(path).ndim == 3 for path in (cache / "arrays").glob("[!.]*"))
    done = decoded[:2]
    decoded.clear()
    code, output = command(HR, "--out", cache, "--scale", 2)
    assert code == 0, output
    assert not set(done) & set(decoded)
    assert len(decoded) == 3
    assert len(list((cache / "arrays").iterdir())) == 2 * len(NAMES)
    check_same(dataset(HR), dataset(cache))


def test_read_only_folders(HR: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened for writing, made or removed: tests run as root, whom permissions do not stop."""
    cache = HR.parent / "cache"
    run(HR, cache, scale=2)
    expected = dataset(HR)[5]
    moved = HR.parent / "moved"
    cache.rename(moved)
    before = {path: path.stat().st_mtime_ns for path in [moved, *moved.rglob("*")]}
    opened = Path.open

    def reading(path: Path, mode: str = "r", *args: Any, **keys: Any) -> Any:
        assert "r" in mode
        return opened(path, mode, *args, **keys)

    monkeypatch.setattr(Path, "open", reading)
    found = dataset(moved)[5]
    assert torch.equal(found["L"], expected["L"])
    assert torch.equal(found["H"], expected["H"])
    assert verify_prepared(moved, None, ProgressBar()) == []
    assert {path: path.stat().st_mtime_ns for path in [moved, *moved.rglob("*")]} == before


# --- what is refused ---


def change(path: Path) -> None:
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda root: change(root / "a.png"), r"changed since \(1\):\n  - .*a\.png: changed\n"),
        (lambda root: (root / "a.bmp").unlink(), r"changed since \(1\):\n  - .*a\.bmp: removed\n"),
        (lambda root: write(root / "b.png", 9, 9), r"changed since \(1\):\n  - .*b\.png: new\n"),
    ],
)
def test_changed_sources_are_noticed(HR: Path, act: Callable[[Path], object], message: str) -> None:
    cache = HR.parent / "my cache"
    run(HR, cache, scale=2)
    act(HR)
    with pytest.raises(DataError, match=message) as caught:
        dataset(cache)
    advice = str(caught.value).splitlines()[-1]
    assert advice.endswith(f"swinlet prepare {HR} --out '{cache}' --scale 2")
    shutil.rmtree(HR)
    assert len(dataset(cache)) == len(NAMES), "where the sources are gone, nothing can have changed"


def test_touched_sources_are_the_same(HR: Path) -> None:
    run(HR, HR.parent / "cache")
    for name in NAMES:
        os.utime(HR / name, (1, 1))
    assert len(dataset(HR.parent / "cache")) == len(NAMES)


def test_damage_is_found(HR: Path) -> None:
    cache = HR.parent / "cache"
    index = run(HR, cache, scale=2)
    assert command("--verify", cache)[0] == 0
    victim = cache / "arrays" / index.images[0].H.file
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, output = command("--verify", cache)
    assert code == 2
    assert f"{victim}: its content is not what was written" in output
    victim.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"files are damaged \(1\):\n  - .*: {len(content) - 1} bytes instead of"):
        dataset(cache)
    victim.unlink()
    with pytest.raises(DataError, match=r"files are damaged \(1\):\n  - .*: No such file"):
        dataset(cache)
    run(HR, cache, scale=2)
    check_same(dataset(HR), dataset(cache))
    with pytest.raises(DataError, match=r"cannot read the prepared image .*nowhere\.npy: .*prepare --verify"):
        map_array(cache / "arrays/nowhere.npy")


def test_an_index_that_is_none(HR: Path) -> None:
    (HR / "index.json").write_text('{"of": "another program"}')
    assert len(dataset(HR)) == len(NAMES)
    run(HR, HR.parent / "cache")
    path = HR.parent / "cache/index.json"
    text = path.read_text()
    for damaged in (text[:-20], text.replace('"version": 1', '"version": 2')):
        path.write_text(damaged)
        with pytest.raises(DataError, match=r"index\.json is damaged, or of another version .*: remove the folder"):
            dataset(HR.parent / "cache")


def test_what_does_not_fit_the_run_is_refused(HR: Path) -> None:
    run(HR, HR.parent / "cache", n_channels=1)
    with pytest.raises(DataError, match=r"prepared with 1 channel\(s\), but n_channels is 3: .* --n-channels 3"):
        dataset(HR.parent / "cache")
    with pytest.raises(DataError, match=r"dataroot_L: .*cache is a prepared folder: name it as dataroot_H"):
        dataset(HR, HR.parent / "cache")
    small = {"n_channels": 1, "H_size": 22}
    with pytest.raises(DataError, match=r"with its images \(1\):\n.*a\.png: too small: 26x21 pixels, but each .* 22"):
        dataset(HR.parent / "cache", **small)
    kept = dataset(HR.parent / "cache", **small, on_bad_image="skip")
    assert kept.names == dataset(HR, **small, on_bad_image="skip").names


def test_bad_images(HR: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = HR.parent / "cache"
    (HR / "broken.png").write_bytes((HR / "a.png").read_bytes()[:60])
    write(HR / "tiny.png", 1, 1)
    code, output = command(HR, "--out", cache, "--scale", 2)
    assert code == 2
    assert "problems with its images (2):" in output
    assert "broken.png" in output
    assert "tiny.png: an image of 1x1 pixels cannot be shrunk by 2" in output
    assert "or leave them out with --on-bad-image skip" in output
    assert not (cache / "index.json").exists()
    with caplog.at_level(logging.WARNING, logger="swinlet"):
        run(HR, cache, scale=2, on_bad_image="skip")
    assert "bad images left out (2)" in caplog.text
    data = dataset(cache)
    assert len(data) == len(NAMES)
    assert len(data.skipped) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{HR}"], "--out: missing"),
        (["{HR}/nothing", "--out", "{cache}"], "nothing does not exist"),
        (["{empty}", "--out", "{cache}"], "empty holds no image"),
        (["{HR}", "--out", "{cache}", "--scale", "5"], "--scale 5: use 1, 2, 3, 4 or 8"),
        (["{HR}", "--out", "{cache}", "--n-channels", "4"], "--n-channels 4: use 3 for RGB or 1"),
        (["{HR}", "--out", "{cache}", "--on-bad-image", "ask"], "--on-bad-image ask: use error or skip"),
        (["{HR}", "--out", "{cache}", "--low", "{HR}"], "--low needs --scale"),
        (["{HR}", "--out", "{HR}"], "HR is neither empty nor a prepared folder"),
        (["{HR}", "--out", "{HR}/a.png"], "a.png is not a folder"),
        (["--verify", "{HR}"], "HR is no prepared folder"),
    ],
)
def test_wrong_commands_are_one_message(HR: Path, arguments: list[str], message: str) -> None:
    (HR.parent / "empty").mkdir()
    places = {name: HR.parent / name for name in ("HR", "empty", "cache")}
    code, output = command(*(argument.format(**places) for argument in arguments))
    assert code == 2
    assert message in output
    assert not (HR.parent / "cache").exists()


def test_another_request_does_not_replace_the_folder(HR: Path) -> None:
    cache = HR.parent / "cache"
    index = run(HR, cache, scale=2)
    with pytest.raises(DataError, match=r"prepared from something else \(scale 2 there, 4 now\): name another folder"):
        run(HR, cache, scale=4)
    assert read_index(cache) == index
    with (
        locked(cache / LOCK, wait=False),
        pytest.raises(DataError, match="is being prepared by another process: wait for it"),
    ):
        run(HR, cache, scale=2)


def test_a_folder_that_cannot_be_written(HR: Path) -> None:
    code, output = command(HR, "--out", "/proc/nowhere/cache")
    assert code == 1
    assert "/proc/nowhere" in output
    assert "Traceback" not in output


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write(tmp_path / "HR" / name, 20, 20)
    run(tmp_path / "HR", tmp_path / "cache", scale=2)
    check_same(dataset(tmp_path / "HR"), dataset(tmp_path / "cache"), 2)
    assert json.loads((tmp_path / "cache/index.json").read_text("ascii"))["images"][0]["name"] == "caf\udce9"


def test_long_names(tmp_path: Path) -> None:
    write(tmp_path / "HR" / ("x" * 250 + ".png"), 20, 20)
    assert (
        len(prepare(prepare_request(tmp_path / "HR", None, 2, 3, "error", 1), tmp_path / "c", ProgressBar()).images)
        == 1
    )
