"""Weights under the official names, with all that other loaders need."""

import io
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from swinlet.models.network_swinir import SwinIR
from swinlet.models.onnx_graph import WeightPrecision
from swinlet.models.select_network import net_type_of
from swinlet.weights import PTH_METADATA, halved

FORMAT_VERSION = "1"

_ASSUMED_SIZE = 64
"""The ``img_size`` that spandrel and we assume where the first RSTB has no mask to read it off."""


def metadata_of(network: SwinIR, options_sha256: str | None, changes: dict[str, Any] | None = None) -> dict[str, str]:
    """What the files tell of a network besides its weights.

    Args:
        network: the network.
        options_sha256: of the training's option file, if it is known.
        changes: of its arguments, where the file holds an equal network.
    """
    config = {key: value for key, value in network.config.items() if key != "drop_path_rate"} | (changes or {})
    return {
        "format_version": FORMAT_VERSION,
        "net_type": net_type_of(network),
        "config": json.dumps(config),
        "scale": str(network.upscale),
        "in_chans": str(network.in_chans),
        "window_size": str(network.window_size),
        "bytes_per_pixel": str(network.bytes_per_pixel),
        **({"options_sha256": options_sha256} if options_sha256 is not None else {}),
    }


def as_safetensors(network: SwinIR, options_sha256: str | None = None, precision: WeightPrecision = "fp32") -> bytes:
    """A .safetensors file of a network."""
    state, metadata = _portable(network, options_sha256, precision)
    return _in_order(safetensors.torch.save(state, {"format": "pt", **metadata}))


def _in_order(content: bytes) -> bytes:
    """A .safetensors file with sorted metadata: the library has them in any order, and checksums would differ."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values begin at multiples of 8
    return len(text).to_bytes(8, "little") + text + content[end:]


def as_pth(network: SwinIR, options_sha256: str | None, precision: WeightPrecision) -> bytes:
    """A .pth as KAIR's and BasicSR's, the weights under ``params_ema``."""
    state, metadata = _portable(network, options_sha256, precision)
    buffer = io.BytesIO()
    torch.save({"params_ema": state, PTH_METADATA: metadata}, buffer)
    return buffer.getvalue()


def _portable(
    network: SwinIR, options_sha256: str | None, precision: WeightPrecision
) -> tuple[dict[str, Tensor], dict[str, str]]:
    img_size = _mask_size(network.config)
    state = network.official_state_dict(img_size)
    changes: dict[str, Any] = {"img_size": img_size}
    if network.block is not SwinIR.block:
        # Computed as a SwinIR, these weights make nonsense: a tensor that no other loader knows keeps it from them.
        state[net_type_of(network)] = torch.ones(1)
    else:
        img_range = 255.0 if network.config["window_size"] == 7 else 1.0  # as spandrel tells them apart
        _change_range(state, network.img_range / img_range)
        changes["img_range"] = img_range
    metadata = metadata_of(network, options_sha256, changes)
    if precision == "fp16":
        state = {name: halved(value) if value.is_floating_point() else value for name, value in state.items()}
    return {name: value.clone() for name, value in state.items()}, metadata  # blocks share their buffers


def _mask_size(config: Mapping[str, Any]) -> int:
    """The image size to make masks for: small where nothing else depends on it. Any is exact, as loaders make their own
    for images of another size."""
    side: int = config["window_size"]
    if config["ape"] or config["img_size"] <= side:
        return config["img_size"]
    return 2 * side if config["depths"][0] > 1 else max(_ASSUMED_SIZE, 2 * side)


def _change_range(state: dict[str, Tensor], factor: float) -> None:
    """Make weights for ``img_range`` r those for r / factor, which compute the same but for rounding."""
    last = "conv_last" if "conv_last.weight" in state else "upsample.0"
    for name, by in (("conv_first.weight", factor), (f"{last}.weight", 1 / factor), (f"{last}.bias", 1 / factor)):
        state[name] = state[name] * by
