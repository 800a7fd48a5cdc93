"""Where a run computes, and in which precision."""

from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from swinlet.errors import OptionError


def make_accelerator(
    gpu_ids: tuple[int, ...] | Literal["auto"] | None, precision: Literal["fp32", "bf16", "fp16"]
) -> Accelerator:
    """CUDA where present (the first of ``gpu_ids``), else MPS, else the CPU; ``gpu_ids`` None: the CPU.

    Raises:
        OptionError: a GPU that does not exist, or fp16 without a GPU.
    """
    if isinstance(gpu_ids, tuple) and gpu_ids and torch.cuda.is_available():
        if gpu_ids[0] >= torch.cuda.device_count():
            raise OptionError(f"gpu_ids: there is no GPU {gpu_ids[0]}, only {torch.cuda.device_count()} of them")
        torch.cuda.set_device(gpu_ids[0])
    on_cpu = gpu_ids is None or gpu_ids == () or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if precision == "fp16" and on_cpu:
        raise OptionError("train.precision: fp16 needs a GPU; on the CPU use bf16 or fp32")
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


def has_bf16_instructions() -> bool:
    """Whether torch computes bf16 matrix products and convolutions natively on this processor."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
