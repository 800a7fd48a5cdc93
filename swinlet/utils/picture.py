"""Pictures as people have them: with alpha, 16 bits, colour profiles and camera data, read and written whole."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from swinlet.errors import DataError
from swinlet.utils.image_io import FORMATS, opened, refuse_frames

LOGGER = logging.getLogger("swinlet")

Pixels = NDArray[np.unsignedinteger[Any]]
Format = Literal["PNG", "JPEG", "WEBP", "TIFF", "BMP"]

SUFFIXES: dict[str, Format] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Of files that are written, in lower case."""

# (alpha, 16 bits)
_HOLDS: dict[Format, tuple[bool, bool]] = {
    "PNG": (True, True),
    "TIFF": (True, True),
    "WEBP": (True, False),
    "BMP": (True, False),
    "JPEG": (False, False),
}
_NEAREST_MODE = {("WEBP", "L"): "RGB", ("WEBP", "LA"): "RGBA", ("BMP", "LA"): "RGBA"}
_LARGEST: dict[Format, int] = {"WEBP": 16383, "JPEG": 65500}  # side in pixels

_ORIENTATION, _EXIF, _GPS = 0x0112, 0x8769, 0x8825
_EXIF_WIDTH, _EXIF_HEIGHT = 0xA002, 0xA003
# Of the first directory of EXIF data; others tell how a TIFF file is laid out, or where its thumbnail is.
_KEPT = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298, _EXIF, _GPS)
_MAX_JPEG_EXIF = 65533 - 6


@dataclass(frozen=True)
class Picture:
    """A picture, upright.

    Attributes:
        colour: (h, w, 1) gray or (h, w, 3) RGB, uint8 or uint16, in the values of ``icc_profile``.
        alpha: (h, w) of the same dtype, not multiplied into the colour; None: opaque.
        icc_profile: what the colours mean; None: not said, sRGB.
        exif: of the camera, without orientation; None: there is none.
        format: of the file it was read from, by Pillow's names; None: of none.
    """

    colour: Pixels
    alpha: Pixels | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    format: str | None = None

    def __post_init__(self) -> None:
        is_image = self.colour.ndim == 3 and self.colour.shape[2] in (1, 3) and self.colour.size > 0
        if not is_image or self.colour.dtype.name not in ("uint8", "uint16"):
            raise ValueError(
                f"a picture is uint8 or uint16, (h, w, 1 or 3), not {self.colour.dtype}, {self.colour.shape}"
            )
        alpha = self.alpha
        if alpha is not None and (alpha.shape, alpha.dtype) != (self.colour.shape[:2], self.colour.dtype):
            raise ValueError(f"alpha has to be {self.colour.dtype}, {self.colour.shape[:2]}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.colour.shape[0], self.colour.shape[1]

    @property
    def planes(self) -> Pixels:
        """Colour and alpha in one array, (h, w, 1 to 4)."""
        return self.colour if self.alpha is None else np.dstack([self.colour, self.alpha])


def read_picture(path: str | os.PathLike[str], content: bytes | None = None) -> Picture:
    """Decode a PNG, JPEG, WebP, TIFF, BMP, PPM or GIF file.

    Gray stays gray, 16 bits stay 16 bits, palettes are resolved, CMYK becomes sRGB by its profile, 16-bit PPM becomes
    8-bit, and an MPO file counts as its first image.

    Args:
        path: the file. Its content decides about the format, not its suffix.
        content: what was read already; ``path`` is its name in messages.

    Raises:
        DataError: as ``read_image``; also for floating-point and 32-bit values.
    """
    with opened(path, content, (*FORMATS, "GIF")) as image:
        refuse_frames(image, path)
        if _is_deep(image):
            return _read_deep(image, path, content)
        try:
            return from_pil(image)
        except DataError as error:
            raise DataError(f"cannot read {path}: {error}") from error


def from_pil(image: Image.Image) -> Picture:
    """A picture from Pillow's: modes 1, L, P, RGB, with or without alpha, I;16, and CMYK, YCbCr, which become RGB.

    Raises:
        DataError: modes of other values (F, I, LAB, HSV).
    """
    profile = image.info.get("icc_profile")
    source = image
    if image.mode == "CMYK":
        image, profile = _from_cmyk(image, profile), None
    elif image.mode in ("P", "PA", "RGBX", "YCbCr") or "transparency" in image.info:
        image = image.convert(_plain_mode(image))
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "LA", "RGB", "RGBA") and not image.mode.startswith("I;16"):
        raise DataError(f"its pixels are of Pillow's mode {image.mode}: convert it to 8 or 16 bits, gray or RGB")
    planes = np.asarray(image)
    return _picture(planes if planes.dtype == np.uint8 else planes.astype(np.uint16), source, profile)


def to_pil(picture: Picture) -> Image.Image:
    """Pillow's picture of an 8-bit or a 16-bit gray one, its profile and camera data in ``info``.

    Raises:
        DataError: 16 bits with colour or alpha, for which Pillow has no mode.
    """
    planes = picture.planes
    if planes.dtype != np.uint8 and planes.shape[2] > 1:
        raise DataError("Pillow holds no 16-bit pictures with colour or alpha: use numpy arrays")
    image = Image.fromarray(planes[:, :, 0] if planes.shape[2] == 1 else planes)
    if picture.icc_profile is not None:
        image.info["icc_profile"] = picture.icc_profile
    if picture.exif is not None:
        image.info["exif"] = picture.exif
    return image


def encode(picture: Picture, form: Format, quality: int) -> bytes:
    """The content of an image file, with profile and camera data, which BMP cannot hold.

    Args:
        picture: is written as it is.
        form: the format.
        quality: of JPEG and WebP, 1 to 100; WebP of 100 is lossless.

    Raises:
        DataError: the format does not hold alpha, 16 bits, or so many pixels.
    """
    fault = refusal_of(form, picture.alpha is not None, picture.colour.dtype == np.uint16, picture.size)
    if fault is not None:
        raise DataError(fault)
    exif = _resized_exif(picture)
    if form == "TIFF":
        return _tiff(picture, exif)
    if picture.colour.dtype == np.uint16:
        return _deep_png(picture, exif)
    image = to_pil(picture)
    image = image.convert(_NEAREST_MODE.get((form, image.mode), image.mode))
    options: dict[str, Any] = {
        "PNG": {},
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "lossless": quality == 100},
        "BMP": {},
    }[form]
    if form == "JPEG" and exif is not None and len(exif) > _MAX_JPEG_EXIF:
        LOGGER.warning("camera data (EXIF) of %d bytes is left out: JPEG holds %d", len(exif), _MAX_JPEG_EXIF)
    elif exif is not None and form != "BMP":
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, form, icc_profile=picture.icc_profile, **options)
    return file.getvalue()


def refusal_of(form: Format, alpha: bool, deep: bool, size: tuple[int, int]) -> str | None:
    """Why a format does not hold a picture with alpha, of 16 bits, of a height and width; None: it does."""
    holds_alpha, holds_deep = _HOLDS[form]
    if alpha and not holds_alpha:
        return f"{form} has no transparency: choose PNG"
    if deep and not holds_deep:
        return f"{form} has 8 bits, the picture 16: choose PNG or TIFF"
    if max(size) > _LARGEST.get(form, max(size)):
        return f"{form} has at most {_LARGEST[form]} pixels a side, the picture {size[1]}x{size[0]}: choose PNG"
    return None


def _plain_mode(image: Image.Image) -> str:
    """The mode without palette or transparent colour."""
    has_alpha = image.mode == "PA" or "transparency" in image.info
    if image.mode in ("1", "L"):
        return "LA"
    return "RGBA" if has_alpha else "RGB"


def _from_cmyk(image: Image.Image, profile: bytes | None) -> Image.Image:
    """To sRGB, by the profile if it is a sound one of CMYK."""
    if profile is not None:
        try:
            target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))  # pyright: ignore[reportUnknownArgumentType]
            converted = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), target, outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            LOGGER.warning("the colour profile of a CMYK picture is damaged: converted without it")
        else:
            assert converted is not None
            return converted
    return image.convert("RGB")


def _picture(planes: NDArray[Any], image: Image.Image, profile: bytes | None) -> Picture:
    """From planes as stored, (h, w) or (h, w, 1 to 4), and what the file's header says."""
    planes = planes.reshape(*planes.shape[:2], -1)
    exif = _exif_of(image)
    planes = _upright(planes, exif.get(_ORIENTATION, 1))
    n_colours = 1 if planes.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(planes[:, :, n_colours]) if planes.shape[2] in (2, 4) else None
    kept = Image.Exif()
    for tag in _KEPT:
        if tag in exif:
            kept[tag] = exif.get_ifd(tag) if tag in (_EXIF, _GPS) else exif[tag]
    data = kept.tobytes() if len(kept) else None
    return Picture(np.ascontiguousarray(planes[:, :, :n_colours]), alpha, profile, data, image.format)


def _exif_of(image: Image.Image) -> Image.Exif:
    try:
        exif = image.getexif()
        for tag in (_EXIF, _GPS):
            exif.get_ifd(tag)
    except Exception:  # damaged camera data raises nearly anything, and is no reason to refuse the pixels
        LOGGER.warning("damaged camera data (EXIF) is left out")
        return Image.Exif()
    return exif


def _upright(planes: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply EXIF's orientation, 1 to 8; other values mean 1."""
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        planes = planes[::-1]
    if orientation in (2, 3, 6, 7):
        planes = planes[:, ::-1]
    return planes


def _is_deep(image: Image.Image) -> bool:
    """Whether a PNG or TIFF file has 16 bits a value, of which Pillow hands out 8 where there is colour or alpha."""
    if image.format == "PNG":
        tiles: Any = getattr(image, "tile", ())
        return any("16" in str(tile[3]) for tile in tiles)
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and set(tags.get(258, ())) == {16} and set(tags.get(339, (1,))) == {1}


def _read_deep(image: Image.Image, path: str | os.PathLike[str], content: bytes | None) -> Picture:
    import imagecodecs

    if content is None:
        content = Path(path).read_bytes()
    planes: NDArray[Any] = (imagecodecs.png_decode if image.format == "PNG" else imagecodecs.tiff_decode)(content)
    if planes.ndim == 3 and planes.shape[0] <= 4 and planes.shape[1:] == (image.height, image.width):
        planes = np.moveaxis(planes, 0, 2)  # a TIFF file plane by plane
    tags = getattr(image, "tag_v2", {})
    if tags.get(262) == 0:  # zero is white
        planes = 65535 - planes
    if image.format == "PNG":
        image.load()  # camera data may stand behind the pixels
    return _picture(planes.astype(np.uint16, copy=False), image, image.info.get("icc_profile"))


def _resized_exif(picture: Picture) -> bytes | None:
    """Camera data with the picture's own height and width."""
    if picture.exif is None:
        return None
    exif = Image.Exif()
    exif.load(picture.exif)
    details = exif.get_ifd(_EXIF)
    for tag, side in ((_EXIF_HEIGHT, picture.size[0]), (_EXIF_WIDTH, picture.size[1])):
        if tag in details:
            details[tag] = side
    return exif.tobytes()


def _deep_png(picture: Picture, exif: bytes | None) -> bytes:
    import imagecodecs

    content = bytes(imagecodecs.png_encode(np.ascontiguousarray(picture.planes)))
    after_header = 8 + 25  # signature; the chunk IHDR
    extra = b""
    if picture.icc_profile is not None:
        extra += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc_profile))
    if exif is not None:
        extra += _png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return content[:after_header] + extra + content[after_header:]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tiff(picture: Picture, exif: bytes | None) -> bytes:
    """A TIFF file of one deflated strip. Pillow writes no 16-bit colour, nor camera data beside deflated pixels."""
    height, width = picture.size
    planes = picture.planes
    depth = 8 * planes.dtype.itemsize
    data = zlib.compress(np.ascontiguousarray(planes.astype(f"<u{depth // 8}")).tobytes())
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    if exif is not None:
        camera = Image.Exif()
        camera.load(exif)
        for tag in camera:
            tags[tag] = camera.get_ifd(tag) if tag in (_EXIF, _GPS) else camera[tag]
    n_planes = planes.shape[2]
    tags[256], tags[257] = width, height
    tags[258] = (depth,) * n_planes
    tags[259] = 8  # deflate
    tags[262] = 1 if n_planes <= 2 else 2  # zero is black; RGB
    tags[273], tags[278], tags[279] = 0, height, len(data)  # begins behind the tags
    tags[277] = n_planes
    if picture.alpha is not None:
        tags[338] = (2,)  # not multiplied into the colour
    if picture.icc_profile is not None:
        tags[34675] = picture.icc_profile
    return b"II*\0" + struct.pack("<I", 8) + tags.tobytes(8) + data
