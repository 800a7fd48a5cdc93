"""Checkpoints: sealed sets of weight files.

A checkpoint is a set of files ``{step}_{label}.pth`` (labels G, E, P, optimizerG) in one folder, as in the reference.
Each is written to a temporary name, synced and renamed; a manifest ``{step}.json`` with their checksums, written
last, seals the set.
"""

import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeInt, ValidationError

from swinlet.errors import CheckpointError
from swinlet.options import KeepOptions
from swinlet.utils.files import MAX_RECORD, read_regular, refusal, sha256_of, sync_folder, write_atomic
from swinlet.utils.names import printable

LOGGER = logging.getLogger("swinlet")


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write one file whole, or not at all.

    Raises:
        CheckpointError: the disk is full, the folder cannot be written, ...; nothing at ``path`` has changed.
    """
    try:
        write_atomic(path, lambda file: file.write(content))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {refusal(error)}") from error


def write_tensors(path: Path, content: object) -> str:
    """``torch.save`` by way of ``write_file``: in memory first, as torch.save does not tell of a full disk.

    Returns:
        The checksum of what the file should hold.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


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
    checksums = {label: write_tensors(path, states[label]) for label, path in files.items()}
    manifest = {
        **extra,
        "step": step,
        "files": {label: {"name": path.name, "sha256": checksums[label]} for label, path in files.items()},
    }
    write_file(folder / f"{step}.json", json.dumps(manifest, indent=1).encode())
    return SealedSet(step, files, dict(extra))


class _Extra(BaseModel):
    """What a run goes on from, besides tensors; a manifest may come from a stranger, or from before there was some."""

    model_config = ConfigDict(strict=True)

    distillation_weights: dict[str, FiniteFloat] = {}
    distillation_shares: dict[str, FiniteFloat | None] = {}
    skipped: dict[str, NonNegativeInt] = {}
    scaler: dict[str, FiniteFloat] | None = None


BEST = "best"


def write_best(folder: Path, label: str, state: Mapping[str, Any], record: Mapping[str, Any]) -> Path:
    """Write ``best_{label}.pth``, then ``best.json``, which says what it is.

    One file, so that it is whole at any instant; it is no set to resume from.

    Raises:
        CheckpointError: one of them cannot be written.
    """
    path = folder / f"{BEST}_{label}.pth"
    write_tensors(path, state)
    write_file(folder / f"{BEST}.json", json.dumps({**record, "file": path.name}, indent=1).encode())
    return path


def read_best(folder: Path) -> dict[str, Any] | None:
    """What ``best.json`` says; None where there is none, or its file is gone."""
    path = folder / f"{BEST}.json"
    if not path.is_file():
        return None
    try:
        record: Any = json.loads(read_regular(path, MAX_RECORD))
        found = (folder / record["file"]).is_file() and "psnr_y" in record
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        LOGGER.warning("%s: not readable, passed over: %s", path, error)
        return None
    return cast("dict[str, Any]", record) if found else None


PRUNED = ".pruned"


def prune(newest: SealedSet, keep: KeepOptions) -> None:
    """Remove the older sets of a run that are not to be kept.

    The newest set is read back from disk first; if it is not whole, nothing is removed. Only files that a manifest of
    an older iteration names are: not ``best_E.pth``, nor what other programs have written. A set loses its manifest
    first, which is renamed to ``{step}.pruned`` until its files are gone: after a crash in between, nothing seals them,
    and the next call goes on. What cannot be removed is warned of.
    """
    folder = _folder_of(newest)
    try:
        _open_set(folder / f"{newest.step}.json")
    except CheckpointError as error:
        LOGGER.warning("no checkpoint is removed, as the newest is not whole on the disk: %s", error)
        return
    best = read_best(folder) if keep.best else None
    older = [m for m in _manifests_newest_first(folder) if int(m.stem) < newest.step]
    try:
        for manifest in older[keep.newest - 1 :]:
            step = int(manifest.stem)
            if not (keep.every and step % keep.every == 0) and not (best is not None and best.get("step") == step):
                _unseal(manifest)
        for unsealed in folder.glob(f"*{PRUNED}"):
            if _is_step(unsealed.stem):
                _remove(unsealed)
    except (OSError, CheckpointError) as error:
        LOGGER.warning("checkpoints to prune cannot be removed: %s", error)


def _folder_of(sealed: SealedSet) -> Path:
    return next(iter(sealed.files.values())).parent


def _unseal(manifest: Path) -> None:
    """Make a set one of files to remove; a manifest that cannot be read is left, as it tells of none."""
    try:
        _read_manifest(manifest)
    except CheckpointError as error:
        LOGGER.warning("not pruned: %s", error)
        return
    manifest.replace(manifest.with_suffix(PRUNED))
    sync_folder(manifest.parent)


def _remove(unsealed: Path) -> None:
    """Remove the files of a set without manifest, and what tells of them; but not those of a set written since."""
    if not unsealed.with_suffix(".json").exists():
        for path in _read_manifest(unsealed)[0].files.values():
            path.unlink(missing_ok=True)
    unsealed.unlink()


def newest_sealed(folder: Path, tell: Callable[[str], None] = LOGGER.warning) -> SealedSet | None:
    """The newest complete set in a folder, or None; ``tell`` is told of incomplete ones, which are passed over."""
    for manifest in _manifests_newest_first(folder):
        try:
            return _open_set(manifest)
        except CheckpointError as error:
            tell(f"checkpoint passed over: {error}")
    return None


def newest_weights(folder: Path, tell: Callable[[str], None] = LOGGER.warning) -> Path | None:
    """The newest weights to deploy in a run's folder ``models``: the moving average, or the student without one.

    Those of the newest sealed set, or, in a folder that the reference has written, of the largest iteration. ``tell``
    is told of newer ones that are damaged.
    """
    sealed = newest_sealed(folder, tell)
    if sealed is not None:
        return sealed.files.get("E") or sealed.files.get("G")
    steps = unsealed_steps(folder)
    names = (folder / f"{steps[-1]}_{label}.pth" for label in "EG") if steps else ()
    return next((path for path in names if path.is_file()), None)


def unsealed_steps(folder: Path) -> list[int]:
    """Steps with weights but without manifest: an interrupted write, or files of the reference project."""
    found = {p.name.partition("_")[0] for p in folder.glob("*_G.pth")}
    return sorted(int(s) for s in found if _is_step(s) and not (folder / f"{s}.json").exists())


def _is_step(text: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]*", text) is not None


def _manifests_newest_first(folder: Path) -> Iterator[Path]:
    yield from sorted((p for p in folder.glob("*.json") if _is_step(p.stem)), key=lambda p: -int(p.stem))


def _read_manifest(manifest: Path) -> tuple[SealedSet, dict[str, str]]:
    """The set that a manifest tells of, whose files have not been looked at, and their checksums by label."""
    step = int(manifest.stem)
    try:
        content = cast("dict[str, Any]", json.loads(read_regular(manifest, MAX_RECORD)))
        entries = cast("dict[str, dict[str, str]]", content.pop("files"))
        names = {label: entry["name"] for label, entry in entries.items()}
        checksums = {label: entry["sha256"] for label, entry in entries.items()}
        told = content.pop("step")
        _Extra.model_validate(content)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise CheckpointError(f"{manifest}: {printable(key[:200])}: {error.errors()[0]['msg']}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{manifest}: not a readable manifest ({error!r})") from error
    # Only files that write_set could have named: nothing outside the folder, nothing of another step.
    if told != step or any(name != f"{step}_{label}.pth" or not label.isalnum() for label, name in names.items()):
        raise CheckpointError(f"{manifest}: names files that are not of iteration {step}")
    return SealedSet(step, {label: manifest.parent / name for label, name in names.items()}, content), checksums


def _open_set(manifest: Path) -> SealedSet:
    sealed, checksums = _read_manifest(manifest)
    for label, path in sealed.files.items():
        if not path.is_file():
            raise CheckpointError(f"{path}: missing")
        if _sha256(path) != checksums[label]:
            raise CheckpointError(f"{path}: its content is not what was saved")
    return sealed


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
