"""Networks computed by other engines than torch: onnxruntime and OpenVINO, on the CPU."""

from swinlet.engines.engine import Backend, Engine, EnginePrecision
from swinlet.engines.open_engine import open_engine

__all__ = ["Backend", "Engine", "EnginePrecision", "open_engine"]
