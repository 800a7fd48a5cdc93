"""What of this project is compared: its two paths, the precisions of a training step, the ways of loading."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from swinlet import kernels

Activate = Callable[[], AbstractContextManager[object]]


def torch_path() -> Activate:
    """Makes the project compute with torch alone."""
    return partial(kernels.using, "torch")


def native_path() -> tuple[Activate | None, str]:
    """Makes the project compute with its native kernels; None: they are not to be had. And the level, or the reason."""
    with kernels.using("auto"):
        status = kernels.status()
    if status.path != "native":
        return None, status.reason
    return partial(kernels.using, "native"), f"{status.level}: {status.reason}"


def step_precisions() -> dict[str, dict[str, str]]:
    """Name of each precision of a training step, and the ``train`` options for it."""
    teacher = {"teacher_precision": "bf16"}
    return {"fp32": {}, "bf16 teacher": teacher, "bf16": teacher | {"precision": "bf16"}}
