"""Small folders of images are prepared by the trainer itself, in a cache whose entries are named by their content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal

from swinlet.data.pairs import Pair, find_pairs
from swinlet.data.prepare import fill
from swinlet.data.prepare_image import Request
from swinlet.data.prepared import ARRAYS, LOCK, VERSION, folder_size, is_prepared, is_whole, read_index
from swinlet.errors import DataError
from swinlet.options import DatasetOptions
from swinlet.utils.console import ProgressBar
from swinlet.utils.files import locked, sha256_of
from swinlet.utils.image_io import image_size

LOGGER = logging.getLogger("swinlet")


def cache_folder() -> Path:
    """Where the cache is: $SWINLET_CACHE, or ``swinlet`` in the user's folder for caches.

    Raises:
        OSError: the user has no folders.
    """
    own = os.environ.get("SWINLET_CACHE")
    if own:
        return Path(own).expanduser()
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError(f"{error} Set SWINLET_CACHE to a folder") from error
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"), "swinlet", "cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache", "swinlet")


def cached(section: DatasetOptions, scale: int, n_channels: Literal[1, 3], option: str) -> Path | None:
    """The prepared folder of a small data set, made where there is none yet.

    It is found by the names and contents of the image files. Sizes and times would be faster to look up, but copies and
    checkouts change times, and some programs keep them when they change a file; reading is cheap beside decoding.

    Args:
        section: which folders, up to which size.
        scale, n_channels, option: as of ``DatasetSR``.

    Returns:
        None where the images are many, bad, prepared by the user, or the cache cannot be written; a data set of the
        files themselves says what is wrong with them.
    """
    roots = section.dataroot_H, section.dataroot_L
    try:
        if section.cache_gb == 0 or any(root is not None and is_prepared(root) for root in roots):
            return None
        pairs, _ = find_pairs(*roots, scale, option, section.filename_tmpl)
        if not _are_small(pairs, n_channels, section.cache_gb * 1e9):
            large = f"over {section.cache_gb:g} GB when decoded (cache_gb), so not cached"
            LOGGER.info("%s: %s; 'swinlet prepare' makes loading faster", option, large)
            return None
        request = Request(
            *roots, scale, n_channels, section.on_bad_image, option=option, filename_tmpl=section.filename_tmpl
        )
        folder = cache_folder() / _key(request, pairs)
        if not is_whole(folder):
            LOGGER.info("%s: decoding %d images into %s", option, len(pairs), folder)
            _fill(folder, request)
        total = folder_size(folder.parent) / 1e6
        clear = "to clear the cache, remove its folder"
        LOGGER.info("%s: decoded images in %s, in a cache of %.0f MB; %s", option, folder, total, clear)
        return folder
    except DataError:  # the caller goes through the same files, and says what is wrong with all of them
        return None
    except OSError as error:
        LOGGER.warning("%s: no cache of decoded images, so loading takes longer: %s", option, error)
        return None


def _fill(folder: Path, request: Request) -> None:
    (folder / ARRAYS).mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, wait=True):  # two runs that start together decode once
        if is_whole(folder):
            return
        try:
            with ProgressBar() as bar:
                fill(request, folder, bar, read_index(folder) if is_prepared(folder) else None)
        except (DataError, OSError):
            shutil.rmtree(folder, ignore_errors=True)  # nobody would ever use, or miss, what is there
            raise


def _are_small(pairs: list[Pair], n_channels: int, limit: float) -> bool:
    """Whether the decoded images have at most ``limit`` bytes; by the headers of the files, as far as necessary."""
    total = 0
    for pair in pairs:
        for path in (pair.H_path, pair.L_path):
            if path is not None:
                with suppress(DataError):  # said when it is decoded
                    height, width = image_size(path)
                    total += height * width * n_channels
        if total > limit:
            return False
    return True


def _key(request: Request, pairs: list[Pair]) -> str:
    files = [(pair.H_path, request.dataroot_H) for pair in pairs]
    files += [(pair.L_path, request.dataroot_L) for pair in pairs if pair.L_path and request.dataroot_L]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checksums = pool.map(sha256_of, [path for path, _ in files])
        names = [path.relative_to(root).as_posix() for path, root in files]
        content = [VERSION, request.n_channels, request.scale, request.on_bad_image, *names, *checksums]
        content += [request.filename_tmpl] if request.filename_tmpl is not None else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
