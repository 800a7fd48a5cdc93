"""Pictures in and out of files: alpha, gray, 16 bits, profiles, camera data."""

import io
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tifffile
from hypothesis import given
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from swinlet.errors import DataError
from swinlet.utils.image_io import read_image
from swinlet.utils.picture import (
    SUFFIXES,
    Format,
    Picture,
    _deep_png,
    _png_chunk,
    encode,
    from_pil,
    opaque,
    read_picture,
    to_pil,
)
from tests.fuzz import fuzz, mutated

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def some(channels: int, dtype: Any = np.uint8, alpha: bool = False) -> Picture:
    rng = np.random.default_rng(channels)
    colour = rng.integers(0, np.iinfo(dtype).max, (5, 8, channels), dtype, endpoint=True)
    hidden = rng.integers(0, np.iinfo(dtype).max, (5, 8), dtype, endpoint=True) if alpha else None
    return Picture(colour, hidden, SRGB, camera_data())


def camera_data(orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8769).update({0x829A: 0.5, 0xA002: 4000, 0xA003: 3000})
    exif.get_ifd(0x8825)[1] = "N"
    if orientation is not None:
        exif[0x0112] = orientation
    return exif.tobytes()


def check_camera_data(picture: Picture) -> None:
    assert picture.exif is not None
    exif = Image.Exif()
    exif.load(picture.exif)
    assert exif[0x010F] == "a camera"
    assert exif.get_ifd(0x8769)[0x829A] == 0.5
    assert exif.get_ifd(0x8825)[1] == "N"
    assert (exif.get_ifd(0x8769)[0xA003], exif.get_ifd(0x8769)[0xA002]) == picture.size
    assert exif.get(0x0112, 1) == 1


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_lossless_formats_keep_all(tmp_path: Path, form: Format, dtype: Any, channels: int, alpha: bool) -> None:
    picture = some(channels, dtype, alpha)
    content = encode(picture, form, 95)
    if form == "TIFF" and dtype == np.uint16 and alpha and channels == 1:  # Pillow opens no such files
        picture = replace(picture, colour=picture.colour.repeat(3, 2))
    path = tmp_path / "any"
    path.write_bytes(content)
    read = read_picture(path)
    assert read.colour.dtype == dtype
    assert np.array_equal(read.planes, picture.planes)
    assert (read.alpha is None) is not alpha
    assert (read.icc_profile, read.format) == (SRGB, form)
    check_camera_data(read)
    with Image.open(path) as image:  # others read it, too
        assert image.info["icc_profile"] == SRGB
        assert image.getexif()[0x010F] == "a camera"


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_formats_keep_profile_and_camera_data(form: Format) -> None:
    for channels in (1, 3):
        smooth = np.full((16, 16, channels), 100, np.uint8)
        read = read_picture("any", encode(Picture(smooth, None, SRGB, camera_data()), form, 95))
        assert read.colour.shape[2] == (3 if form == "WEBP" else channels)
        assert np.abs(read.colour.astype(int) - 100).max() <= 1
        assert read.icc_profile == SRGB
        check_camera_data(read)


def test_webp_without_loss_keeps_alpha_and_bmp_keeps_pixels() -> None:
    picture = some(3, alpha=True)
    assert np.array_equal(read_picture("any", encode(picture, "WEBP", 100)).planes, picture.planes)
    assert not np.array_equal(read_picture("any", encode(picture, "WEBP", 90)).planes, picture.planes)
    for channels in (1, 3):
        picture = some(channels)
        read = read_picture("any", encode(picture, "BMP", 95))
        assert np.array_equal(read.colour, picture.colour)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_pictures_are_turned_upright_as_pillow_does(form: str, orientation: int) -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    file = io.BytesIO()
    image.save(file, form, exif=camera_data(orientation))
    with Image.open(file) as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    read = read_picture("any", file.getvalue())
    assert np.array_equal(read.colour[:, :, 0], upright)
    assert read.exif is not None
    again = read_picture("any", encode(read, "PNG", 95))
    assert np.array_equal(again.colour, read.colour)
    check_camera_data(again)


def test_a_16_bit_picture_is_turned_upright() -> None:
    planes = np.arange(18, dtype=np.uint16).reshape(2, 3, 3) * 3000
    content = _deep_png(Picture(planes), camera_data(6))
    assert np.array_equal(read_picture("any", content).colour, np.rot90(planes, -1))


FORMS: tuple[Format, ...] = ("TIFF", "PNG", "JPEG", "WEBP")
TEXT = "Jörg Müller ©".encode()
NOTES = bytes(range(256))


def raw_camera_data(order: str) -> bytes:
    """EXIF of a camera: text in UTF-8, orientation 6, a thumbnail, notes."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    details = struct.pack(f"{order}H", 3) + b"".join(
        [
            struct.pack(f"{order}HHIHH", 0xA002, 3, 1, 4000, 0),
            struct.pack(f"{order}HHIHH", 0xA003, 3, 1, 3000, 0),
            struct.pack(f"{order}HHII", 0x927C, 7, len(NOTES), 200),
        ]
    )
    first = struct.pack(f"{order}H", 3) + b"".join(
        [
            struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 6, 0),
            struct.pack(f"{order}HHII", 0x013B, 2, len(TEXT) + 1, 150),
            struct.pack(f"{order}HHII", 0x8769, 4, 1, 80),
        ]
    )
    thumbnail = struct.pack(f"{order}I", 500)
    content = (mark + struct.pack(f"{order}I", 8) + first + thumbnail).ljust(80, b"\0") + details + bytes(4)
    return b"Exif\0\0" + content.ljust(150, b"\0") + TEXT + bytes(50 - len(TEXT)) + NOTES


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_camera_data_keep_their_bytes(form: Format, order: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 2)).save(file, form, exif=raw_camera_data(order))
    read = read_picture("any", file.getvalue())
    assert read.size == (4, 2)  # turned upright
    written = read_picture("any", encode(replace(read, colour=np.zeros((9, 70000, 3), np.uint8)), "PNG", 95)).exif
    assert written is not None
    before = raw_camera_data(order)
    assert len(written) == len(before)
    exif = Image.Exif()
    exif.load(written)
    assert exif[0x0112] == 1
    assert exif.get_ifd(0x8769)[0xA002] == 70000
    assert exif.get_ifd(0x8769)[0xA003] == 9
    assert exif.get_ifd(1) == {}
    changed = {i for i, (one, other) in enumerate(zip(before, written, strict=True)) if one != other}
    assert max(changed) < 150  # text, notes and their places are as they were


@fuzz(300)
@given(mutated(raw_camera_data("<"), raw_camera_data(">"), camera_data(6)))
def test_damaged_camera_data_never_cost_the_picture(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = Picture(np.zeros((2, 3, 3), np.uint8), None, None, data)
        for form in FORMS:
            assert read_picture("any", encode(picture, form, 95)).size == (2, 3)


def test_text_of_camera_data_survives_tiff() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 2)).save(file, "JPEG", exif=raw_camera_data("<"))
    tiff = encode(read_picture("any", file.getvalue()), "TIFF", 95)
    assert TEXT in tiff
    assert TEXT in encode(read_picture("any", tiff), "PNG", 95)


def deep_tiff(planes: Any, **words: Any) -> Picture:
    file = io.BytesIO()
    tifffile.imwrite(file, planes, **words)
    return read_picture("any", file.getvalue())


class TestDeepTiff:
    PLANES = some(3, np.uint16).colour

    @pytest.mark.parametrize("shape", [(5, 8), (3, 3), (4, 4)])
    @pytest.mark.parametrize("byteorder", "<>")
    def test_plane_by_plane(self, shape: tuple[int, int], byteorder: Any) -> None:
        planes = np.arange(shape[0] * shape[1] * 3, dtype=np.uint16).reshape(*shape, 3) * 400
        words: dict[str, Any] = {"photometric": "rgb", "byteorder": byteorder}
        assert np.array_equal(deep_tiff(planes, **words).colour, planes)
        by_plane = np.moveaxis(planes, 2, 0)
        assert np.array_equal(deep_tiff(by_plane, planarconfig="separate", **words).colour, planes)
        turned = deep_tiff(by_plane, planarconfig="separate", extratags=[(274, 3, 1, 6, True)], **words)
        assert np.array_equal(turned.colour, np.rot90(planes, -1))

    def test_alpha_that_is_multiplied_with_colours(self) -> None:
        alpha = np.full((5, 8, 1), 65535 // 3, np.uint16)
        stored = np.dstack([self.PLANES // 3, alpha])
        read = deep_tiff(stored, photometric="rgb", extrasamples=["assocalpha"])
        assert np.abs(read.colour.astype(int) - self.PLANES).max() <= 3
        assert read.alpha is not None
        assert np.array_equal(read.alpha, alpha[:, :, 0])

    def test_a_sample_that_is_no_alpha(self) -> None:
        stored = np.dstack([self.PLANES, self.PLANES[:, :, :1]])
        read = deep_tiff(stored, photometric="rgb", extrasamples=["unspecified"])
        assert np.array_equal(read.planes, self.PLANES)

    def test_zero_is_white(self) -> None:
        read = deep_tiff(self.PLANES[:, :, 0], photometric="miniswhite")
        assert np.array_equal(read.colour[:, :, 0], 65535 - self.PLANES[:, :, 0])


def test_16_bit_gray_of_pillow() -> None:
    gray = np.array([[0, 300], [40000, 65535]], np.uint16)
    image = Image.fromarray(gray)
    assert np.array_equal(from_pil(image).colour[:, :, 0], gray)
    image.info["transparency"] = 300
    assert from_pil(image).planes.tolist() == [[[0, 65535], [300, 0]], [[40000, 65535], [65535, 65535]]]
    pgm = b"P5 2 2 65535 " + gray.astype(">u2").tobytes()
    assert np.array_equal(read_picture("any", pgm).colour[:, :, 0], gray)
    with pytest.raises(DataError, match="values from 0 to 70000"):
        from_pil(Image.fromarray(np.array([[0, 70000]], np.int32)))


def test_a_palette_of_grays_is_gray() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[5, 80, 200]], np.uint8)).save(file, "GIF")
    assert read_picture("any", file.getvalue()).colour.tolist() == [[[5], [80], [200]]]


def test_profiles_that_do_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    gray = replace(some(1), icc_profile=bytes(16) + b"GRAY" + bytes(100))
    assert read_picture("any", encode(gray, "WEBP", 95)).icc_profile is None
    assert "gray colour profile is left out" in caplog.text
    assert read_picture("any", encode(gray, "PNG", 95)).icc_profile == gray.icc_profile
    large = replace(some(3), icc_profile=np.random.default_rng(0).bytes(2_000_000))
    assert read_picture("any", encode(large, "PNG", 95)).icc_profile is None
    assert "profile of 2000000 bytes is left out" in caplog.text


def test_alpha_that_hides_nothing_is_needless() -> None:
    picture = some(3, alpha=True)
    assert opaque(picture) is picture
    full = replace(picture, alpha=np.full((5, 8), 255, np.uint8))
    assert opaque(full).alpha is None


def test_images_without_pixels_or_that_break_off() -> None:
    with pytest.raises(DataError, match="no pixels"):
        from_pil(Image.new("RGB", (0, 3)))
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    content = encode(Picture(noise), "BMP", 95)
    with Image.open(io.BytesIO(content[:1000])) as image, pytest.raises(DataError, match="truncated"):
        from_pil(image)


def test_palettes_and_transparent_colours_are_resolved() -> None:
    palette = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    plain = from_pil(palette)
    assert plain.alpha is None
    assert plain.colour[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    file = io.BytesIO()
    palette.save(file, "GIF", transparency=1)
    read = read_picture("any", file.getvalue())
    assert read.alpha is not None
    assert read.alpha.tolist() == [[255, 0], [0, 255]]
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 9]], np.uint8)).save(file, "PNG", transparency=9)
    assert read_picture("any", file.getvalue()).planes.tolist() == [[[0, 255], [9, 0]]]
    bits = from_pil(Image.fromarray(np.array([[True, False]])))
    assert bits.colour.tolist() == [[[255], [0]]]


def test_cmyk_becomes_rgb_with_and_without_a_profile(caplog: pytest.LogCaptureFixture) -> None:
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert from_pil(image).colour[0, 0].tolist() == [255, 0, 0]
    image.info["icc_profile"] = b"damaged"
    assert from_pil(image).colour[0, 0].tolist() == [255, 0, 0]
    assert "CMYK picture is damaged" in caplog.text
    assert from_pil(image).icc_profile is None


def test_damaged_camera_data_does_not_matter(caplog: pytest.LogCaptureFixture) -> None:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    read = read_picture("any", file.getvalue())
    assert read.size == (2, 2)
    assert read.exif is None


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tiff"])
def test_animated_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving{suffix}"
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "green")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 3 frames: save the one that is meant"):
        read_picture(path)


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    for content, message in [
        (b"", "the file is empty"),
        (b"only text", "not an image of a known format"),
        (encode(some(3), "PNG", 95)[:-60], "cannot read"),
        (encode(some(3, np.uint16), "PNG", 95)[:-60], "cannot read"),
        (encode(some(3, np.uint16), "TIFF", 95)[:60], "cannot read"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_picture(path)


def tiff(bits: int, planes: Any, photometric: int, *, planar: bool = False, kind: int = 1, extra: int = 2) -> bytes:
    """An uncompressed TIFF file of integers of so many bits, (h, w, C), or of another sample format (``kind``)."""
    height, width, channels = planes.shape
    rows = planes.transpose(2, 0, 1).reshape(-1, width) if planar else planes.reshape(height, -1)
    if kind == 1:
        texts = ("".join(f"{value:0{bits}b}" for value in row) for row in rows.tolist())
        data = b"".join(
            int(text.ljust(-len(text) // 8 * -8, "0"), 2).to_bytes(-(-len(text) // 8), "big") for text in texts
        )
    else:
        data = rows.astype(rows.dtype.newbyteorder(">")).tobytes()
    n_strips = channels if planar else 1
    size = len(data) // n_strips
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"MM")
    tags[256], tags[257], tags[258], tags[259] = width, height, (bits,) * channels, 1
    tags[262], tags[277], tags[278], tags[284], tags[339] = (
        photometric,
        channels,
        height,
        1 + planar,
        (kind,) * channels,
    )
    tags[273], tags[279] = tuple(i * size for i in range(n_strips)), (size,) * n_strips  # begins behind the tags
    tags[274], tags[34675] = 6, b"profile"
    if channels in (2, 4):
        tags[338] = (extra,)
    return b"MM\0*" + struct.pack(">I", 8) + tags.tobytes(8) + data


DEEP = [2, 4, 6, 10, 12, 14, 16]


@pytest.mark.parametrize(
    ("channels", "photometric", "planar"),
    [(1, 0, False), (1, 1, False), *((n, m, planar) for n, m in ((2, 1), (3, 2), (4, 2)) for planar in (False, True))],
)
@pytest.mark.parametrize("bits", DEEP)
def test_full_scale_of_tiff_is_full_scale(
    bits: int, channels: int, photometric: int, planar: bool, tmp_path: Path
) -> None:
    """Pillow hands out 12-bit gray at 1/16 of its brightness, 16-bit white-is-zero inverted, and refuses others."""
    largest = (1 << bits) - 1
    values = np.array([[0, 1, largest // 2, largest - 1, largest], [largest] * 5])[:, :, None].repeat(channels, axis=2)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(bits, values, photometric, planar=planar))
    picture = read_picture(path)
    peak = 255 if bits < 8 else 65535
    expected = np.rint(values * (peak / largest)).astype(int)
    if photometric == 0:
        expected = peak - expected
    turned = np.rot90(expected, -1)  # upright
    assert np.array_equal(picture.planes, turned)
    assert picture.icc_profile == b"profile"
    eight = np.floor(turned / peak * 255 + 0.5).astype(int)
    n_colours = 3 if photometric == 2 else 1
    difference = np.abs(read_image(path, 3).astype(int) - eight[:, :, :n_colours])
    assert difference.max() == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("channels", "photometric"), [(1, 0), (1, 1), (3, 2), (4, 2)])
@pytest.mark.parametrize("peak", [1, 255])
def test_floating_point_tiff(dtype: Any, channels: int, photometric: int, peak: int, tmp_path: Path) -> None:
    values = np.array([[0, 0.25, 0.5, 1]], dtype)[:, :, None].repeat(channels, axis=2)
    values[:, :, : 3 if channels == 4 else channels] *= peak
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(values.itemsize * 8, values, photometric, kind=3))
    expected = np.array([65535, 49152, 32768, 0] if photometric == 0 else [0, 16384, 32768, 65535])
    picture = read_picture(path)
    assert picture.planes.shape == (4, 1, channels)
    assert np.abs(picture.planes[:, 0].astype(int) - expected[:, None]).max() <= 1
    assert np.abs(read_image(path, 1)[:, 0, 0].astype(int) - np.rint(expected / 257)).max() <= 1
    for wrong in (-0.5, 300, np.nan):
        values[0, 0, 0] = wrong
        path.write_bytes(tiff(values.itemsize * 8, values, photometric, kind=3))
        for read in (read_picture, lambda path: read_image(path, 3)):
            with pytest.raises(DataError, match=r"x.tif: it has floating-point values from .* to .*: scale them to"):
                read(path)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_premultiplied_tiff(dtype: Any) -> None:
    values = np.array([[[0.25, 0.5, 0, 0.5], [0, 0, 0, 0]]])
    values = values.astype(dtype) if dtype == np.float32 else np.rint(values * 65534).astype(int)
    kind = 3 if dtype == np.float32 else 1
    planes = read_picture("x", tiff(32 if kind == 3 else 16, values, 2, kind=kind, extra=1)).planes
    assert np.abs(planes[:, 0].astype(int) - [[32768, 65535, 0, 32768], [0, 0, 0, 0]]).max() <= 2


@pytest.mark.parametrize(
    ("bits", "kind", "channels", "photometric", "text"),
    [
        (24, 1, 3, 2, "3 x 24 bits"),
        (32, 1, 3, 2, "3 x 32 bits"),
        (16, 2, 3, 2, "3 x 16 signed bits"),
        (16, 1, 4, 5, "4 x 16 bits"),
        (16, 1, 3, 6, "3 x 16 bits"),
    ],
)
def test_tiff_that_is_not_read_is_named(bits: int, kind: int, channels: int, photometric: int, text: str) -> None:
    dtype = {2: np.int16}.get(kind, int)
    content = tiff(bits, np.zeros((2, 3, channels), dtype), photometric, kind=kind)
    with pytest.raises(DataError, match=f"cannot read x: it is a TIFF file of {text}: convert it to 8 or 16 bits"):
        read_picture("x", content)


def png(bits: int, colour_type: int, row: list[int], transparent: bytes, palette: bytes = b"") -> bytes:
    """A PNG file of one row of four pixels, with a chunk tRNS."""
    digits = "".join(f"{value:0{bits}b}" for value in row)
    data = b"\0" + int(digits.ljust(-len(digits) // 8 * -8, "0"), 2).to_bytes(-(-len(digits) // 8), "big")
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 4, 1, bits, colour_type, 0, 0, 0),
        b"PLTE": palette,
        b"tRNS": transparent,
        b"IDAT": zlib.compress(data),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*it) for it in chunks.items() if it[1] or it[0] == b"IEND")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_gray_of_png(bits: int) -> None:
    """Pillow compares scaled pixels with an unscaled value: of 4 bits nothing was transparent."""
    largest = (1 << bits) - 1
    row = [0, 1, largest // 2, largest]
    for hidden in row:
        picture = read_picture("x", png(bits, 0, row, struct.pack(">H", hidden)))
        peak = 65535 if bits == 16 else 255
        assert picture.colour[0, :, 0].tolist() == [value * (peak // largest) for value in row]
        assert picture.alpha is not None
        assert picture.alpha[0].tolist() == [0 if value == hidden else peak for value in row]


@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_colour_of_png(bits: int) -> None:
    largest = (1 << bits) - 1
    pixels = [[0, 0, 0], [largest, 1, 2], [largest, 1, 3], [largest] * 3]
    picture = read_picture(
        "x", png(bits, 2, [value for pixel in pixels for value in pixel], struct.pack(">HHH", largest, 1, 2))
    )
    assert picture.colour[0].tolist() == pixels
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == [largest, 0, largest, largest]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_transparent_palette_of_png(bits: int) -> None:
    palette = np.arange(10, 22, dtype=np.uint8).reshape(4, 3)[: min(4, 1 << bits)]
    row = [0, 1, 0, 1] if bits == 1 else [0, 1, 2, 3]
    picture = read_picture("x", png(bits, 3, row, bytes([255, 0, 100][: len(palette)]), palette.tobytes()))
    assert picture.colour[0].tolist() == palette[row].tolist()
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == [[255, 0, 100, 255][value] for value in row]


@pytest.mark.parametrize(
    ("form", "picture", "message"),
    [
        ("JPEG", some(3, alpha=True), "JPEG has no transparency: choose PNG"),
        ("BMP", some(1, alpha=True), "BMP has no transparency: choose PNG"),
        ("JPEG", some(3, np.uint16), "JPEG has 8 bits, the picture 16: choose PNG or TIFF"),
        ("WEBP", some(1, np.uint16), "WEBP has 8 bits"),
        (
            "WEBP",
            Picture(np.zeros((1, 16384, 3), np.uint8)),
            "WEBP has at most 16383 pixels a side, the picture 16384x1",
        ),
    ],
)
def test_formats_that_do_not_hold_a_picture(form: Format, picture: Picture, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode(picture, form, 95)


def test_every_format_has_a_suffix() -> None:
    assert set(SUFFIXES.values()) == set(get_args(Format))


def test_pillow_has_no_deep_colours() -> None:
    with pytest.raises(DataError, match="use numpy arrays"):
        to_pil(some(3, np.uint16))
    deep = some(1, np.uint16)
    assert np.array_equal(from_pil(to_pil(deep)).colour, deep.colour)


@pytest.mark.parametrize(
    ("colour", "alpha"),
    [
        (np.zeros((2, 2), np.uint8), None),
        (np.zeros((2, 2, 4), np.uint8), None),
        (np.zeros((2, 2, 3)), None),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), np.uint8)),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint16)),
    ],
)
def test_what_is_no_picture(colour: Any, alpha: Any) -> None:
    with pytest.raises(ValueError, match=r"a picture is uint8|alpha has to be"):
        Picture(colour, alpha)
