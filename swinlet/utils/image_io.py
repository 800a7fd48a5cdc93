"""Images from disk to 8-bit arrays and tensors, and back to PNG files."""

from __future__ import annotations

import io
import os
import re
import threading
import uuid
import warnings
from collections import Counter, deque
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageOps, features

from swinlet.errors import DataError, MachineError
from swinlet.utils.files import open_regular, refusal
from swinlet.utils.tiff import DeepTiff, open_deep

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy.typing as npt
    import torch

    Array = npt.NDArray[np.uint8]

_READS_AVIF = "avif" in features.modules and features.check("avif")  # Pillow 11.3 and newer, where built with it

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
        *([".avif"] if _READS_AVIF else []),
    }
)
"""What :func:`list_images` takes for an image, in lower case."""

OTHER_IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {
        *(".gif", ".apng", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".tga", ".psd", ".exr", ".hdr", ".ico"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".svg", ".pdf", ".npy", ".lmdb"),
    }
    - IMAGE_SUFFIXES
)
"""Of images that are not read."""

MAX_PIXELS = 89_478_485
"""Of an image, unless $SWINLET_MAX_PIXELS says otherwise: 256 MB in RGB, where Pillow begins to warn."""

# Only these decoders of Pillow are ever tried. Others run external programs (EPS starts Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "PPM", *(["AVIF"] if _READS_AVIF else []))
"""What is read, by Pillow's names."""

_ORIENTATION = 0x0112  # tag of EXIF


def list_images(folder: str | os.PathLike[str], suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Find all images in a folder and its subfolders.

    Args:
        folder: where to look. Files and folders whose name starts with a dot (hidden ones, macOS's ``._`` files) are
            left out. Linked subfolders are entered, each real folder once.
        suffixes: of images, in lower case.

    Returns:
        Paths that start with ``folder``, sorted by their relative path with forward slashes; at least one.

    Raises:
        DataError: the folder is missing, is not a folder, cannot be read, or holds no image.
    """
    root = Path(folder)
    files = _visible_files(root)
    found = [path for path in files if path.suffix.lower() in suffixes]
    if not found:
        database = next((path.parent for path in files if path.name == "data.mdb"), None)
        if database is not None:
            raise DataError(f"{database} is an LMDB database: give the folder of the image files that it was made from")
        raise DataError(f"folder {root} holds no image: put files there that end in {' '.join(sorted(suffixes))}")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def left_out(
    folder: str | os.PathLike[str],
    suffixes: frozenset[str] = IMAGE_SUFFIXES,
    among: frozenset[str] | None = OTHER_IMAGE_SUFFIXES,
) -> Counter[str]:
    """How many files of which suffixes ``list_images`` leaves out; hidden ones do not count.

    Args:
        folder, suffixes: as of ``list_images``.
        among: the suffixes that are looked for; None: all.
    """
    others = (path.suffix.lower() for path in _visible_files(Path(folder)))
    return Counter(suffix for suffix in others if suffix not in suffixes and (among is None or suffix in among))


def counted(suffixes: Counter[str]) -> str:
    """Files by suffix, for a message: "3 .heic, 1 without suffix"."""
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(suffixes.items()))


def _visible_files(root: Path) -> list[Path]:
    """All files in a folder, its subfolders and what these link to, but hidden ones.

    Raises:
        DataError: the folder is missing, is not a folder, or one cannot be read.
    """
    if not os.path.exists(root):  # unlike Path.exists, it says no to a name that is too long
        where = "" if root.is_absolute() else f" in {Path.cwd()}, the current working directory"
        raise DataError(f"folder {root} does not exist{where}: check the path")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the folder that holds the images")
    top = os.path.realpath(root)
    found: list[Path] = []
    entered: set[str] = set()
    waiting = deque([root])
    while waiting:  # what is linked comes after all real subfolders, so that these keep their names
        start = waiting.popleft()
        for place, subfolders, files in os.walk(start, onerror=_refuse_folder):
            real = os.path.realpath(place)
            # A link upwards would enter everything beside the root, and the root again.
            is_above = real != top and (top + os.sep).startswith(real.rstrip(os.sep) + os.sep)
            if real in entered or is_above:
                subfolders.clear()
                continue
            entered.add(real)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            waiting.extend(path for name in subfolders if (path := Path(place, name)).is_symlink())
            found.extend(Path(place, name) for name in files if not name.startswith("."))
    return found


def _refuse_folder(error: OSError) -> None:
    raise DataError(f"cannot read folder {error.filename}: {error.strerror}. Check its permissions") from error


def read_image(path: str | os.PathLike[str], n_channels: Literal[1, 3]) -> Array:
    """Decode a whole image file to 8 bits, upright.

    - The EXIF orientation is applied, here and so everywhere: in preparing, training and evaluation.
    - Colour becomes gray by the luma of ITU-R BT.601 (Pillow's mode "L"); gray becomes RGB by repetition.
    - Palettes are resolved, CMYK and other colour spaces become RGB, 1-bit images become 0 and 255.
    - Alpha is dropped, not composited: the colours stored under transparent pixels are kept.
    - 16-bit gray, and TIFF files of any depth, are scaled and rounded: the largest value of the depth becomes 255.
      16-bit RGB of PNG loses its low byte, v >> 8 (at most one step away from that): Pillow hands out no more.
    - Floating-point TIFF is taken as [0, 1] if no value is above 1, else as [0, 255].
    - An MPO file (a JPEG of some phones and cameras, with further views) counts as its first image.

    Args:
        path: the file. Its content decides about the format, not its suffix.
        n_channels: 3 for RGB, 1 for gray.

    Returns:
        uint8, (H, W, n_channels), contiguous, writable.

    Raises:
        DataError: the file is missing, empty, truncated, not an image, no ordinary file, of more than ``MAX_PIXELS``
            pixels by its header (nothing is decoded then), animated or of several pages, or has values outside the
            ranges above.
    """
    with opened(path) as image:
        refuse_frames(image, path)
        deep = deep_tiff(image, path)
        if deep is None:
            pixels = _to_uint8_array(ImageOps.exif_transpose(image), n_channels, path)
        else:
            eight_bits = Image.fromarray(_eight_bits(deep.planes()))
            eight_bits.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
            pixels = _to_uint8_array(ImageOps.exif_transpose(eight_bits), n_channels, path)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] != n_channels:
        pixels = np.repeat(pixels, n_channels, axis=2)
    return np.ascontiguousarray(pixels)


def is_gray(path: str | os.PathLike[str]) -> bool:
    """Whether an image file has one colour channel (alpha aside), by its header; palettes count as colour.

    Raises:
        DataError: as ``read_image``, but for damage behind the header.
    """
    with opened(path) as image:
        return set(image.getbands()) - {"A", "a"} in ({"1"}, {"L"}, {"I"}, {"F"})


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of an image file by its header, not turned upright.

    Raises:
        DataError: as ``read_image``, but for damage behind the header.
    """
    with opened(path) as image:
        return image.height, image.width


def save_image(path: str | os.PathLike[str], image: Array) -> None:
    """Write a PNG file so that it is there whole or not at all: under a temporary name, then renamed.

    Args:
        path: ends in ``.png``; missing folders are made, an existing file is replaced.
        image: uint8, (H, W, 3) RGB or (H, W, 1) gray.

    Raises:
        DataError: the name does not end in ``.png``.
        MachineError: the file cannot be written.
        TypeError, ValueError: the image is not uint8, or has another shape.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise DataError(f"cannot write {path}: images are saved as PNG, so choose a name that ends in .png")
    if image.dtype != np.uint8:
        raise TypeError(f"an image to be saved has to be uint8, not {image.dtype}")
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"an image to be saved has to be (H, W, 1) or (H, W, 3), not {image.shape}")
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    # A leading dot keeps a leftover of a killed process out of list_images.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            picture.save(temporary, format="PNG")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot write {path}: {refusal(error)}") from error


def to_tensor(image: Array) -> torch.Tensor:
    """uint8 array (H, W, C) to uint8 tensor (C, H, W): a contiguous copy."""
    import torch  # takes a second, and is not needed to find and read images

    return torch.as_tensor(np.array(np.transpose(image, (2, 0, 1)), order="C"))


def to_uint8(image: torch.Tensor) -> Array:
    """Floating-point tensor (C, H, W) to uint8 array (H, W, C): clamped to [0, 1], times 255, rounded.

    Raises:
        DataError: it holds NaN, which no clamping mends; infinite values are clamped.
    """
    image = image.detach().float()
    broken = int(image.isnan().sum())
    if broken:
        raise DataError(f"no picture: {broken} of {image.numel()} values are not a number (NaN)")
    scaled = image.clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy())


def refuse_frames(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Refuse what is animated or has several pages; the further views of an MPO do not count.

    Raises:
        DataError: it has several frames.
    """
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1 and image.format != "MPO":
        raise DataError(f"{path} holds {n_frames} frames: save the one that is meant as a file of its own")


@contextmanager
def opened(
    path: str | os.PathLike[str], content: bytes | None = None, formats: tuple[str, ...] = FORMATS
) -> Generator[Image.Image]:
    """Open an image file, not decoded yet.

    Args:
        path: the file, or what messages call it if ``content`` is given.
        content: of a file that has been read already.
        formats: to be read, by Pillow's names.

    Raises:
        DataError: for whatever goes wrong until the end of the block, as ``read_image``.
    """
    limit = _max_pixels()
    try:
        with open_regular(path) if content is None else io.BytesIO(content) as file, pillow_quiet(limit):
            if not file.read(1):
                raise DataError(f"cannot read {path}: the file is empty. Replace or remove it")
            file.seek(0)
            with _identified(file, formats) as image:
                if image.width * image.height > limit:
                    raise Image.DecompressionBombError
                yield image
    except Image.DecompressionBombError as error:
        raise DataError(
            f"cannot read {path}: by its header it has more than {limit:,} pixels, and may be built to fill the "
            "memory. Remove it, or raise the limit: SWINLET_MAX_PIXELS"
        ) from error
    except DataError as error:
        if str(error).startswith((str(path), f"cannot read {path}")):
            raise
        raise DataError(f"cannot read {path}: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"cannot read {path}: there is no such file") from error
    except PermissionError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Check its permissions") from error
    except Image.UnidentifiedImageError as error:
        raise DataError(f"cannot read {path}: not an image of a known format. Replace or remove it") from error
    except Exception as error:
        # Damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, ValueError,
        # KeyError, struct.error, zlib.error, DecompressionBombError ...
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"cannot read {path}: {reason}. Replace or remove it") from error


def _identified(file: IO[bytes], formats: tuple[str, ...]) -> Image.Image:
    """Pillow's image of a file, whose pixels may be ``deep_tiff``'s to decode.

    Raises:
        DataError: a TIFF file of pixels that are not read, which are named.
        PIL.UnidentifiedImageError: something else.
    """
    try:
        return Image.open(file, formats=formats)
    except Image.UnidentifiedImageError:
        file.seek(0)
        deep = open_deep(file.read()) if "TIFF" in formats else None
        if deep is None:
            raise
        if deep.is_readable:
            return Image.open(io.BytesIO(deep.as_eight_bits()), formats=("TIFF",))
        raise DataError(f"it is {deep.text}: convert it to 8 or 16 bits, gray or RGB") from None


def deep_tiff(image: Image.Image, path: str | os.PathLike[str], content: bytes | None = None) -> DeepTiff | None:
    """What decodes the pixels of an ``opened`` image in Pillow's place; None: Pillow does.

    Args:
        image: by its header.
        path, content: of its file, as of ``opened``.
    """
    if image.format != "TIFF":
        return None
    if content is None:
        with open_regular(path) as file:
            content = file.read()
    deep = open_deep(content)
    return deep if deep is not None and deep.is_readable else None


def _max_pixels() -> int:
    text = os.environ.get("SWINLET_MAX_PIXELS") or str(MAX_PIXELS)
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise DataError(f"SWINLET_MAX_PIXELS: must be a whole number of pixels (got {text!r})")
    return int(text)


def _to_uint8_array(image: Image.Image, n_channels: int, path: str | os.PathLike[str]) -> Array:
    """uint8, (H, W) for gray or (H, W, 3), by the rules of :func:`read_image`."""
    if image.mode == "F":
        return _from_float(np.asarray(image), path)
    if image.mode.startswith("I"):
        return _from_integer(np.asarray(image), path)
    if image.mode in ("P", "PA"):
        # By way of RGBA: Pillow warns about palettes with transparency that are converted to anything else.
        image = image.convert("RGBA")
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    return np.array(image.convert("L" if n_channels == 1 else "RGB"))


def _eight_bits(planes: npt.NDArray[Any]) -> Array:
    """uint8, uint16 or float32 in [0, 1], (h, w, 1 to 4), rounded; (h, w) for gray alone."""
    peak = 1 if planes.dtype.kind == "f" else np.iinfo(planes.dtype).max
    pixels = np.floor(planes * (255 / peak) + 0.5).astype(np.uint8)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _from_float(values: npt.NDArray[Any], path: str | os.PathLike[str]) -> Array:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # written so that NaN is refused as well
        raise DataError(f"{path} has values from {low:g} to {high:g}: scale them to [0, 1] or [0, 255]")
    return np.floor(values * (255.0 if high <= 1 else 1.0) + 0.5).astype(np.uint8)


def _from_integer(values: npt.NDArray[Any], path: str | os.PathLike[str]) -> Array:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(f"{path} has values from {low} to {high}: scale them to 16 bits, 0 to 65535")
    return np.floor(values / 257.0 + 0.5).astype(np.uint8)


class _PillowQuiet:
    """Silences Pillow's remarks on odd but readable files, such as large ones and damaged EXIF data.

    ``warnings.catch_warnings`` swaps the filters of the whole process, so threads that overlap would restore
    each other's. Here the first thread in sets the filters, and the last one out restores them. So it is with
    Pillow's own limit of pixels, where ours is higher.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved = warnings.catch_warnings()
        self._limit = Image.MAX_IMAGE_PIXELS

    @contextmanager
    def __call__(self, max_pixels: int = 0) -> Generator[None]:
        with self._lock:
            if self._users == 0:
                self._limit = Image.MAX_IMAGE_PIXELS
                if self._limit is not None:
                    Image.MAX_IMAGE_PIXELS = max(self._limit, max_pixels)
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                # Not DeprecationWarning: those are about this module's own calls.
                warnings.simplefilter("ignore", UserWarning)
                warnings.simplefilter("ignore", RuntimeWarning)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    Image.MAX_IMAGE_PIXELS = self._limit
                    self._saved.__exit__(None, None, None)


pillow_quiet = _PillowQuiet()
