"""What memory a training step takes, by patch, batch, precision and activation checkpointing: a table in Markdown.

    python -m benchmarks.training_memory [--patches 96 192] [--batches 8 32] [--precisions fp32 bf16]

The default student learns from the default teacher by feature distillation at x4, both in the precision of the row.
In MiB, with weights, gradients, moments, average and teacher:

- *measured on the CPU*: the peak of a fresh process in its second step, by the native kernels where they are built,
  above what it held with torch loaded and no networks yet (Linux tells that, other systems do not); glibc gives back
  what is free (see ``MEMORY_GIVEN_BACK``).
- *counted for a GPU*: the bytes of all tensors alive at once at most in a step of torch's own operators, as a GPU runs
  them. Nothing is computed: the operations are gone through with tensors that have sizes and no values. What a GPU's
  kernels, libraries and allocator take besides is not in it.
- *kept*: of these, what the step holds between forward and backward pass.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.machine import describe, start_process
from benchmarks.memory import MEASURABLE, resident_peak
from benchmarks.ours import Way, step_call, step_model
from benchmarks.workloads import Workload
from swinlet import kernels
from swinlet.distillation import restored
from swinlet.models.model_plain import ModelPlain
from swinlet.models.optimizer import define_optimizer
from swinlet.utils.device import autocast

SCALE = 4
COLUMNS = ("HR patch", "batch", "precision", "checkpointing", "measured on the CPU", "counted for a GPU", "kept")
MEMORY_GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**18)}
"""Environment for glibc: the memory of a large tensor is the system's again as soon as the tensor is gone. Left to
itself, glibc keeps holes between tensors, by which the same step differs by tens of MiB from process to process."""
_CPU = torch.device("cpu")
_MIB = 2**20


@dataclass(frozen=True)
class Step:
    """One row.

    Attributes:
        patch: side of the HR patches in pixels.
        precision: "fp32" or "bf16".
        tiny: with networks that only test the benchmark.
    """

    patch: int
    batch: int
    precision: str
    checkpointed: bool
    tiny: bool = False

    @property
    def workload(self) -> Workload:
        """Networks and images."""
        return Workload("step", self.patch // SCALE, self.batch, self.tiny)

    @property
    def train(self) -> dict[str, Any]:
        """The ``train`` options."""
        precisions = {"precision": self.precision, "teacher_precision": self.precision}
        return precisions | {"activation_checkpointing": self.checkpointed}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(prog="training_memory", description="Memory of a training step.")
    parser.add_argument("--patches", type=int, nargs="+", default=[96, 192], help="HR sides, multiples of 4")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--tiny", action="store_true", help="to test this script")
    parser.add_argument("--measure", metavar="STEP", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    start_process("cpu")
    if given.measure:
        print(_peak_here(Step(**json.loads(given.measure))))
        return
    machine = describe("cpu")
    print(f"{machine['cpu']}, {machine['platform']}, torch {torch.__version__}, kernels: {kernels.status().path}\n")
    print(_line(COLUMNS), _line(["---:"] * len(COLUMNS)), sep="\n")
    for values in product(given.patches, given.batches, given.precisions, (False, True)):
        step = Step(*values, tiny=given.tiny)
        counted = count(step)
        numbers = [measure(step), counted.peak / _MIB, counted.kept / _MIB]
        cells = [str(step.patch), str(step.batch), step.precision, "yes" if step.checkpointed else "no"]
        print(_line(cells + ["-" if number is None else f"{number:,.0f}" for number in numbers]), flush=True)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def measure(step: Step) -> float | None:
    """MiB at the peak of a process that takes the step; None: this system does not tell.

    Raises:
        subprocess.CalledProcessError: the process failed; it has said why.
    """
    if not MEASURABLE:
        return None
    command = [sys.executable, "-m", "benchmarks.training_memory", "--measure", json.dumps(asdict(step))]
    environment = os.environ | MEMORY_GIVEN_BACK
    return float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _peak_here(step: Step) -> float:
    return resident_peak(lambda: step_call(step.workload, Way("as it is"), step.train, _CPU), warm_ups=1)["mib"]


@dataclass(frozen=True)
class Bytes:
    """Of tensors: at the peak of a step, and held between forward and backward pass and not before the step."""

    peak: int
    kept: int


def count(step: Step, *, computing: bool = False) -> Bytes:
    """What a step of torch's operators needs.

    Args:
        computing: with values, which takes as long as it takes; to see that the count without them is right.
    """
    model = step_model(step.workload, step.train, _CPU)
    model.netG.fold_upsampler = False  # as with gradients on a GPU
    networks = [network for network in (model.netG, model.netE, model.netP, model.netTeacher) if network is not None]
    valueless, living = nullcontext() if computing else FakeTensorMode(), LivingBytes()
    with kernels.using("torch"), valueless:
        if not computing:
            for network in networks:
                _forget_values(network)
        with living:
            for network in networks:
                living.know([*network.parameters(), *network.buffers()])
            return _count(model, step, living)


def _count(model: ModelPlain, step: Step, living: "LivingBytes") -> Bytes:
    """As ``ModelPlain.optimize_parameters``, which reads values and so is of no use here."""
    task, teacher, average = model._task.train(), model.netTeacher, model.netE
    assert teacher is not None
    assert average is not None
    trained = list(task.parameters())
    optimizer = define_optimizer(model.opt.train, trained)
    kept = 0
    for number in (1, 2):  # moments and gradients are there from the second on
        # The copy knows no kernels, and so does not compare weights, for which it would need values.
        teacher.folded_upsampler = copy.deepcopy(teacher.folded_upsampler)
        living.peak = before = living.now
        L, H = (torch.rand(step.batch, 3, side, side) for side in (step.patch // SCALE, step.patch))
        with torch.no_grad(), autocast(_CPU, step.precision):
            target, features = restored(teacher, L, True)
        with autocast(_CPU, step.precision):
            _, losses = task(number, L, H, target, features)
        optimizer.zero_grad()
        kept = living.now - before
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        get_ema_multi_avg_fn(0.999)(list(average.parameters()), list(model.netG.parameters()), 0)
    return Bytes(living.peak, kept)


def _forget_values(network: nn.Module) -> None:
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            empty = torch.empty(weight.shape, dtype=weight.dtype)
            setattr(module, name, nn.Parameter(empty, weight.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


class LivingBytes(TorchDispatchMode):
    """Adds up the memory of the tensors that operations make, while they live.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def know(self, tensors: Iterable[Tensor]) -> None:
        """Count these, too; each memory once."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = id(storage)
            if key not in self._sizes:
                self._sizes[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run it and count what it returns."""
        result = func(*args, **(kwargs or {}))
        self.know(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result


if __name__ == "__main__":
    main()
