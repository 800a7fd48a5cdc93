"""The processes of one run: who they are, and what they tell each other.

torchrun and accelerate launch start the same program several times. Each process computes its share of every batch;
the first, which is the main one, alone writes.
"""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from swinlet.errors import OptionError, SharedError, SwinletError

T = TypeVar("T")

_LOCAL = (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
_PATIENCE = timedelta(hours=12)  # images are checked, and files written, by one process while the others wait


class Processes:
    """What one process knows of the others; alone, it talks to nobody.

    Attributes:
        rank, count: number of this process, from 0, and how many there are.
        local_rank, local_count: the same on this machine.
    """

    def __init__(
        self,
        rank: int = 0,
        count: int = 1,
        local_rank: int = 0,
        local_count: int = 1,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """``group``: for messages between the processes, on the CPU; needed where there are several."""
        self.rank, self.count = rank, count
        self.local_rank, self.local_count = local_rank, local_count
        self._group = group

    @property
    def is_main(self) -> bool:
        """Whether this process writes and talks to the user."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """This process's part of so many samples; parts follow one another, and differ by one in length at most."""
        return range(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def gather(self, make: Callable[[], T]) -> list[T]:
        """What ``make`` returns in each process, by rank.

        Raises:
            SwinletError: it was raised in one of them. The main process raises it, the others SharedError.
        """
        if self.count == 1:
            return [make()]
        answer = _attempt(make)
        answers: list[T | SwinletError | None] = [None] * self.count
        dist.all_gather_object(answers, answer, group=self._group)
        for rank, error in enumerate(answers):
            if isinstance(error, SwinletError):
                self._raise(rank, answer if isinstance(answer, SwinletError) and rank == self.rank else error)
        return answers  # pyright: ignore[reportReturnType]  (those that are no errors are of T)

    def _raise(self, rank: int, error: SwinletError) -> None:
        if not self.is_main:
            raise SharedError(str(error)) from error
        if rank == self.rank:
            raise error
        raise type(error)(f"process {rank} of {self.count}: {error}")

    def agree(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in this process, unless it raises an error in another; cheaper than ``gather``.

        Raises:
            SwinletError: as ``gather``.
        """
        if self.count == 1:
            return make()
        answer = _attempt(make)

        def error_alone() -> None:  # what make returns may be nothing that can be sent
            _unpack(answer)

        if self.maximum(isinstance(answer, SwinletError)):
            self.gather(error_alone)
        return _unpack(answer)

    def from_main(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in the main process, the only one to call it.

        Raises:
            SwinletError: as ``gather``.
        """
        if self.count == 1:
            return make()
        answers = [_attempt(make) if self.is_main else None]
        dist.broadcast_object_list(answers, src=0, group=self._group)
        answer = answers[0]
        if isinstance(answer, SwinletError):
            self._raise(0, answer)
        return answer  # pyright: ignore[reportReturnType]

    def each(self, function: Callable[[int], T], count: int) -> Iterator[T]:
        """function(0), function(1), ... in order, in every process; computed by the processes in turn.

        Raises:
            SwinletError: as ``gather``.
        """
        for first in range(0, count, self.count):
            mine = first + self.rank
            results = self.gather(lambda i=mine: function(i) if i < count else None)
            yield from results[: count - first]  # pyright: ignore[reportReturnType]  (what is left out is None)

    def maximum(self, number: int) -> int:
        """The largest of the numbers that the processes give."""
        if self.count == 1:
            return int(number)
        value = torch.tensor(number, dtype=torch.int64)
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self._group)
        return int(value)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of the processes' tensors, of the same shape; does not wait for the device."""
        if self.count > 1:
            dist.all_reduce(values)
        return values


def _attempt(make: Callable[[], T]) -> T | SwinletError:
    try:
        return make()
    except SwinletError as error:
        return error


def _unpack(answer: T | SwinletError) -> T:
    if isinstance(answer, SwinletError):
        raise answer
    return answer


@functools.cache
def join(*, on_cpu: bool) -> Processes:
    """Meet the other processes, where torchrun or accelerate launch have started some; the same object each time.

    Args:
        on_cpu: compute there, though there may be GPUs.

    Raises:
        OptionError: there are others, but no way to meet them.
    """
    if "LOCAL_RANK" in os.environ:  # else accelerate counts cores, which containers do not always tell, and warns
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    if PartialState(cpu=on_cpu).num_processes == 1:
        if (count := os.environ.get("WORLD_SIZE", "1")) != "1":
            raise OptionError(
                f"gpu_ids: {count} processes were started that cannot meet here: start them by torchrun or accelerate "
                "launch, on CUDA or, with gpu_ids null, on the CPU"
            )
        return Processes()
    atexit.register(dist.destroy_process_group)
    local_rank, local_count = (int(os.environ.get(name, default)) for name, default in _LOCAL)
    group = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=_PATIENCE))
    return Processes(dist.get_rank(), dist.get_world_size(), local_rank, local_count, group)
