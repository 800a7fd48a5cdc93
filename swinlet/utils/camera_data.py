"""Camera data (EXIF) of a picture that is turned upright and enlarged: all of it stays as it was, byte by byte.

Two things are written anew, in their places: the orientation, which has been applied, and height and width. The
thumbnail, which would show something else, is not pointed to any more. Everything else is left where it is, since
makers' notes hold addresses.
"""

import logging
import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image, TiffImagePlugin

from swinlet.utils.image_io import pillow_quiet

LOGGER = logging.getLogger("swinlet")

_PREFIX = b"Exif\0\0"
_ORIENTATION, _EXIF, _GPS = 0x0112, 0x8769, 0x8825
_SIZES = {0xA002: 1, 0xA003: 0}  # width, height -> index in a size
_SHORT, _LONG = 3, 4
_ENTRY = 12  # bytes
# Of a TIFF file's own directory; others tell how the file is laid out.
_OF_TIFF = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298, _EXIF, _GPS)


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where it is not said, or damaged."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged camera data raises nearly anything, and is no reason to refuse the pixels
        return 1
    return found if found in range(1, 9) else 1


def camera_data_of(image: Image.Image) -> bytes | None:
    """The camera data of an image file, upright, for ``Picture.exif``; None: there is none, or it is damaged."""
    try:
        data = _collected(image) if image.format == "TIFF" else image.info.get("exif")
    except Exception:  # as above
        LOGGER.warning("damaged camera data (EXIF) is left out")
        return None
    return None if data is None else sized(data, None)


def sized(data: bytes, size: tuple[int, int] | None) -> bytes | None:
    """Camera data with orientation 1, without thumbnail, and for a height and width; None: it is damaged.

    Args:
        data: with or without the prefix "Exif".
        size: None: as it says.
    """
    content = bytearray(data.removeprefix(_PREFIX))
    order = {b"II": "<", b"MM": ">"}.get(bytes(content[:2]))
    try:
        if order is None:
            raise ValueError("no byte order")
        first = struct.unpack_from(f"{order}I", content, 4)[0]
        for tag, at in _entries(content, order, first):
            if tag == _ORIENTATION:
                _put(content, order, at, _SHORT, 1)
            elif tag == _EXIF and size is not None:
                details = struct.unpack_from(f"{order}I", content, at + 8)[0]
                for inner, place in _entries(content, order, details):
                    if inner in _SIZES:
                        _put(content, order, place, _LONG, size[_SIZES[inner]])
        after = first + 2 + _ENTRY * struct.unpack_from(f"{order}H", content, first)[0]
        if len(content) >= after + 4:
            struct.pack_into(f"{order}I", content, after, 0)
    except (struct.error, ValueError):
        LOGGER.warning("damaged camera data (EXIF) is left out")
        return None
    return _PREFIX + bytes(content)


def tiff_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """A TIFF file's directory with camera data; without any if they are damaged. Text keeps its bytes."""
    camera, tags = Image.Exif(), TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    try:
        with pillow_quiet():
            camera.load(data)
            for tag in set(_OF_TIFF) & set(camera):
                tags[tag] = camera.get_ifd(tag) if tag in (_EXIF, _GPS) else _as_bytes(camera[tag])
            tags.tobytes()
    except Exception:  # as above
        LOGGER.warning("damaged camera data (EXIF) is left out")
        return TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    return tags


def _entries(content: bytearray, order: str, at: int) -> Iterator[tuple[int, int]]:
    """Tag and place of each entry of a directory."""
    count = struct.unpack_from(f"{order}H", content, at)[0]
    for i in range(count):
        place = at + 2 + _ENTRY * i
        yield struct.unpack_from(f"{order}H", content, place)[0], place


def _put(content: bytearray, order: str, at: int, kind: int, value: int) -> None:
    """Make an entry one number."""
    struct.pack_into(f"{order}HI4x", content, at + 2, kind, 1)
    struct.pack_into(f"{order}{'H' if kind == _SHORT else 'I'}", content, at + 8, value)


def _collected(image: Image.Image) -> bytes | None:
    """The camera data among a TIFF file's tags."""
    tags = image.getexif()
    kept = Image.Exif()
    for tag in _OF_TIFF:
        if tag in tags:
            kept[tag] = tags.get_ifd(tag) if tag in (_EXIF, _GPS) else _as_bytes(tags[tag])
    return kept.tobytes() if len(kept) else None


def _as_bytes(value: Any) -> Any:
    """Text as it was stored: Pillow reads bytes as Latin-1, and writes "?" for what is not ASCII."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value
