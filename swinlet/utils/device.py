"""Where a run computes, and in which precision."""

import logging
import os
from pathlib import Path
from typing import Literal

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin, KwargsHandler

from swinlet.errors import OptionError
from swinlet.options import Precision
from swinlet.utils.processes import Processes, join

LOGGER = logging.getLogger("swinlet")

_ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
_SERVED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
_CGROUP = [
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


GpuIds = tuple[int, ...] | Literal["auto"] | None


def join_processes(gpu_ids: GpuIds) -> Processes:
    """Meet the other processes of the run, where there are some; the same object each time."""
    return join(on_cpu=_is_on_cpu(gpu_ids))


def _is_on_cpu(gpu_ids: GpuIds) -> bool:
    return gpu_ids is None or gpu_ids == () or not (torch.cuda.is_available() or torch.backends.mps.is_available())


def make_accelerator(gpu_ids: GpuIds, precision: Precision, *handlers: KwargsHandler) -> Accelerator:
    """CUDA where present, else MPS, else the CPU; ``gpu_ids`` None: the CPU.

    A process alone takes the first of ``gpu_ids``; of several on one machine each takes the GPU of its number there.

    Args:
        gpu_ids: the option.
        precision: of training.
        handlers: accelerate's, for what it wraps.

    Raises:
        OptionError: a GPU that does not exist, or fp16 without a GPU.
    """
    on_cpu = _is_on_cpu(gpu_ids)
    if not on_cpu and torch.cuda.is_available():
        _choose_gpu(gpu_ids, join_processes(gpu_ids).local_count)
    check_precision("train.precision", precision, "cpu" if on_cpu else "gpu")
    # accelerate keeps device and precision in a state shared by the process; a second model may need others.
    AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no"), os.environ.get(_ACCUMULATION, "1")
    if asked[0] not in ("no", precision) or asked[1] != "1":
        LOGGER.warning(
            "accelerate's mixed precision (%s) and gradient accumulation (%s) have no effect: the options "
            "train.precision and train.gradient_accumulation_steps say it",
            *asked,
        )
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        cpu=on_cpu,
        kwargs_handlers=list(handlers),
        # Said, lest accelerate launch says otherwise: the parts of a batch are weighted by train's own count.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
    if accelerator.distributed_type not in _SERVED:
        raise OptionError(
            f"accelerate launch asks for {accelerator.distributed_type.value}: this network is small, train it by data "
            "parallel (--multi_gpu, or torchrun)"
        )
    return accelerator


def _choose_gpu(gpu_ids: GpuIds, local_count: int) -> None:
    """Make the first of ``gpu_ids`` the current GPU; under torchrun accelerate does so, by the process's number."""
    present, launched = torch.cuda.device_count(), "LOCAL_RANK" in os.environ
    if launched and isinstance(gpu_ids, tuple) and set(gpu_ids) != set(range(local_count)):
        raise OptionError(
            f"gpu_ids: {list(gpu_ids)}, but each of the {local_count} processes takes the GPU of its number: "
            'give "auto", and choose GPUs with the environment variable CUDA_VISIBLE_DEVICES'
        )
    if launched and local_count > present:
        raise OptionError(f"gpu_ids: {local_count} processes on this machine, but {present} GPUs: start one for each")
    if not launched and isinstance(gpu_ids, tuple):
        if gpu_ids[0] >= present:
            raise OptionError(f"gpu_ids: there is no GPU {gpu_ids[0]}, only {present} of them")
        torch.cuda.set_device(gpu_ids[0])


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
