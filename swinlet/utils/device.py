"""Where a run computes, and in which precision."""

import logging
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from swinlet.errors import OptionError
from swinlet.options import Precision

LOGGER = logging.getLogger("swinlet")

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_accelerator(gpu_ids: tuple[int, ...] | Literal["auto"] | None, precision: Precision) -> Accelerator:
    """CUDA where present (the first of ``gpu_ids``), else MPS, else the CPU; ``gpu_ids`` None: the CPU.

    Raises:
        OptionError: a GPU that does not exist, or fp16 without a GPU.
    """
    if isinstance(gpu_ids, tuple) and gpu_ids and torch.cuda.is_available():
        if gpu_ids[0] >= torch.cuda.device_count():
            raise OptionError(f"gpu_ids: there is no GPU {gpu_ids[0]}, only {torch.cuda.device_count()} of them")
        torch.cuda.set_device(gpu_ids[0])
    on_cpu = gpu_ids is None or gpu_ids == () or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    check_precision("train.precision", precision, "cpu" if on_cpu else "gpu")
    # accelerate keeps device and precision in a state shared by the process; a second model may need others.
    AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=on_cpu)


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
