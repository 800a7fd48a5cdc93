"""onnxruntime on the CPU."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from swinlet.engines.engine import EnginePrecision, Run, package
from swinlet.errors import OptionError

NAME = "onnxruntime"
_FATAL = 4  # its own log repeats what the exceptions say


def load_onnx(model: bytes, precision: EnginePrecision, threads: int) -> Run:
    """From an ONNX model.

    Raises:
        OptionError: another precision than fp32.
        SwinletError: the package is not installed.
        Exception: onnxruntime does not take the model.
    """
    if precision != "fp32":
        raise OptionError(f"--precision {precision}: onnxruntime computes in fp32 on the CPU; use another --backend")
    onnxruntime = package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else its threads disturb others
    session: Any = onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,  # which prints and tries the same again
    )
    name = session.get_inputs()[0].name

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return session.run(None, {name: image})[0]

    return run
