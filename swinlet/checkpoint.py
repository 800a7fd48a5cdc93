"""Weight files and sealed sets of them.

A checkpoint is a set of files ``{step}_{label}.pth`` (labels G, E, P, optimizerG) in one folder, as in the reference.
Each is written to a temporary name, synced and renamed; a manifest ``{step}.json`` with their checksums, written
last, seals the set. Files are read without running code from them.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from swinlet.errors import CheckpointError

LOGGER = logging.getLogger("swinlet")

# Where trainers put the weights inside a .pth, the best for deployment first.
_WEIGHT_KEYS = ("params_ema", "params", "state_dict", "model", "model_state_dict", "netG", "netE")


def read_weights(path: Path, key: str) -> dict[str, Tensor]:
    """Read a network's weights, onto the CPU.

    Args:
        path: .safetensors, or a .pth with a bare state dict or one under ``params_ema``, ``params``, ...
        key: path of the option that names the file, for messages.

    Raises:
        CheckpointError: missing, unreadable, not safe to read, or holding no state dict.
    """
    is_safetensors = path.suffix.lower() == ".safetensors"
    content = _read_safetensors(path, key) if is_safetensors else read_pth(path, key)
    state = _find_state(content)
    if state is None:
        found = list(cast("Mapping[str, Any]", content)) if isinstance(content, Mapping) else [type(content).__name__]
        held = ", ".join(map(str, found))[:200] or "nothing"
        raise CheckpointError(f"{key}: {path} holds no network weights (found: {held})")
    prefix = "module."  # left by DataParallel
    if all(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read_safetensors(path: Path, key: str) -> object:
    _refuse_non_file(path, key)
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{key}: {path} is not a readable safetensors file: {error}") from error


def read_pth(path: Path, key: str) -> object:
    """Read a file of ``torch.save`` that holds only tensors and plain containers, onto the CPU.

    Raises:
        CheckpointError: missing, unreadable, or holding anything that would have to be executed.
    """
    _refuse_non_file(path, key)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and old storage types: nothing to be done
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds for broken files, none of them documented
        raise CheckpointError(f"{key}: {path} is not a readable weight file: {_reason(error)}") from error


def _refuse_non_file(path: Path, key: str) -> None:
    if not path.exists():
        raise CheckpointError(f"{key}: {path} does not exist")
    if not path.is_file():
        raise CheckpointError(f"{key}: {path} is a folder, not a weight file")


def _reason(error: Exception) -> str:
    """Why torch.load failed, without its advice to switch its safety off."""
    text = str(error).strip()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, pickle.UnpicklingError):
        refused = re.search(r"(?:GLOBAL|callable|type) ([\w.]+\.[\w.]+)", text)
        named = f" ({refused[1]})" if refused else ""
        return f"it is damaged, of another format, or holds more than tensors{named}, which is refused for safety"
    if "zip archive" in text:
        return "it is truncated or damaged"
    if isinstance(error, RuntimeError) and text:
        return text.splitlines()[0][:200]
    return f"it is empty, damaged or of another format ({type(error).__name__})"


def _find_state(content: object, depth: int = 4) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping) or not content or depth == 0:
        return None
    mapping = cast("Mapping[object, object]", content)
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in mapping.items()):
        return dict(cast("Mapping[str, Tensor]", mapping))
    inner = (_find_state(mapping.get(name), depth - 1) for name in _WEIGHT_KEYS)
    return next((state for state in inner if state is not None), None)


def load_into(network: torch.nn.Module, state: Mapping[str, Tensor], *, strict: bool, source: str) -> None:
    """Load weights by name.

    Args:
        network: receives the weights.
        state: names to tensors.
        strict: every tensor must fit; otherwise those that do not (by name and shape) are left out and logged.
        source: option and file, for messages.

    Raises:
        CheckpointError: with ``strict``, naming the first tensors that do not fit; without, nothing fits at all.
    """
    own = network.state_dict()
    # The official files carry buffers that a network computes itself; see SwinIR.load_state_dict.
    wanted = {name: t for name, t in state.items() if not name.endswith(("attn_mask", "relative_position_index"))}
    faults = [f"{name} missing" for name in own if name not in wanted]
    faults += [f"{name} unknown" for name in wanted if name not in own]
    shared = {name: tensor for name, tensor in wanted.items() if name in own}
    misfits = {name: text for name, tensor in shared.items() if (text := _misfit(tensor, own[name]))}
    faults += [f"{name} is {text}" for name, text in misfits.items()]
    if faults and strict:
        shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
        raise CheckpointError(f"{source} does not fit the network: {shown}")
    fitting = {name: tensor for name, tensor in shared.items() if name not in misfits}
    if not fitting:
        raise CheckpointError(f"{source} has no tensor in common with the network")
    if faults:
        LOGGER.warning("%s: %d of %d tensors loaded; left out: %s", source, len(fitting), len(own), "; ".join(faults))
    network.load_state_dict(fitting, strict=False)


def _misfit(tensor: Tensor, own: Tensor) -> str:
    """What keeps a tensor from being copied into the network's; "" if nothing does. Precisions are converted."""
    if tensor.shape != own.shape:
        return f"{tuple(tensor.shape)}, not {tuple(own.shape)}"
    if tensor.is_floating_point() != own.is_floating_point():
        return f"{tensor.dtype}, not {own.dtype}"
    return ""


def write_atomic(path: Path, write: Callable[[io.BufferedWriter], object]) -> None:
    """Write a file so that ``path`` is, at any instant, its old content or all of its new content.

    Raises:
        CheckpointError: the disk is full, the folder cannot be written, ...; nothing at ``path`` has changed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save wraps a failed write in a RuntimeError
        raise CheckpointError(f"{path}: cannot be written: {error}") from error
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
        state = states[label]
        write_atomic(path, lambda file, state=state: torch.save(state, file))
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
