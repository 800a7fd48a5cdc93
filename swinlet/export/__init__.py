"""Trained networks as files for other programs: safetensors, .pth, ONNX, OpenVINO."""

from swinlet.export.export import Exported, export
from swinlet.export.request import ExportRequest, export_request
from swinlet.export.verify import Verified, as_text, verify

__all__ = ["ExportRequest", "Exported", "Verified", "as_text", "export", "export_request", "verify"]
