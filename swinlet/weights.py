"""Reading weight files, without running code from them, and loading them by name."""

import json
import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from swinlet.errors import CheckpointError

LOGGER = logging.getLogger("swinlet")

DERIVED_BUFFERS = ("attn_mask", "relative_position_index")
_LISTED = 4  # tensors named in a message

# Where trainers put the weights inside a .pth, the best for deployment first.
_WEIGHT_KEYS = ("params_ema", "params", "state_dict", "model", "model_state_dict", "netG", "netE")


@dataclass(frozen=True)
class WeightFile:
    """A network's weights as a file holds them.

    Attributes:
        path: the file.
        source: option and file, for messages.
        state: parameter names to tensors, on the CPU.
        wrapper: the key that the weights stood under, "" for a bare state dict.
    """

    path: Path
    source: str
    state: dict[str, Tensor]
    wrapper: str


def read_weights(path: Path, key: str) -> dict[str, Tensor]:
    """The ``state`` of ``read_weight_file``."""
    return read_weight_file(path, key).state


def read_weight_file(path: Path, key: str) -> WeightFile:
    """Read a network's weights, onto the CPU.

    Args:
        path: .safetensors, or a .pth with a bare state dict or one under ``params_ema``, ``params``, ...
        key: path of the option that names the file, for messages.

    Raises:
        CheckpointError: missing, unreadable, not safe to read, or holding no state dict.
    """
    is_safetensors = path.suffix.lower() == ".safetensors"
    content = _read_safetensors(path, key) if is_safetensors else read_pth(path, key)
    found_state = _find_state(content)
    if found_state is None:
        found = list(cast("Mapping[str, Any]", content)) if isinstance(content, Mapping) else [type(content).__name__]
        held = ", ".join(map(str, found))[:200] or "nothing"
        raise CheckpointError(f"{key}: {path} holds no network weights (found: {held})")
    wrapper, state = found_state
    odd = next((name for name, tensor in state.items() if not _is_plain(tensor)), None)
    if odd is not None:
        raise CheckpointError(f"{key}: {path}: {odd} is not stored as a plain tensor with all its values")
    prefix = "module."  # left by DataParallel
    if all(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return WeightFile(path, f"{key}: {path}", state, wrapper)


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


def _is_plain(tensor: Tensor) -> bool:
    """Dense, on the CPU, and no few values that claim to be many."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _find_state(content: object, wrapper: str = "", depth: int = 4) -> tuple[str, dict[str, Tensor]] | None:
    if not isinstance(content, Mapping) or not content or depth == 0:
        return None
    mapping = cast("Mapping[object, object]", content)
    if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in mapping.items()):
        return wrapper, dict(cast("Mapping[str, Tensor]", mapping))
    inner = (_find_state(mapping.get(name), name, depth - 1) for name in _WEIGHT_KEYS)
    return next((found for found in inner if found is not None), None)


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
    wanted = without_derived_buffers(state)
    faults = [f"{name} missing" for name in own if name not in wanted]
    faults += [f"{name} unknown" for name in wanted if name not in own]
    shared = {name: tensor for name, tensor in wanted.items() if name in own}
    misfits = {name: text for name, tensor in shared.items() if (text := _misfit(tensor, own[name]))}
    faults += [f"{name} is {text}" for name, text in misfits.items()]
    if faults and strict:
        raise CheckpointError(f"{source} does not fit the network: {_some(faults)}")
    fitting = {name: tensor for name, tensor in shared.items() if name not in misfits}
    if not fitting:
        raise CheckpointError(f"{source} has no tensor in common with the network")
    if faults:
        LOGGER.warning("%s: %d of %d tensors loaded; left out: %s", source, len(fitting), len(own), _some(faults))
    network.load_state_dict(fitting, strict=False)


def without_derived_buffers(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without the official SwinIR's buffers that follow from its configuration; ours computes them."""
    return {name: value for name, value in state.items() if name.rpartition(".")[2] not in DERIVED_BUFFERS}


def _some(faults: list[str]) -> str:
    rest = len(faults) - _LISTED
    return "; ".join(faults[:_LISTED]) + (f"; and {rest} more" if rest > 0 else "")


def _misfit(tensor: Tensor, own: Tensor) -> str:
    """What keeps a tensor from being copied into the network's; "" if nothing does. Precisions are converted."""
    if tensor.shape != own.shape:
        return f"{tuple(tensor.shape)}, not {tuple(own.shape)}"
    if tensor.is_floating_point() != own.is_floating_point():
        return f"{tensor.dtype}, not {own.dtype}"
    return ""


@dataclass(frozen=True)
class Recorded:
    """What tensors do not tell of the network that saved them; None where it is not recorded."""

    net_type: str | None = None
    img_range: float | None = None


def recorded_network(path: Path) -> Recorded:
    """Read it from where it may stand.

    That is a .safetensors file's metadata; the manifest beside a ``{step}_{label}.pth``; or, where the folder is
    called models as in a run of the reference, the option files in the folder options beside it.
    """
    if path.suffix.lower() == ".safetensors":
        return _as_recorded(_metadata(path))
    manifest = _read_json(path.with_name(f"{path.name.partition('_')[0]}.json"))
    if isinstance(manifest, dict) and "network" in manifest:
        return _as_recorded(cast("dict[str, Any]", manifest)["network"])
    if path.absolute().parent.name != "models":
        return Recorded()
    found = {_as_recorded(_student_section(file)) for file in (path.absolute().parents[1] / "options").glob("*.json")}
    return found.pop() if len(found) == 1 else Recorded()  # a folder that served several runs tells nothing


def _metadata(path: Path) -> object:
    try:
        with cast("Any", safetensors.safe_open)(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
        return json.loads(metadata.get("config", "{}")) | {"net_type": metadata.get("net_type")}
    except (OSError, ValueError, TypeError, RecursionError, safetensors.SafetensorError):
        return None  # other programs write other metadata


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # other programs' files


def _student_section(options: Path) -> object:
    content = _read_json(options)
    return cast("dict[str, Any]", content).get("netG") if isinstance(content, dict) else None


def _as_recorded(record: object) -> Recorded:
    if not isinstance(record, dict):
        return Recorded()
    net_type, img_range = (cast("dict[str, Any]", record).get(key) for key in ("net_type", "img_range"))
    return Recorded(
        net_type if isinstance(net_type, str) else None,
        float(img_range) if isinstance(img_range, int | float) else None,
    )
