"""Whether operations are being recorded rather than executed."""

import torch


def is_exported() -> bool:
    """By ``torch.export``, ``torch.jit.trace`` or an ONNX exporter: for use where only torch's own operators exist."""
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return True
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()  # torch 2.7


def is_traced() -> bool:
    """Those, or by ``torch.compile``."""
    return is_exported() or torch.compiler.is_compiling()
