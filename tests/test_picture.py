"""Pictures in and out of files: alpha, gray, 16 bits, profiles, camera data."""

import io
import struct
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tifffile
from hypothesis import given
from PIL import Image, ImageCms, ImageOps

from swinlet.errors import DataError
from swinlet.utils.picture import SUFFIXES, Format, Picture, _deep_png, encode, from_pil, opaque, read_picture, to_pil
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
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.float32)).save(file, "TIFF")
    with pytest.raises(DataError, match=r"cannot read any: its pixels are of Pillow.s mode F"):
        read_picture("any", file.getvalue())


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
