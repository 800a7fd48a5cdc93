"""Trained networks as files for other programs: safetensors, .pth, ONNX, OpenVINO."""

from swinlet.export.request import ExportRequest, Format, export_request
from swinlet.export.verification import Verified, as_text, require_engines, verify
from swinlet.export.write import Exported, export

__all__ = [
    "ExportRequest",
    "Exported",
    "Format",
    "Verified",
    "as_text",
    "export",
    "export_request",
    "require_engines",
    "verify",
]
