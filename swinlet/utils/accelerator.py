"""Where a training run computes: accelerate's device, precision and processes."""

import logging
import os
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin, KwargsHandler

from swinlet.errors import OptionError
from swinlet.options import Precision
from swinlet.utils.device import check_precision
from swinlet.utils.processes import Processes, join

LOGGER = logging.getLogger("swinlet")

_ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
_SERVED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)

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
