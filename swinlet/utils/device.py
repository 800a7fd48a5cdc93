"""Where networks compute, and in which precision."""

import logging
from pathlib import Path

import psutil
import torch

from swinlet.errors import OptionError
from swinlet.options import Precision

LOGGER = logging.getLogger("swinlet")

_CGROUP = [
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def inference_device(name: str) -> torch.device:
    """The device for restoring images.

    Args:
        name: "auto" (CUDA where present, else MPS, else the CPU), or torch's name, such as "cpu" or "cuda:1".

    Raises:
        OptionError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("not supported")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise OptionError(f"--device {name}: there is no such device here ({reason}): use auto or cpu") from error
    return device


def available_memory(device: torch.device) -> int:
    """Bytes that can be had on a device without taking them from others, within the limits of a container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    for limit, used in _CGROUP:
        try:
            free = min(free, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return max(free, 0)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Matrix products and convolutions in a precision; in fp32 even inside another autocast."""
    return torch.autocast(device.type, _DTYPES.get(precision), enabled=precision in _DTYPES)


def check_precision(key: str, precision: str, device_type: str) -> None:
    """Warn of bf16 on a processor that has to emulate it.

    Args:
        key: what the user wrote it as, for the message.
        precision, device_type: what is computed in, and where ("cpu" or a GPU's name).

    Raises:
        OptionError: fp16 on the CPU.
    """
    if device_type == "cpu" and precision == "fp16":
        raise OptionError(f"{key}: fp16 needs a GPU; on the CPU use bf16 or fp32")
    if device_type == "cpu" and precision == "bf16" and not has_bf16_instructions():
        LOGGER.warning("%s: this processor has no instructions for bf16: it is many times slower than fp32", key)


def teacher_precision(wanted: Precision, device: torch.device) -> Precision:
    """What the teacher computes in: as wanted, but fp32 where bf16, asked for to save time, would cost it.

    Raises:
        OptionError: fp16 on the CPU.
    """
    key = "train.teacher_precision"
    if device.type == "cpu" and wanted == "bf16" and not has_bf16_instructions():
        LOGGER.warning("%s: this processor has no instructions for bf16: the teacher computes in fp32", key)
        return "fp32"
    check_precision(key, wanted, device.type)
    return wanted


def has_bf16_instructions() -> bool:
    """Whether torch computes bf16 matrix products and convolutions natively on this processor."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
