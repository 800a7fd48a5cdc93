"""From a file to an engine that computes it."""

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from swinlet.engines import openvino_cpu
from swinlet.engines.engine import Backend, Engine, EnginePrecision, Run, first_line, package
from swinlet.engines.onnxruntime_cpu import NAME as ONNXRUNTIME
from swinlet.engines.onnxruntime_cpu import load_onnx
from swinlet.errors import CheckpointError, OptionError, SwinletError
from swinlet.models.onnx_graph import onnx_graph
from swinlet.models.open_network import open_weights
from swinlet.utils.files import read_regular
from swinlet.utils.names import printable

_KNOWN: Mapping[str, Collection[int]] = {
    "scale": (1, 2, 3, 4, 8),
    "in_chans": (1, 3),
    "window_size": range(1, 2**8),
    "bytes_per_pixel": range(1, 2**40),
}
"""What exported files tell of their network, and the values that networks have."""
_MAX_BYTES = 2**31 - 1  # of a protobuf message


def open_engine(
    backend: Backend,
    weights: Path,
    *,
    precision: EnginePrecision = "fp32",
    threads: int | None = None,
    net_type: str | None = None,
    key: str = "--weights",
) -> Engine:
    """An engine that computes a network on the CPU.

    Args:
        backend: "onnx" (onnxruntime) or "openvino".
        weights: an ``.onnx`` that ``swinlet export`` wrote; an OpenVINO ``.xml``, with its ``.bin`` beside it; or a
            weight file of this project, which is exported in memory.
        precision: of products and convolutions; bf16 with OpenVINO, on processors that have it. Networks that were
            exported with ``--precision int8`` or ``fp16`` are computed as they were exported under "fp32".
        threads: to compute with; None: as many as torch.
        net_type: of weight files that do not tell V1 from V2.
        key: the option that names the file, for messages.

    Raises:
        CheckpointError: the file is missing, damaged, of another program, or not for this engine.
        OptionError: the engine has no such precision here.
        SwinletError: the engine is not installed (extra ``engines``).
    """
    source = f"{key}: {weights}"
    threads = threads or torch.get_num_threads()
    suffix = weights.suffix.lower()
    if suffix == ".xml":
        if backend != "openvino":
            raise OptionError(f"{source} is a model of OpenVINO: use --backend openvino")
        model = _read_ir(weights, source)
        numbers = _checked(openvino_cpu.metadata_of(model, _KNOWN), source)
    elif suffix == ".onnx":
        content = _read(weights, source)
        numbers = _checked(_onnx_metadata(content, source), source)
        model = content if backend == "onnx" else _guarded(source, "OpenVINO", openvino_cpu.read_onnx, content)
    else:
        network = open_weights(weights, key, net_type)[0]
        numbers = (network.upscale, network.in_chans, network.window_size, network.bytes_per_pixel)
        content = onnx_graph(network, {}).SerializeToString()
        model = content if backend == "onnx" else _guarded(source, "OpenVINO", openvino_cpu.read_onnx, content)
    load, name = (load_onnx, ONNXRUNTIME) if backend == "onnx" else (openvino_cpu.load_openvino, openvino_cpu.NAME)
    run: Run = _guarded(source, name, load, model, precision, threads)
    return Engine(name, source, *numbers, run)


def _guarded(source: str, engine: str, function: Any, *arguments: Any) -> Any:
    """Call an engine, which raises classes of its own and RuntimeError for files that it does not take."""
    try:
        return function(*arguments)
    except SwinletError:
        raise
    except Exception as error:
        raise CheckpointError(f"{source}: {engine} does not take it: {first_line(error)}") from error


def _read(path: Path, source: str) -> bytes:
    try:
        return read_regular(path, _MAX_BYTES)
    except FileNotFoundError:
        raise CheckpointError(f"{source} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror}") from error


def _read_ir(path: Path, source: str) -> Any:
    """From memory, not mapped: a mapped file that another program shortens later ends the process."""
    weights = path.with_suffix(".bin")
    contents = _read(path, source), _read(weights, f"{source} needs {weights.name} beside it, which")
    model = _guarded(source, openvino_cpu.NAME, openvino_cpu.read_ir, *contents)
    digest = openvino_cpu.metadata_of(model, [openvino_cpu.WEIGHTS_SHA256]).get(openvino_cpu.WEIGHTS_SHA256)
    if digest is not None and digest != hashlib.sha256(contents[1]).hexdigest():
        raise CheckpointError(f"{source}: {weights.name} is damaged, or of another export: write both anew")
    return model


def _onnx_metadata(content: bytes, source: str) -> dict[str, str]:
    """The properties of a model, which has been looked at: all in one file, one plain graph."""
    onnx = package("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # DecodeError of protobuf, which has several implementations
        raise CheckpointError(f"{source} is no readable ONNX file: {first_line(error)}") from error
    stored = onnx.TensorProto.DEFAULT
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            if attribute.HasField("g") or attribute.graphs:
                raise CheckpointError(f"{source}: it has graphs inside its graph: swinlet export writes none")
    if model.functions or any(tensor.data_location != stored for tensor in tensors):
        raise CheckpointError(f"{source}: it has functions or values in other files: swinlet export writes none")
    return {entry.key: entry.value for entry in model.metadata_props}


def _checked(metadata: Mapping[str, str], source: str) -> tuple[int, int, int, int]:
    """The numbers of ``_KNOWN``."""
    missing = [key for key in _KNOWN if key not in metadata]
    if missing:
        raise CheckpointError(
            f"{source} does not tell its {' and '.join(missing)}: it was not written by swinlet export"
        )
    wrong = next((key for key, values in _KNOWN.items() if _number(metadata[key]) not in values), None)
    if wrong is not None:
        raise CheckpointError(f"{source}: {wrong} {printable(metadata[wrong])[:40]!r} is none of a SwinIR")
    scale, in_chans, window_size, bytes_per_pixel = (_number(metadata[key]) for key in _KNOWN)
    return scale, in_chans, window_size, bytes_per_pixel


def _number(text: str) -> int:
    return int(text) if re.fullmatch("[1-9][0-9]{0,12}", text) else 0
