"""Pictures as people have them: with alpha, 16 bits, colour profiles and camera data, read and written whole."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from swinlet.errors import DataError
from swinlet.utils.camera_data import camera_data_of, orientation_of, sized, tiff_tags
from swinlet.utils.image_io import FORMATS, deep_tiff, opened, refuse_frames

LOGGER = logging.getLogger("swinlet")

Pixels = NDArray[np.unsignedinteger[Any]]
Format = Literal["PNG", "JPEG", "WEBP", "TIFF", "BMP"]

SUFFIXES: dict[str, Format] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".jif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".dib": "BMP",
}
"""Of files that are written, in lower case."""

# (alpha, 16 bits)
_HOLDS: dict[Format, tuple[bool, bool]] = {
    "PNG": (True, True),
    "TIFF": (True, True),
    "WEBP": (True, False),
    "BMP": (False, False),
    "JPEG": (False, False),
}
HOLD_ALPHA = frozenset(form for form, (alpha, _) in _HOLDS.items() if alpha)
_NEAREST_MODE = {("WEBP", "L"): "RGB", ("WEBP", "LA"): "RGBA"}
_LARGEST: dict[Format, int] = {"WEBP": 16383, "JPEG": 65500}  # side in pixels

_MAX_PNG_PROFILE = 1 << 20  # bytes that Pillow unpacks
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

    Gray stays gray, 16 bits stay 16 bits, 9 to 15 bits and floating point in TIFF become 16 bits, palettes are
    resolved, CMYK becomes sRGB by its profile, 16-bit PPM becomes 8-bit, and an MPO file counts as its first image.

    Args:
        path: the file. Its content decides about the format, not its suffix.
        content: what was read already; ``path`` is its name in messages.

    Raises:
        DataError: as ``read_image``; also for 32-bit integers beyond 65535.
    """
    with opened(path, content, (*FORMATS, "GIF")) as image:
        refuse_frames(image, path)
        if (deep := deep_tiff(image, path, content)) is not None:
            return _picture(_whole_numbers(deep.planes()), image, image.info.get("icc_profile"))
        return _read_deep_png(image, path, content) if _is_deep_png(image) else from_pil(image)


def from_pil(image: Image.Image) -> Picture:
    """A picture from Pillow's: modes 1, L, P, RGB, with or without alpha, I;16, and CMYK, YCbCr, which become RGB.

    A palette of grays becomes gray.

    Raises:
        DataError: modes of other values (F, LAB, HSV; I beyond 16 bits), no pixels, or a file that breaks off.
    """
    if not image.width or not image.height:
        raise DataError("it has no pixels")
    gray_step = _gray_step(image)  # not known any more when it is loaded
    try:
        image.load()
    except OSError as error:
        raise DataError(str(error)) from error
    profile = image.info.get("icc_profile")
    source, has_palette = image, image.mode in ("P", "PA")
    hidden = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(hidden, int):
        gray = np.asarray(image.convert("L"))
        return _picture(
            np.dstack([gray, np.where(gray == hidden * gray_step, 0, 255)]).astype(np.uint8), source, profile
        )
    if image.mode.startswith("I"):
        return _picture(_sixteen_bits(image), source, profile)
    if image.mode == "CMYK":
        image, profile = _from_cmyk(image, profile), None
    elif has_palette or image.mode in ("RGBX", "YCbCr") or "transparency" in image.info:
        image = image.convert(_plain_mode(image))
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise DataError(f"its pixels are of Pillow's mode {image.mode}: convert it to 8 or 16 bits, gray or RGB")
    planes = np.asarray(image)
    if has_palette and is_gray(planes):
        planes = planes[:, :, [0, *range(3, planes.shape[2])]]
    return _picture(planes, source, profile)


def is_gray(planes: NDArray[Any]) -> bool:
    """Whether the first three of (h, w, 3 or 4) planes are the same."""
    return bool((planes[:, :, 0] == planes[:, :, 1]).all() and (planes[:, :, 0] == planes[:, :, 2]).all())


def opaque(picture: Picture) -> Picture:
    """The picture without its alpha, if that hides nothing."""
    alpha = picture.alpha
    is_needless = alpha is not None and bool((alpha == np.iinfo(alpha.dtype).max).all())
    return replace(picture, alpha=None) if is_needless else picture


def to_pil(picture: Picture) -> Image.Image:
    """Pillow's picture of an 8-bit or a 16-bit gray one, its profile and camera data in ``info``.

    Raises:
        DataError: 16 bits with colour or alpha, for which Pillow has no mode.
    """
    check_pillow_holds(picture)
    planes = picture.planes
    image = Image.fromarray(planes[:, :, 0] if planes.shape[2] == 1 else planes)
    if picture.icc_profile is not None:
        image.info["icc_profile"] = picture.icc_profile
    if picture.exif is not None:
        image.info["exif"] = picture.exif
    return image


def check_pillow_holds(picture: Picture) -> None:
    """Refuse what ``to_pil`` would.

    Raises:
        DataError: 16 bits with colour or alpha.
    """
    if picture.colour.dtype != np.uint8 and (picture.colour.shape[2] > 1 or picture.alpha is not None):
        raise DataError("Pillow holds no 16-bit pictures with colour or alpha: use numpy arrays")


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
    exif = None if picture.exif is None else sized(picture.exif, picture.size)
    picture = _with_fitting_profile(picture, form)
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


def _with_fitting_profile(picture: Picture, form: Format) -> Picture:
    """Without a profile that the format would make wrong or unreadable."""
    profile = picture.icc_profile
    if profile is None:
        return picture
    if form == "WEBP" and picture.colour.shape[2] == 1 and profile[16:20] == b"GRAY":
        LOGGER.warning("the gray colour profile is left out: WebP holds RGB")
    elif form == "PNG" and len(profile) > _MAX_PNG_PROFILE:
        LOGGER.warning("the colour profile of %d bytes is left out: many programs would refuse the PNG", len(profile))
    else:
        return picture
    return replace(picture, icc_profile=None)


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


def _gray_step(image: Image.Image) -> int:
    """What turns the transparent value of a gray PNG of 2 or 4 bits into one of 8 bits, as Pillow does with pixels."""
    tiles: Any = getattr(image, "tile", ())
    raw_mode = str(tiles[0][3]) if image.format == "PNG" and tiles else ""
    return {"L;2": 85, "L;4": 17}.get(raw_mode, 1)


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
    planes = _upright(planes.reshape(*planes.shape[:2], -1), orientation_of(image))
    n_colours = 1 if planes.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(planes[:, :, n_colours]) if planes.shape[2] in (2, 4) else None
    colour = np.ascontiguousarray(planes[:, :, :n_colours])
    return Picture(colour, alpha, profile, camera_data_of(image), image.format)


def _sixteen_bits(image: Image.Image) -> NDArray[np.uint16]:
    """Of modes I;16 and I: gray, and alpha where one value is transparent."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"it has values from {values.min()} to {values.max()}: scale them to 16 bits, 0 to 65535")
    gray = values.astype(np.uint16)
    hidden = image.info.get("transparency")
    return np.dstack([gray, np.where(gray == hidden, 0, 65535)]).astype(np.uint16) if isinstance(hidden, int) else gray


def _upright(planes: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply EXIF's orientation, 1 to 8; other values mean 1."""
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        planes = planes[::-1]
    if orientation in (2, 3, 6, 7):
        planes = planes[:, ::-1]
    return planes


def _is_deep_png(image: Image.Image) -> bool:
    """Whether a PNG file has 16 bits a value, of which Pillow hands out 8 where there is colour or alpha."""
    tiles: Any = getattr(image, "tile", ())
    return image.format == "PNG" and any("16" in str(tile[3]) for tile in tiles)


def _read_deep_png(image: Image.Image, path: str | os.PathLike[str], content: bytes | None) -> Picture:
    import imagecodecs

    planes: NDArray[Any] = imagecodecs.png_decode(Path(path).read_bytes() if content is None else content)
    image.load()  # camera data may stand behind the pixels
    return _picture(planes.astype(np.uint16, copy=False), image, image.info.get("icc_profile"))


def _whole_numbers(planes: NDArray[Any]) -> NDArray[Any]:
    """uint8 and uint16 as they are, floating-point in [0, 1] as uint16."""
    return np.rint(planes * 65535).astype(np.uint16) if planes.dtype.kind == "f" else planes


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
    if planes.dtype == np.uint16 and planes.shape[2] == 2:  # Pillow opens no such TIFF file
        planes = planes[:, :, [0, 0, 0, 1]]
    depth = 8 * planes.dtype.itemsize
    data = zlib.compress(np.ascontiguousarray(planes.astype(f"<u{depth // 8}")).tobytes())
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II") if exif is None else tiff_tags(exif)
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
