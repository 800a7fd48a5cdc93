"""On what, with what and of what a measurement was made."""

import logging
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from swinlet.utils.device import has_bf16_instructions

ROOT = Path(__file__).resolve().parents[1]
_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_PACKAGES = ("torch", "numpy", "openvino", "onnxruntime", "onnx")


def start_process(device: str) -> None:
    """Before anything else in a process that measures."""
    logging.getLogger("swinlet").setLevel(logging.ERROR)  # teachers have random weights here, which is a warning
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(torch.device(device))


def describe(device: str) -> dict[str, Any]:
    """For the JSON file."""
    info = _cpuinfo()
    found = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "revision": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cpu_flags": [flag for flag in _FLAGS if flag in (info.get("flags") or info.get("Features", "")).split()],
        "bf16_instructions": has_bf16_instructions(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "device": device,
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(torch.device(device))
        found["cuda"] = torch.version.cuda
        found["tf32"] = {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32}
    return found


def _cpuinfo() -> dict[str, str]:
    """Of the first processor, where the system tells."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _git(*arguments: str) -> str | None:
    """Its answer; None outside a repository or without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
