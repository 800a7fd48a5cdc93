"""Checkpoints: sealed sets of weight files.

A checkpoint is a set of files ``{step}_{label}.pth`` (labels G, E, P, optimizerG) in one folder, as in the reference.
Each is written to a temporary name, synced and renamed; a manifest ``{step}.json`` with their checksums, written
last, seals the set.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from swinlet.errors import CheckpointError

LOGGER = logging.getLogger("swinlet")


def write_atomic(path: Path, write: Callable[[io.BufferedWriter], object]) -> None:
    """Write a file so that ``path`` is, at any instant, its old content or all of its new content.

    Raises:
        CheckpointError: the disk is full, the folder cannot be written, ...; nothing at ``path`` has changed.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # what a killed process left there is written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # gone where all went well
            temporary.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming last through a power failure, on systems that can: not Windows, not every network drive."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class SealedSet:
    """One complete checkpoint: files by label, and what the manifest records besides."""

    step: int
    files: dict[str, Path]
    extra: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the run that wrote the set; empty where they were not recorded."""
        options = self.extra.get("options")
        return cast("dict[str, Any]", options) if isinstance(options, dict) else {}


def write_set(folder: Path, step: int, states: Mapping[str, Any], extra: Mapping[str, Any]) -> SealedSet:
    """Write ``{step}_{label}.pth`` for each state, then seal them with ``{step}.json``.

    Raises:
        CheckpointError: something could not be written; then no manifest seals the set.
    """
    files = {label: folder / f"{step}_{label}.pth" for label in states}
    for label, path in files.items():
        content = io.BytesIO()  # in memory first: where the disk is full, torch.save does not say so
        torch.save(states[label], content)
        write_atomic(path, lambda file, content=content: file.write(content.getbuffer()))
    manifest = {
        **extra,
        "step": step,
        "files": {label: {"name": path.name, "sha256": _sha256(path)} for label, path in files.items()},
    }
    text = json.dumps(manifest, indent=1).encode()
    write_atomic(folder / f"{step}.json", lambda file: file.write(text))
    return SealedSet(step, files, dict(extra))


def newest_sealed(folder: Path) -> SealedSet | None:
    """The newest complete set in a folder, or None. Incomplete ones are named in the log and passed over."""
    for manifest in _manifests_newest_first(folder):
        try:
            return _open_set(folder, manifest)
        except CheckpointError as error:
            LOGGER.warning("checkpoint passed over: %s", error)
    return None


def unsealed_steps(folder: Path) -> list[int]:
    """Steps with weights but without manifest: an interrupted write, or files of the reference project."""
    found = {p.name.partition("_")[0] for p in folder.glob("*_G.pth")}
    return sorted(int(s) for s in found if _is_step(s) and not (folder / f"{s}.json").exists())


def _is_step(text: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]*", text) is not None


def _manifests_newest_first(folder: Path) -> Iterator[Path]:
    yield from sorted((p for p in folder.glob("*.json") if _is_step(p.stem)), key=lambda p: -int(p.stem))


def _open_set(folder: Path, manifest: Path) -> SealedSet:
    step = int(manifest.stem)
    try:
        content = cast("dict[str, Any]", json.loads(manifest.read_text(encoding="utf-8")))
        entries = cast("dict[str, dict[str, str]]", content.pop("files"))
        names = {label: entry["name"] for label, entry in entries.items()}
        checksums = {label: entry["sha256"] for label, entry in entries.items()}
        told = content.pop("step")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{manifest}: not a readable manifest ({error!r})") from error
    # Only files that write_set could have named: nothing outside the folder, nothing of another step.
    if told != step or any(name != f"{step}_{label}.pth" or not label.isalnum() for label, name in names.items()):
        raise CheckpointError(f"{manifest}: names files that are not of iteration {step}")
    files = {label: folder / name for label, name in names.items()}
    for label, path in files.items():
        if not path.is_file():
            raise CheckpointError(f"{path}: missing")
        if _sha256(path) != checksums[label]:
            raise CheckpointError(f"{path}: its content is not what was saved")
    return SealedSet(step, files, content)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()
