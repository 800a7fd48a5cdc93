"""OpenVINO and onnxruntime on the CPU, where they are installed: the torch path, exported at a fixed size."""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.check import require_same
from benchmarks.measure import Call
from benchmarks.paths import torch_path
from benchmarks.settings import Settings
from benchmarks.workloads import Workload
from swinlet.utils.files import write_atomic

_Run = Callable[[Any], Any]


@dataclass(frozen=True)
class Engine:
    """One of them.

    Attributes:
        packages: to be installed.
        bf16: whether it can be asked for bf16.
        load: from an ONNX file, bf16, and a number of threads to a function from an image to a picture (numpy).
    """

    name: str
    packages: tuple[str, ...]
    bf16: bool
    load: Callable[[Path, bool, int], _Run]

    @property
    def missing(self) -> str | None:
        """Why it cannot be measured."""
        absent = [package for package in self.packages if importlib.util.find_spec(package) is None]
        return f"not installed (pip install {' '.join(absent)})" if absent else None

    def prepare(self, workload: Workload, precision: str, scratch: str) -> Call:
        """Export (once for all processes of a run), load, and compare the picture with the torch path's.

        Raises:
            RuntimeError: the picture differs.
        """
        model, answer = _exported(workload, Path(scratch))
        image = workload.images().numpy()
        run = self.load(model, precision == "bf16", torch.get_num_threads())
        require_same(torch.from_numpy(run(image)), torch.load(answer, weights_only=True), precision)
        return lambda: run(image)


def engines(settings: Settings) -> list[Engine]:
    """Those of a line-up; on a GPU, and for a quick look, none."""
    return [] if settings.line_up == "cuda" or settings.sizes == "quick" else _ENGINES


def _openvino(model: Path, bf16: bool, threads: int) -> _Run:
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(model), "CPU", options)
    request = compiled.create_infer_request()
    return lambda image: request.infer([image])[compiled.outputs[0]]


def _onnxruntime(model: Path, bf16: bool, threads: int) -> _Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else its threads disturb who comes next
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


_ENGINES = [
    Engine("openvino", ("openvino", "onnx"), True, _openvino),
    Engine("onnxruntime", ("onnxruntime", "onnx"), False, _onnxruntime),
]


def _exported(workload: Workload, scratch: Path) -> tuple[Path, Path]:
    """The torch path as an ONNX file, and its picture of the workload's image."""
    model, answer = (scratch / f"{workload.name}.{suffix}" for suffix in ("onnx", "pt"))
    if not answer.exists():  # written last
        network = workload.network().eval().requires_grad_(False)
        image = workload.images()
        with torch_path()(), torch.no_grad(), warnings.catch_warnings():
            # Traced, which torch calls outdated: the newer exporter takes ten times as long, for the same speed.
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (image,), str(model), dynamo=False)
            picture = network(image)
        write_atomic(answer, lambda file: torch.save(picture, file))
    return model, answer
