"""Reading every kind of image file, writing PNG files, and what is said about bad files."""

import os
import re
import struct
import threading
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from swinlet.errors import DataError
from swinlet.utils.image_io import (
    counted,
    image_size,
    is_gray,
    left_out,
    list_images,
    read_image,
    save_image,
    to_tensor,
    to_uint8,
)

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GRAY = np.random.default_rng(1).integers(0, 256, (5, 7), np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(rgb).convert("L"))


def write_png16(path: Path, values: np.ndarray) -> None:
    """A 16-bit PNG file by hand, since Pillow writes none in colour; values uint16 (H, W, C)."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(data)


# --- list_images ---


def test_list_images_is_recursive_sorted_and_leaves_out_hidden_files(tmp_path: Path) -> None:
    wanted = ["B.JPG", "a.png", "sub/deep/x.TIFF", "sub/y.webp", "sub.png"]
    others = ["._a.png", ".hidden.png", ".git/z.png", "notes.txt", "a.npy", "sub/.DS_Store"]
    for name in wanted + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    found = list_images(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == sorted(wanted)
    assert list_images(str(tmp_path)) == found
    assert left_out(tmp_path) == {".npy": 1}
    assert left_out(tmp_path, among=None) == {".npy": 1, ".txt": 1}
    assert counted(Counter({".txt": 2, "": 1})) == "1 without suffix, 2 .txt"


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    for name in ("root/z/a.png", "elsewhere/deep/b.png", "elsewhere/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "root"
    links = {
        "root/a_link_to_z": root / "z",
        "root/outside": tmp_path / "elsewhere",
        "root/outside_again": tmp_path / "elsewhere",
        "root/up": tmp_path,
        "root/itself": root,
        "root/z/loop": root / "z",
        "elsewhere/deep/back": root,
        "elsewhere/.hidden": root,
        "root/broken": tmp_path / "nowhere",
        "root/file.png": tmp_path / "elsewhere" / "c.png",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    names = ["file.png", "outside/c.png", "outside/deep/b.png", "z/a.png"]
    assert [path.relative_to(root).as_posix() for path in list_images(root)] == names
    linked = tmp_path / "linked_root"
    linked.symlink_to(root)
    assert [path.relative_to(linked).as_posix() for path in list_images(linked)] == names


@pytest.mark.parametrize("name", ["", "train.lmdb/"])
def test_a_database_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    for file in ("data.mdb", "lock.mdb", "meta_info.txt"):
        (folder / file).touch()
    with pytest.raises(DataError, match=f"^{re.escape(str(folder))} is an LMDB database: give the folder of the image"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        *((suffix, "JPEG") for suffix in (".jpe", ".jfif", ".jif")),
        *((suffix, "PPM") for suffix in (".pnm", ".ppm", ".pgm", ".pbm")),
        *((".dib", form) for form in ("BMP", "DIB")),
        (".avif", "AVIF"),
    ],
)
def test_what_pillow_reads_by_content_is_found_and_read(suffix: str, form: str, tmp_path: Path) -> None:
    if form == "AVIF" and not ("avif" in features.modules and features.check("avif")):
        assert left_out(tmp_path) == {}
        pytest.skip("this Pillow reads no AVIF")
    image = Image.new("1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB", (9, 7), 1)
    image.save(tmp_path / f"a{suffix}", form)
    assert read_image(list_images(tmp_path)[0], 3).shape == (7, 9, 3)


def test_list_images_says_what_is_wrong_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nowhere does not exist: check the path"):
        list_images(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        list_images("sub/nowhere")
    place = f"{Path.cwd()}, the current working directory"
    assert str(caught.value) == f"folder {Path('sub/nowhere')} does not exist in {place}: check the path"
    (tmp_path / "file.png").touch()
    with pytest.raises(DataError, match=r"file\.png is not a folder"):
        list_images(tmp_path / "file.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no image: .*\.bmp .*\.jpeg"):
        list_images(tmp_path / "empty")


# --- read_image: modes ---


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_rgb_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path, 3)
    np.testing.assert_array_equal(image, RGB)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(read_image(path, 1)[:, :, 0], luma(RGB))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "pgm"])
def test_gray_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GRAY).save(path)
    np.testing.assert_array_equal(read_image(path, 1), GRAY[:, :, None])
    np.testing.assert_array_equal(read_image(path, 3), np.stack([GRAY] * 3, axis=2))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    alpha = np.full((5, 7), 0, np.uint8)
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png", 3), RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png", 1)[:, :, 0], luma(RGB))
    Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", 1)[:, :, 0], GRAY)
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", 3)[:, :, 2], GRAY)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(35))])
def test_palettes_are_resolved(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.new("P", (7, 5))
    image.putpalette(RGB.tobytes())
    image.putdata(range(35))
    image.save(tmp_path / "p.png", **({} if transparency is None else {"transparency": transparency}))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png", 3), RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png", 1)[:, :, 0], luma(RGB))


def test_one_bit_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(GRAY > 127).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_image(tmp_path / "one.png", 1)[:, :, 0], (GRAY > 127) * 255)
    np.testing.assert_array_equal(read_image(tmp_path / "one.png", 3)[:, :, 1], (GRAY > 127) * 255)
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "cmyk.tif", 3), RGB)


WORDS = np.array([[0, 128, 129, 256, 257], [32767, 32896, 65406, 65407, 65535]], np.uint16)
BYTES = np.array([[0, 0, 1, 1, 1], [127, 128, 254, 255, 255]], np.uint8)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4"])
def test_16_bit_gray_tiff_is_rounded(tmp_path: Path, dtype: str) -> None:
    Image.fromarray(WORDS.astype(dtype)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 1)[:, :, 0], BYTES)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 3)[:, :, 2], BYTES)


def test_16_bit_gray_png_and_pgm_are_rounded(tmp_path: Path) -> None:
    write_png16(tmp_path / "a.png", WORDS[:, :, None])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 1)[:, :, 0], BYTES)
    (tmp_path / "a.pgm").write_bytes(b"P5 5 2 65535\n" + WORDS.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm", 1)[:, :, 0], BYTES)


def test_16_bit_colour_loses_its_low_byte_in_pillow(tmp_path: Path) -> None:
    words = np.repeat(WORDS[:, :, None], 3, axis=2)
    write_png16(tmp_path / "rgb.png", words)
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png", 3), words >> 8)
    write_png16(tmp_path / "rgba.png", np.concatenate([words, words[:, :, :1]], axis=2))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png", 3), words >> 8)
    (tmp_path / "a.ppm").write_bytes(b"P6 5 2 65535\n" + words.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm", 3), np.repeat(BYTES[:, :, None], 3, axis=2))


def test_integers_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65536]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif has values from 0 to 65536: scale them to 16 bits"):
        read_image(tmp_path / "a.tif", 1)


def test_floating_point_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 0.1, 0.5, 1]], np.float32)).save(path)
    np.testing.assert_array_equal(read_image(path, 1)[:, :, 0], [[0, 26, 128, 255]])
    Image.fromarray(np.array([[0, 1.4, 127.5, 255]], np.float32)).save(path)
    np.testing.assert_array_equal(read_image(path, 3)[:, :, 1], [[0, 1, 128, 255]])
    for value in (-0.1, 255.5, np.nan):
        Image.fromarray(np.array([[0, value]], np.float32)).save(path)
        with pytest.raises(DataError, match=r"a\.tif: it has floating-point values from .*: scale them to \[0, 1\]"):
            read_image(path, 1)


# --- read_image: orientation, formats, frames ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # the top left quarter is white
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **({"quality": 100} if suffix != "png" else {}))
    image = read_image(path, 3)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() < 30


def test_exif_orientation_of_16_bit_gray(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(WORDS).copy()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 1)[:, :, 0], BYTES)


def test_the_content_decides_about_the_format(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg", 3), RGB)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB), Image.fromarray(RGB)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=rf"a\.{suffix} holds 3 frames"):
        read_image(path, 3)


def test_phone_photographs_with_a_second_view_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    views = [Image.new("RGB", (16, 8), "red"), Image.new("RGB", (16, 8), "blue")]
    views[0].save(path, format="MPO", save_all=True, append_images=views[1:])
    assert read_image(path, 3)[0, 0, 0] > 250


# --- bad files ---


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "ppm"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad.{suffix}"
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    for length in (len(content) // 2, 40, 3):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=rf"cannot read .*bad\.{suffix}: .*Replace or remove it"):
            read_image(path, 3)


def test_other_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    with pytest.raises(DataError, match=r"bad\.png: there is no such file"):
        read_image(path, 3)
    path.touch()
    with pytest.raises(DataError, match=r"bad\.png: the file is empty"):
        read_image(path, 3)
    path.write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"bad\.png: not an image of a known format"):
        read_image(path, 3)
    # EPS files would start Ghostscript.
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="not an image of a known format"):
        read_image(path, 3)
    with pytest.raises(DataError, match="cannot read"):
        read_image(tmp_path, 3)


def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (40, 25)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert read_image(path, 1).shape == (25, 40, 1), "where Pillow warns, and ours is the limit"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    monkeypatch.setenv("SWINLET_MAX_PIXELS", "1000")
    assert read_image(path, 1).shape == (25, 40, 1), "where Pillow would refuse"
    assert Image.MAX_IMAGE_PIXELS == 400, "as it was"
    monkeypatch.setenv("SWINLET_MAX_PIXELS", "999")
    for read in (image_size, is_gray, lambda path: read_image(path, 3)):
        with pytest.raises(
            DataError, match=r"bomb\.png: by its header it has more than 999 pixels.*SWINLET_MAX_PIXELS$"
        ):
            read(path)
    for wrong in ("x", "-1", "1e9", "9" * 20):
        monkeypatch.setenv("SWINLET_MAX_PIXELS", wrong)
        with pytest.raises(DataError, match="SWINLET_MAX_PIXELS: must be a whole number of pixels"):
            read_image(path, 1)


def test_warnings_of_pillow_do_not_leak_from_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(RGB).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    filters = list(warnings.filters)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                read_image(path, 3)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == filters, "the filters are as they were"


# --- save_image, tensors ---


@pytest.mark.parametrize("image", [RGB, GRAY[:, :, None], RGB[::-1, ::-1]])
def test_save_image_round_trip(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "new/folder/a.png"
    save_image(path, np.zeros((2, 2, 3), np.uint8))
    save_image(path, image)
    np.testing.assert_array_equal(read_image(path, image.shape[2]), image)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"], "no temporary file is left"


def test_save_image_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"a\.jpg: images are saved as PNG"):
        save_image(tmp_path / "a.jpg", RGB)
    with pytest.raises(TypeError, match="uint8, not float64"):
        save_image(tmp_path / "a.png", RGB / 255)
    with pytest.raises(ValueError, match=r"not \(5, 7\)"):
        save_image(tmp_path / "a.png", GRAY)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*a\.png"):
        save_image(tmp_path / "file/a.png", RGB)

    def full_disk(self: Image.Image, path: Path, format: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    save_image(tmp_path / "a.png", RGB)
    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(DataError, match=r"a\.png: .*No space left on device"):
        save_image(tmp_path / "a.png", 255 - RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), RGB)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.png", "file"]


def test_tensors() -> None:
    tensor = to_tensor(RGB[::-1])
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous()
    assert tensor.shape == (3, 5, 7)
    np.testing.assert_array_equal(to_uint8(tensor.float() / 255), RGB[::-1])
    frozen = GRAY[:, :, None].copy()
    frozen.flags.writeable = False
    to_tensor(frozen).zero_()
    np.testing.assert_array_equal(frozen[:, :, 0], GRAY, err_msg="the tensor is a copy")
    values = torch.tensor([-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 0.5, 1.0, 2.0]).reshape(1, 1, 7)
    result = to_uint8(values.requires_grad_())
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result[0, :, 0], [0, 0, 0, 1, 128, 255, 255])
    np.testing.assert_array_equal(to_uint8(torch.ones(1, 1, 1, dtype=torch.bfloat16)), [[[255]]])
