"""The cache of decoded images that training makes by itself."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

import swinlet.data.cache as module
from swinlet.data.cache import cache_folder
from swinlet.data.prepared import map_array
from swinlet.data.select_dataset import define_Dataset
from swinlet.errors import DataError
from swinlet.options import Options, parse_options
from tests.test_prepare import change, write


@pytest.fixture
def HR(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    monkeypatch.setenv("SWINLET_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO, logger="swinlet")
    for number in range(3):
        write(tmp_path / f"HR/{number}.png", 12, 14, number)
    return tmp_path / "HR"


def options(folder: Path, **keys: object) -> Options:
    section = {"dataroot_H": str(folder), "H_size": 8, **keys}
    return parse_options({"scale": 2, "datasets": {"train": section}, "netG": {}})


def entries() -> list[str]:
    return sorted(os.listdir(cache_folder())) if cache_folder().exists() else []


def test_small_folders_are_cached_by_content(HR: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = define_Dataset(options(HR, cache_gb=0), "train")
    assert entries() == []
    first = define_Dataset(options(HR), "train")
    (entry,) = entries()
    assert f"datasets.train: decoded images in {cache_folder() / entry}, in a cache of 0 MB; to clear" in caplog.text
    shutil.copytree(HR, HR.parent / "copy", copy_function=shutil.copy)  # with other times
    again = define_Dataset(options(HR.parent / "copy"), "train")
    assert entries() == [entry]
    assert again[0]["H_path"].startswith(str(HR.parent / "copy"))
    shutil.rmtree(HR.parent / "copy")
    for position in range(9):
        for key in ("L", "H"):
            assert torch.equal(first[position][key], plain[position][key])
            assert torch.equal(again[position][key], plain[position][key])


def test_a_change_is_noticed(HR: Path) -> None:
    define_Dataset(options(HR), "train")
    (entry,) = entries()
    stat = (HR / "1.png").stat()
    write(HR / "1.png", 12, 14, 77)
    os.utime(HR / "1.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = define_Dataset(options(HR), "train")
    assert len(entries()) == 2
    plain = define_Dataset(options(HR, cache_gb=0), "train")
    assert all(torch.equal(changed[i]["H"], plain[i]["H"]) for i in range(6))
    (HR / "1.png").rename(HR / "one.png")
    assert "one" in define_Dataset(options(HR), "train").names
    assert len(entries()) == 3
    assert entry in entries()


def test_a_damaged_entry_is_mended(HR: Path) -> None:
    expected = define_Dataset(options(HR), "train")[0]["H"]
    (entry,) = entries()
    arrays = sorted((cache_folder() / entry / "arrays").iterdir())
    arrays[0].write_bytes(b"")
    arrays[1].unlink()
    map_array.cache_clear()  # this process has mapped the old files
    assert torch.equal(define_Dataset(options(HR), "train")[0]["H"], expected)
    assert entries() == [entry]


def test_large_folders_are_left_alone(HR: Path, caplog: pytest.LogCaptureFixture) -> None:
    define_Dataset(options(HR, cache_gb=3 * 12 * 14 * 3 / 1e9 - 1e-9), "train")
    assert entries() == []
    assert "'swinlet prepare' makes loading faster" in caplog.text
    define_Dataset(options(HR, cache_gb=3 * 12 * 14 * 3 / 1e9), "train")
    assert len(entries()) == 1


def test_a_cache_that_cannot_be_written_is_told_of_once(
    HR: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWINLET_CACHE", "/proc/nowhere")
    assert len(define_Dataset(options(HR), "train")) == 3
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert message.startswith("datasets.train: no cache of decoded images, so loading takes longer: ")


def test_bad_images_are_told_of_as_without_cache(HR: Path) -> None:
    change(HR / "1.png")
    (HR / "2.png").write_bytes(b"no image")
    write(HR / "small.png", 5, 5)
    messages: list[str] = []
    for size in (0.0, 2.0):
        with pytest.raises(DataError, match=r"problems with its images \(") as caught:
            define_Dataset(options(HR, cache_gb=size), "train")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert entries() == [], "nothing is left of what nobody can use"
    skipping = [define_Dataset(options(HR, cache_gb=size, on_bad_image="skip"), "train") for size in (0.0, 2.0)]
    assert skipping[0].names == skipping[1].names
    assert len(skipping[0].skipped) == len(skipping[1].skipped)
    assert len(entries()) == 1


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setenv("SWINLET_CACHE", "/a")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("SWINLET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/swinlet")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder() == Path("/c/.cache/swinlet")
