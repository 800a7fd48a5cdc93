"""Damaged and hostile images and prepared folders: 8-bit pixels, or one clear error."""

import io
import json
import os
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from swinlet.data.cache import cached
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.prepare import prepare
from swinlet.data.prepare_image import Request
from swinlet.data.prepared import map_array
from swinlet.errors import DataError
from swinlet.options import DatasetOptions
from swinlet.utils.console import ProgressBar
from swinlet.utils.image_io import image_size, is_gray, list_images, read_image
from swinlet.utils.picture import Format, Picture, encode, read_picture
from tests.fuzz import attempt, fuzz, mutated

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
PICTURE = Image.fromarray(RGB)


def encoded(image: Image.Image, form: str, **words: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **words)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
PROFILE = b"\0\0\2\x0cxxxx" + bytes(500)
PALETTE = PICTURE.quantize(16)
FLOAT = Image.fromarray(RGB[:, :, 0].astype(np.float32))
WORDS = Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257)
WORDS_ALPHA = RGB[:, :, 1].astype(np.uint16) * 257
FILES = {
    "png": [
        encoded(PICTURE, "PNG", exif=EXIF, icc_profile=PROFILE),
        encoded(PALETTE, "PNG", transparency=3),
        encoded(PICTURE.convert("1"), "PNG"),
        encoded(PICTURE.convert("LA"), "PNG"),
        encoded(WORDS, "PNG"),
        encoded(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(180)]),
    ],
    "jpg": [
        encoded(PICTURE, "JPEG", exif=EXIF, icc_profile=PROFILE),
        encoded(PICTURE, "JPEG", progressive=True),
        encoded(PICTURE.convert("CMYK"), "JPEG"),
        encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE]),
    ],
    "tif": [
        encoded(PICTURE, "TIFF", exif=EXIF),
        encoded(PICTURE, "TIFF", compression="tiff_lzw"),
        encoded(FLOAT, "TIFF"),
        encoded(WORDS, "TIFF"),
        encoded(PALETTE, "TIFF"),
        encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE]),
    ],
    "webp": [encoded(PICTURE, "WEBP"), encoded(PICTURE.convert("RGBA"), "WEBP", lossless=True, exif=EXIF)],
    "bmp": [encoded(PICTURE, "BMP"), encoded(PALETTE, "BMP")],
    "ppm": [encoded(PICTURE, "PPM"), b"P2 2 2 9 0 1 2 9", encoded(WORDS, "PPM")],
}


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        found.append((kind, png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file whose checksums are right, whatever is in it."""
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@st.composite
def damaged_chunks(draw: st.DrawFn) -> bytes:
    parts = chunks(draw(st.sampled_from(FILES["png"])))
    at = draw(st.integers(0, len(parts) - 1))
    kind, data = parts[at]
    if kind == b"IDAT" and draw(st.booleans()):
        data = zlib.compress(draw(mutated(zlib.decompress(data))))
    else:
        data = draw(mutated(data or b"\0"))
    parts[at] = (draw(st.sampled_from([kind, b"tEXt", b"iCCP", b"eXIf", b"acTL", b"tRNS"])), data)
    return png_of(parts)


def check(path: Path) -> None:
    """All readers, none of which may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        height, width = image_size(path)
        is_gray(path)
        for n_channels in (1, 3):
            pixels = read_image(path, n_channels)
            assert pixels.dtype == np.uint8
            assert pixels.shape in ((height, width, n_channels), (width, height, n_channels))
            assert pixels.size


@pytest.mark.parametrize(
    ("name", "contents"),
    [("chunks.png", damaged_chunks()), *((f"x.{suffix}", mutated(*files)) for suffix, files in FILES.items())],
)
def test_any_damage_is_pixels_or_an_error(
    name: str, contents: st.SearchStrategy[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name

    @fuzz(100)
    @given(contents)
    def try_one(content: bytes) -> None:
        path.write_bytes(content)
        message = attempt(f"images, damaged {name}", lambda: check(path), DataError)
        assert message is None or str(path) in message

    try_one()


DEEP = Picture(RGB.astype(np.uint16) * 257, WORDS_ALPHA, PROFILE, EXIF.tobytes())
PICTURES = {
    "deep.png": [encode(DEEP, "PNG", 95), encode(replace(DEEP, alpha=None), "PNG", 95), *FILES["png"]],
    "deep.tif": [encode(DEEP, "TIFF", 95), encode(replace(DEEP, alpha=None), "TIFF", 95), *FILES["tif"]],
    "x.gif": [encoded(PALETTE, "GIF"), encoded(PALETTE, "GIF", transparency=2)],
    "x.jpg": FILES["jpg"],
    "x.webp": FILES["webp"],
}


@pytest.mark.parametrize("name", PICTURES)
def test_any_damage_is_a_picture_or_an_error(name: str) -> None:
    def check_picture(content: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = read_picture(name, content)
            form: Format = "PNG" if picture.format == "GIF" else "TIFF"
            again = read_picture("again", encode(picture, form, 95))
        assert np.array_equal(again.planes, picture.planes)

    @fuzz(100)
    @given(mutated(*PICTURES[name]))
    def try_one(content: bytes) -> None:
        message = attempt(f"pictures, damaged {name}", lambda: check_picture(content), DataError)
        assert message is None or name in message

    try_one()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "images").mkdir()
    PICTURE.save(folder / "images" / "a.png")
    prepare(Request(folder / "images", scale=2), folder / "out", ProgressBar())
    return folder / "out"


def sample(folder: Path) -> None:
    for phase in ("train", "test"):
        dataset = DatasetSR(folder, scale=2, phase=phase, H_size=8)  # pyright: ignore[reportArgumentType]
        assert dataset[0]["H"].shape[0] == 3


@pytest.mark.parametrize("what", ["index.json", "H", "L"])
def test_any_damage_of_a_prepared_folder_is_samples_or_an_error(
    what: str, prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "out"
    (folder / "arrays").mkdir(parents=True)
    index = json.loads((prepared / "index.json").read_bytes())
    images = {key: index["images"][0][key] for key in ("H", "L")}
    original = (
        prepared / "index.json" if what == "index.json" else prepared / "arrays" / images[what]["file"]
    ).read_bytes()
    count = iter(range(10**9))

    @fuzz(100)
    @given(mutated(original))
    def try_one(content: bytes) -> None:
        # Each case its own names, as maps are kept by name; the index knows size and checksum, as a stranger's would.
        number = next(count)
        told = json.loads(json.dumps(index))
        for key, entry in images.items():
            data = content if key == what else (prepared / "arrays" / entry["file"]).read_bytes()
            name = entry["file"] if what == "index.json" else f"{key}{number}.npy"
            (folder / "arrays" / name).write_bytes(data)
            told["images"][0][key] |= {"file": name, "size": len(data)}
        (folder / "index.json").write_bytes(content if what == "index.json" else json.dumps(told).encode())
        attempt(f"prepared folders, {what}", lambda: sample(folder), DataError)
        for path in (folder / "arrays").iterdir():
            path.unlink()

    try_one()


# Found by fuzzing, or by thought


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    message = attempt("images, by hand", lambda: check(path), DataError)
    assert message is not None
    return message


def with_chunk(kind: bytes, data: bytes) -> bytes:
    first, *rest = chunks(FILES["png"][2])
    return png_of([first, (kind, data), *rest])


def header(width: int, height: int) -> bytes:
    return png_of([(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks(FILES["png"][0])[1:]])


@pytest.mark.parametrize(("width", "height"), [(2**31 - 1, 2**31 - 1), (10_000, 10_000), (1, 2**31 - 1)])
def test_headers_that_claim_much_are_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    assert "more than 89,478,485 pixels" in refused(tmp_path / "x.png", header(width, height))


def test_bombs_of_all_formats(tmp_path: Path) -> None:
    bmp = bytearray(FILES["bmp"][0])
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    assert "more than 89,478,485 pixels" in refused(tmp_path / "x.bmp", bytes(bmp))
    assert "more than 89,478,485 pixels" in refused(tmp_path / "x.ppm", b"P6 99999 99999 255\n" + bytes(100))
    bomb = zlib.compress(bytes(10**8))
    assert "x.png" in refused(tmp_path / "x.png", with_chunk(b"iTXt", b"a\0\1\0\0\0" + bomb))


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (5, 0)])
def test_images_without_pixels_are_refused(tmp_path: Path, width: int, height: int) -> None:
    assert "x.png" in refused(tmp_path / "x.png", header(width, height))
    assert "x.ppm" in refused(tmp_path / "x.ppm", b"P6 %d %d 255\n" % (width, height))


def test_one_pixel(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "tif", "webp", "ppm"):
        Image.new("RGB", (1, 1), "white").save(tmp_path / f"x.{suffix}")
        assert read_image(tmp_path / f"x.{suffix}", 3).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("kind", [b"eXIf", b"iCCP", b"tEXt", b"gAMA", b"pHYs"])
def test_damage_beside_the_pixels_spoils_no_image(tmp_path: Path, kind: bytes) -> None:
    damaged = b"name\0\0damaged" if kind == b"iCCP" else b"MM\0\x2a\xff\xff\xff\xff" + bytes(8)
    (tmp_path / "x.png").write_bytes(with_chunk(kind, damaged))
    check(tmp_path / "x.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_refused_and_waited_for_by_nobody(tmp_path: Path, prepared: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match="it is a pipe or a device"):
        read_image(tmp_path / "x.png", 3)
    section = DatasetOptions(dataroot_H=tmp_path)
    assert cached(section, 2, 3, "datasets.train") is None
    with pytest.raises(DataError, match="it is a pipe or a device"):
        DatasetSR(tmp_path, scale=2, phase="test")
    with pytest.raises(DataError, match="it is a pipe or a device"):
        prepare(Request(tmp_path, scale=2), tmp_path / "out", ProgressBar())
    (tmp_path / "piped" / "arrays").mkdir(parents=True)
    (tmp_path / "piped" / "index.json").write_bytes((prepared / "index.json").read_bytes())
    for path in (prepared / "arrays").iterdir():
        os.mkfifo(tmp_path / "piped" / "arrays" / path.name)
    with pytest.raises(DataError, match="bytes instead of"):
        sample(tmp_path / "piped")


def test_a_folder_name_that_no_disk_can_hold() -> None:
    with pytest.raises(DataError, match="does not exist"):
        list_images("x" * 300)


@pytest.mark.parametrize("name", ["../../precious", "/tmp/precious", "sub/x.npy", "..", ""])
def test_an_index_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    """Preparing again removes arrays of another size, by the names in the index."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    PICTURE.save(images / "a.png")
    (tmp_path / "precious").write_text("x")
    prepare(Request(images, scale=2), out, ProgressBar())
    index = json.loads((out / "index.json").read_bytes())
    index["images"][0]["H"]["file"] = name
    (out / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        prepare(Request(images, scale=2), out, ProgressBar())
    assert (tmp_path / "precious").is_file()


def test_an_array_of_other_values_is_refused(tmp_path: Path, prepared: Path) -> None:
    index = json.loads((prepared / "index.json").read_bytes())
    (tmp_path / "arrays").mkdir()
    for key in ("H", "L"):
        np.save(tmp_path / "arrays" / f"{key}.npy", np.zeros((3, 3, 3), np.float64 if key == "L" else np.uint8))
        size = (tmp_path / "arrays" / f"{key}.npy").stat().st_size
        index["images"][0][key] |= {"file": f"{key}.npy", "size": size}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"H\.npy: changed since .*: 3x3x3 values, not 12x16x3"):
        sample(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x93NUMPY\1\0\x30\0{'descr': '|u1', 'fortran_order': False, (" + bytes(8), r"it is damaged \(TokenError\)"),
        (b"", "it is no .npy file"),
        (b"PK\3\4" + bytes(50), "it is no .npy file"),
    ],
)
def test_arrays_whose_header_is_damaged(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot read the prepared image .*x\.npy: {reason}"):
        map_array(tmp_path / "x.npy")


def test_arrays_of_something_else(tmp_path: Path) -> None:
    for wrong in (np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8), np.array({}, dtype=object)):
        np.save(tmp_path / "x.npy", wrong)
        with pytest.raises(DataError, match=r"cannot read the prepared image .*x\.npy"):
            map_array(tmp_path / "x.npy")


def test_a_file_of_another_size_in_its_place(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    dataset = DatasetSR(tmp_path, scale=2, phase="train", H_size=8)
    PICTURE.resize((9, 9)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: changed since the data set was checked: 9x9x3 values, not 12x16x3"):
        dataset[0]
