"""TIFF pixels that Pillow hands out at a fraction of their brightness, in 8 bits, or not at all.

Pillow reads the header (size, profile, camera data) in any case; pixels of 9 to 16 bits, of several channels of under
8, and of floating point are decoded by tifffile.
"""

from __future__ import annotations

import io
import logging
import struct
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from swinlet.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _SAMPLE_FORMAT = 258, 339  # tags
_UNSIGNED, _FLOAT = 1, 3  # sample formats
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # photometric interpretations
_PREMULTIPLIED, _STRAIGHT = 1, 2  # kinds of alpha
_MOST_CHANNELS = 16

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # of its remarks on odd files none is for users


class DeepTiff:
    """The first page of a TIFF file whose pixels are not Pillow's business; see ``open_deep``."""

    def __init__(self, content: bytes, page: Any) -> None:
        self._content, self._page = content, page

    @property
    def text(self) -> str:
        """What it holds, for messages."""
        kinds = {_UNSIGNED: "", 2: "signed ", _FLOAT: "floating-point ", 5: "complex ", 6: "complex "}
        page = self._page
        return f"a TIFF file of {page.samplesperpixel} x {page.bitspersample} {kinds.get(page.sampleformat, '')}bits"

    @property
    def is_readable(self) -> bool:
        """Whether ``planes`` knows such pixels."""
        page = self._page
        kind, bits, photometric = page.sampleformat, page.bitspersample, page.photometric
        fits = bits <= 16 if kind == _UNSIGNED else kind == _FLOAT
        colours = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3}.get(photometric, 0)
        return fits and 0 < colours <= page.samplesperpixel <= _MOST_CHANNELS

    def as_eight_bits(self) -> bytes:
        """The file with a header that says 8 bits, which Pillow opens, to read everything but the pixels."""
        content = bytearray(self._content)
        for code, value in ((_BITS, 8), (_SAMPLE_FORMAT, _UNSIGNED)):
            tag = self._page.tags.get(code)
            if tag is not None:
                order = "<" if content.startswith(b"II") else ">"
                struct.pack_into(f"{order}{tag.count}H", content, tag.valueoffset, *[value] * tag.count)
        return bytes(content)

    def planes(self) -> NDArray[Any]:
        """(h, w, 1 to 4): gray or RGB, and alpha where there is one; uint8, uint16, or float32 in [0, 1].

        The largest value of so many bits becomes the largest of uint8 (up to 8 bits) or uint16. Floating-point values
        count as [0, 1] if none of the colours is above 1, else as [0, 255].

        Raises:
            DataError: floating-point colours that are NaN, negative or above 255; volumes.
        """
        page = self._page
        values: NDArray[Any] = page.asarray()
        if values.ndim not in (2, 3):
            raise DataError(f"it is {self.text} and {values.ndim} dimensions: save one plane as a file of its own")
        planes = values[:, :, None] if values.ndim == 2 else values
        if page.planarconfig == 2 and values.ndim == 3:  # plane by plane
            planes = np.moveaxis(planes, 0, 2)
        n_colours = 3 if page.photometric == _RGB else 1
        wanted = [*range(n_colours)]
        kinds = [int(kind) for kind in page.extrasamples]
        found = next(((n_colours + i, kind) for i, kind in enumerate(kinds) if kind in (1, 2)), None)
        if found is not None and found[0] < planes.shape[2]:
            wanted.append(found[0])
        planes = planes[:, :, wanted]
        is_float = page.sampleformat == _FLOAT
        planes = _unit(planes, n_colours) if is_float else _full_scale(planes, page.bitspersample)
        peak = 1 if is_float else np.iinfo(cast("Any", planes.dtype)).max
        if page.photometric == _WHITE_IS_ZERO:
            planes[:, :, 0] = peak - planes[:, :, 0]
        if len(wanted) > n_colours and found is not None and found[1] == _PREMULTIPLIED:
            share = np.maximum(planes[:, :, n_colours:] / peak, 1 / 65535)
            colours = np.minimum(planes[:, :, :n_colours] / share, peak)
            planes[:, :, :n_colours] = colours if is_float else np.rint(colours)
        return planes


def open_deep(content: bytes) -> DeepTiff | None:
    """The TIFF file, if Pillow should not decode it: more than 8 bits a value, or several channels of fewer.

    Integers of 32 bits in gray stay Pillow's. None: it is another file, or none that tifffile opens.
    """
    if content[:4] not in _MAGIC:
        return None
    import tifffile

    try:
        page = cast("Any", tifffile.TiffFile(io.BytesIO(content)).pages[0])
        bits, channels, kind = int(page.bitspersample), int(page.samplesperpixel), int(page.sampleformat)
        photometric = int(page.photometric)
    except Exception:  # tifffile raises a dozen kinds for damaged files, and Pillow will say what is wrong
        return None
    if kind == _UNSIGNED and (bits == 8 or (bits in (1, 2, 4) and channels == 1)):
        return None
    if bits == 32 and channels == 1 and kind != _FLOAT and photometric == _BLACK_IS_ZERO:
        return None
    return DeepTiff(content, page)


def _full_scale(planes: NDArray[Any], bits: int) -> NDArray[np.unsignedinteger[Any]]:
    """Integers of so many bits as uint8 or uint16, of which the largest value becomes the largest."""
    dtype = np.uint8 if bits <= 8 else np.uint16
    factor = np.iinfo(dtype).max / ((1 << bits) - 1)
    return planes.astype(dtype) if factor == 1 else np.rint(planes * factor).astype(dtype)


def _unit(planes: NDArray[Any], n_colours: int) -> NDArray[np.float32]:
    planes = planes.astype(np.float32)
    colours = planes[:, :, :n_colours]
    low, high = float(colours.min()), float(colours.max())
    if not (low >= 0 and high <= 255):  # written so that NaN is refused as well
        raise DataError(f"it has floating-point values from {low:g} to {high:g}: scale them to [0, 1] or [0, 255]")
    if high > 1:
        colours /= 255
    planes[:, :, n_colours:] = np.nan_to_num(planes[:, :, n_colours:]).clip(0, 1)
    return planes
