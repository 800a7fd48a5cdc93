"""OpenVINO on the CPU."""

import hashlib
import io
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swinlet.engines.engine import EnginePrecision, Run, package
from swinlet.errors import OptionError

NAME = "OpenVINO"
SECTION = "swinlet"
"""Where a model's runtime information keeps what we write into it."""

WEIGHTS_SHA256 = "weights_sha256"
"""Of the .bin that belongs to an .xml: OpenVINO itself takes any that is large enough."""

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}


def read_onnx(model: bytes) -> Any:
    """An ONNX model as OpenVINO's.

    Raises:
        SwinletError: the package is not installed.
        Exception: OpenVINO does not take the model.
    """
    return package("openvino").Core().read_model(io.BytesIO(model))


def read_ir(xml: bytes, weights: bytes) -> Any:
    """OpenVINO's own files, .xml and .bin; errors as of ``read_onnx``."""
    return package("openvino").Core().read_model(xml, weights)


def as_ir(model: Any, metadata: dict[str, str], half: bool) -> tuple[bytes, bytes]:
    """The content of OpenVINO's own files, .xml and .bin; ``half``: with weights in fp16."""
    for key, value in metadata.items():
        model.set_rt_info(value, [SECTION, key])
    _, weights = _saved(model, half)
    model.set_rt_info(hashlib.sha256(weights).hexdigest(), [SECTION, WEIGHTS_SHA256])
    return _saved(model, half)


def _saved(model: Any, half: bool) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory(prefix="swinlet-") as folder:  # OpenVINO writes to paths alone
        path = Path(folder) / "model.xml"
        package("openvino").save_model(model, str(path), compress_to_fp16=half)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def metadata_of(model: Any, keys: Iterable[str]) -> dict[str, str]:
    """What we have written into a model."""
    return {key: str(model.get_rt_info([SECTION, key]).value) for key in keys if model.has_rt_info([SECTION, key])}


def load_openvino(model: Any, precision: EnginePrecision, threads: int) -> Run:
    """From a model of ``read_onnx`` or ``read_ir``.

    Raises:
        OptionError: this processor has no such precision.
        Exception: OpenVINO does not take the model.
    """
    core = package("openvino").Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES[precision] not in capabilities:
        raise OptionError(f"--precision {precision}: OpenVINO has no such precision on this processor; use fp32")
    options = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", options)
    own = threading.local()  # a request serves one thread

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer([image])[compiled.outputs[0]].copy()  # the request writes there again

    return run
