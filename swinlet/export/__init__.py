"""Trained networks as files for other programs: safetensors, .pth, ONNX, OpenVINO."""

from swinlet.export.request import ExportRequest, export_request
from swinlet.export.verification import Verified, as_text, verify
from swinlet.export.write import Exported, export

__all__ = ["ExportRequest", "Exported", "Verified", "as_text", "export", "export_request", "verify"]
