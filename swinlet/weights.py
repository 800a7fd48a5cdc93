"""Reading weight files, without running code from them, and loading them by name."""

import errno
import io
import json
import logging
import math
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from swinlet.archive import MAX_TENSORS, checked_pth, safetensors_header
from swinlet.errors import CheckpointError
from swinlet.options.names import NETWORKS
from swinlet.prefixes import without_prefix
from swinlet.utils.files import MAX_RECORD, open_regular, read_regular
from swinlet.utils.names import printable

LOGGER = logging.getLogger("swinlet")

DERIVED_BUFFERS = ("attn_mask", "relative_position_index")
PTH_METADATA = "swinlet"
"""Where a .pth that ``swinlet export`` wrote keeps, beside the weights, what a .safetensors has as metadata."""

_EXPORTED = (".onnx", ".xml")
_LARGEST = {"upscale": 8, "img_size": 2**16, "window_size": 2**8 - 1}
"""Sizes that are believed: images are padded to whole windows, so a file could ask for any amount of memory."""
_LISTED = 4  # tensors named in a message
_PRECISIONS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

# Where trainers put the weights inside a .pth, the best for deployment first.
_WEIGHT_KEYS = (
    *("params_ema", "params-ema", "net_g_ema", "state_dict_ema", "model_ema"),
    *("params", "state_dict", "model", "model_state_dict", "netG", "netE", "net", "net_g", "generator"),
)


@dataclass(frozen=True)
class Recorded:
    """What tensors do not tell, or not always, of the network that saved them; None where it is not recorded."""

    net_type: str | None = None
    img_range: float | None = None
    upscale: int | None = None
    img_size: int | None = None
    window_size: int | None = None
    options_sha256: str | None = None


@dataclass(frozen=True)
class WeightFile:
    """A network's weights as a file holds them.

    Attributes:
        path: the file.
        source: option and file, for messages.
        state: parameter names to tensors, on the CPU.
        wrapper: the key that the weights stood under, "" for a bare state dict.
        recorded: what the file, or what stands beside it, tells of the network.
    """

    path: Path
    source: str
    state: dict[str, Tensor]
    wrapper: str
    recorded: Recorded = Recorded()


def read_weights(path: Path, key: str) -> dict[str, Tensor]:
    """The ``state`` of ``read_weight_file``."""
    return read_weight_file(path, key).state


def read_weight_file(path: Path, key: str) -> WeightFile:
    """Read a network's weights, onto the CPU.

    Args:
        path: .safetensors, or a .pth with a bare state dict or one under ``params_ema``, ``params``, ... A prefix
            before the names of a network's tensors is taken off, see ``without_prefix``.
        key: path of the option that names the file, for messages.

    Raises:
        CheckpointError: missing, unreadable, not safe to read, or holding no state dict.
    """
    suffix = path.suffix.lower()
    if suffix in _EXPORTED:
        raise CheckpointError(f"{key}: {path} is an exported network: name the weights that it was made from")
    is_safetensors = suffix == ".safetensors"
    content = _read_safetensors(path, key) if is_safetensors else read_pth(path, key)
    found_state = _find_state(content)
    if found_state is None:
        found = list(cast("Mapping[Any, Any]", content)) if isinstance(content, Mapping) else [type(content).__name__]
        held = ", ".join(map(_name, found[:10]))[:200] or "nothing"
        raise CheckpointError(f"{key}: {path} holds no network weights (found: {held})")
    wrapper, state = found_state
    if len(state) > MAX_TENSORS:
        raise CheckpointError(f"{key}: {path} holds {len(state):,} tensors; no network has more than {MAX_TENSORS:,}")
    state = without_prefix(state, f"{key}: {path}")
    odd = next((name for name, tensor in state.items() if not is_plain(tensor)), None)
    if odd is not None:
        raise CheckpointError(f"{key}: {path}: {_name(odd)} is not stored as a plain tensor with all its values")
    return WeightFile(path, f"{key}: {path}", state, wrapper, _recorded(path, content, state))


def _recorded(path: Path, content: object, state: dict[str, Tensor]) -> Recorded:
    """What is known of the network; a marker is taken out of the state."""
    markers = [name for name in NETWORKS if name in state]
    for name in markers:
        del state[name]
    inside = cast("Mapping[str, object]", content).get(PTH_METADATA) if isinstance(content, Mapping) else None
    recorded = _as_recorded(_config_of(inside)) if isinstance(inside, Mapping) else recorded_network(path)
    return replace(recorded, net_type=markers[0]) if markers else recorded


def _name(key: object) -> str:
    """A key of a dict for a message. It may be anything; the text of a number with many digits takes long."""
    short = isinstance(key, str) or (isinstance(key, int) and key.bit_length() < 64)
    return printable(str(key))[:100] if short else type(key).__name__


def _read_safetensors(path: Path, key: str) -> object:
    content = _read_whole(path, key)
    try:
        header = safetensors_header(io.BytesIO(content), len(content))
        if len(header) > MAX_TENSORS:
            raise ValueError(f"it holds {len(header):,} tensors; no network has more than {MAX_TENSORS:,}")
        # From memory, not mapped: a mapped file that another program shortens later kills the process.
        return safetensors.torch.load(content)
    except Exception as error:  # an unknown dtype is a KeyError, and so on
        reason = f"unknown dtype {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{key}: {path} is not a readable safetensors file: {reason}") from error


def read_pth(path: Path, key: str) -> object:
    """Read a file of ``torch.save`` that holds only tensors and plain containers, onto the CPU.

    Raises:
        CheckpointError: missing, unreadable, or holding anything that would have to be executed.
    """
    content = _read_whole(path, key)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and old storage types: nothing to be done
            return torch.load(checked_pth(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds for broken files, none of them documented
        raise CheckpointError(f"{key}: {path} is not a readable weight file: {_reason(error)}") from error


def _read_whole(path: Path, key: str) -> bytes:
    limit = _max_weights_gb()
    try:
        return read_regular(path, int(limit * 1e9))
    except FileNotFoundError:
        raise CheckpointError(f"{key}: {path} does not exist") from None
    except IsADirectoryError:
        raise CheckpointError(f"{key}: {path} is a folder, not a weight file") from None
    except OSError as error:
        advice = " (SWINLET_MAX_WEIGHTS_GB raises the limit)" if error.errno == errno.EFBIG else ""
        # The command line takes an OSError behind it for the machine's fault, as a disk that cannot be read.
        cause = None if error.errno in (errno.EFBIG, errno.EINVAL) else error
        raise CheckpointError(f"{key}: {path} is not a readable weight file: {error.strerror}{advice}") from cause


def _max_weights_gb() -> float:
    """$SWINLET_MAX_WEIGHTS_GB, or 2: the weights of the largest SwinIR with moments of an optimiser have 0.4."""
    text = os.environ.get("SWINLET_MAX_WEIGHTS_GB") or "2"
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < 1e6:
        raise CheckpointError(f"SWINLET_MAX_WEIGHTS_GB: must be a number of gigabytes (got {text!r})")
    return limit


def _reason(error: Exception) -> str:
    """Why torch.load failed, without its advice to switch its safety off."""
    text = str(error).strip()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, pickle.UnpicklingError):
        refused = re.search(r"(?:GLOBAL|callable|type) ([\w.]+\.[\w.]+)", text)
        if text.startswith("it"):  # of swinlet.archive
            return f"{text}, which is refused for safety"
        named = f" ({refused[1]})" if refused else ""
        return f"it is damaged, of another format, or holds more than tensors{named}, which is refused for safety"
    if "zip archive" in text or isinstance(error, zipfile.BadZipFile):
        return "it is truncated or damaged"
    if isinstance(error, RuntimeError) and text:
        return text.splitlines()[0][:200]
    return f"it is empty, damaged or of another format ({type(error).__name__})"


def is_plain(tensor: Tensor) -> bool:
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
    shared = {name: tensor for name, tensor in wanted.items() if name in own}
    misfits, faults = _faults(own, wanted)
    broken = [name for name, tensor in shared.items() if name not in misfits and not is_finite(tensor)]
    if broken:
        raise CheckpointError(f"{source}: {_some(broken)} holds values that are no numbers (NaN or infinite)")
    if faults and strict:
        raise CheckpointError(f"{source} does not fit the network: {_some(faults)}")
    fitting = {name: tensor for name, tensor in shared.items() if name not in misfits}
    if not fitting:
        raise CheckpointError(f"{source} has no tensor in common with the network")
    if faults:
        LOGGER.warning("%s: %d of %d tensors loaded; left out: %s", source, len(fitting), len(own), _some(faults))
    network.load_state_dict(fitting, strict=False)


def check_fit(network: torch.nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that do not fit tensor by tensor, whatever their values; the network may be on the meta device.

    Raises:
        CheckpointError: naming the first tensors that do not fit.
    """
    _, faults = _faults(network.state_dict(), without_derived_buffers(state))
    if faults:
        raise CheckpointError(f"{source} does not fit the network: {_some(faults)}")


def _faults(own: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[set[str], list[str]]:
    """Which tensors have another shape or dtype, and all that does not fit, in words."""
    texts = {name: text for name, tensor in wanted.items() if name in own and (text := _misfit(tensor, own[name]))}
    faults = [f"{name} missing" for name in own if name not in wanted]
    faults += [f"{name} unknown" for name in wanted if name not in own]
    return set(texts), faults + [f"{name} is {text}" for name, text in texts.items()]


def without_derived_buffers(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without the official SwinIR's buffers that follow from its configuration; ours computes them."""
    return {name: value for name, value in state.items() if name.rpartition(".")[2] not in DERIVED_BUFFERS}


def _some(faults: list[str]) -> str:
    rest = len(faults) - _LISTED
    return "; ".join(printable(fault[:200]) for fault in faults[:_LISTED]) + (f"; and {rest} more" if rest > 0 else "")


def _misfit(tensor: Tensor, own: Tensor) -> str:
    """What keeps a tensor from being copied into the network's; "" if nothing does. Precisions are converted."""
    if tensor.shape != own.shape:
        return f"{tuple(tensor.shape)}, not {tuple(own.shape)}"
    if tensor.dtype not in _PRECISIONS:
        return f"{tensor.dtype}, not {own.dtype}"
    return ""


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are numbers, in the network's precision too."""
    return bool(tensor.float().isfinite().all())


def halved(tensor: Tensor) -> Tensor:
    """The tensor in fp16.

    Raises:
        CheckpointError: a value is too large for it.
    """
    half = tensor.half()
    if not half.isfinite().all():
        raise CheckpointError(f"fp16: weights as large as {tensor.abs().max():.4g} do not fit, 65504 is the largest")
    return half


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
        with open_regular(path) as file:
            return _config_of(safetensors_header(file, path.stat().st_size)["__metadata__"])
    except (OSError, ValueError, KeyError, RecursionError):
        return None  # other programs write none


def _config_of(metadata: Any) -> object:
    try:
        others = {key: metadata.get(key) for key in ("net_type", "options_sha256")}
        return json.loads(metadata.get("config", "{}")) | others
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None  # other programs write other metadata


def _read_json(path: Path) -> object:
    try:
        return json.loads(read_regular(path, MAX_RECORD))
    except (OSError, ValueError, RecursionError):
        return None  # other programs' files


def _student_section(options: Path) -> object:
    content = _read_json(options)
    return cast("dict[str, Any]", content).get("netG") if isinstance(content, dict) else None


def _as_recorded(record: object) -> Recorded:
    if not isinstance(record, dict):
        return Recorded()
    values = cast("dict[str, Any]", record)
    net_type, img_range, digest = (values.get(key) for key in ("net_type", "img_range", "options_sha256"))
    is_range = type(img_range) in (int, float) and 0 < cast("float", img_range) < 1e6  # not NaN, which is not below
    return Recorded(
        net_type if isinstance(net_type, str) else None,
        float(cast("float", img_range)) if is_range else None,
        **{key: _as_size(values.get(key), limit) for key, limit in _LARGEST.items()},
        options_sha256=digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else None,
    )


def _as_size(value: object, limit: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= limit else None
