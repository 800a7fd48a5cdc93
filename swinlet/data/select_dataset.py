"""From a dataset's type in the option file to the dataset and its loader."""

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from swinlet.data.cache import cached
from swinlet.data.dataset_sr import DatasetSR
from swinlet.errors import DataError, MachineError, OptionError
from swinlet.options import DatasetOptions, Options, UnlabelledOptions
from swinlet.options.names import DATASETS, named_class
from swinlet.utils.processes import Processes

LOGGER = logging.getLogger("swinlet")


Phase = Literal["train", "unlabelled", "test", "val"]

_DYING = 5.0  # seconds that a process may take to end after its connections have
FEWER_WORKERS = "lower datasets.train.dataloader_num_workers (0: the main process loads)"
SHARED_MEMORY = (
    f"Most often shared memory is full: enlarge /dev/shm (docker run --shm-size 1g), or {FEWER_WORKERS}, then start "
    "the same command again"
)


def define_Dataset(opt: Options, phase: Phase) -> DatasetSR:
    """Open and check a data set.

    Args:
        opt: the options of a run.
        phase: "train" for patches, "unlabelled" for patches as large as the low-resolution ones of "train" (the data
            set has scale 1: H and L are the same), "test" and "val" for whole images.

    Raises:
        OptionError: the section is missing.
        DataError: images are missing, unreadable, unpaired or too small; all are named.
    """
    try:
        return _define(opt, phase, _section(opt, phase))
    except DataError as error:
        if phase != "unlabelled":
            raise
        raise DataError(str(error).replace("unlabelled.dataroot_H", "unlabelled.dataroot")) from error


def _define(opt: Options, phase: Phase, section: DatasetOptions) -> DatasetSR:
    option = f"datasets.{phase}"
    scale = 1 if phase == "unlabelled" else opt.scale
    dataset: DatasetSR = named_class(DATASETS, section.dataset_type)(
        section.dataroot_H,
        section.dataroot_L,
        scale=scale,
        n_channels=opt.n_channels,
        phase="train" if phase in ("train", "unlabelled") else "test",
        H_size=section.H_size,
        seed=opt.train.manual_seed,
        shuffle=section.dataloader_shuffle,
        on_bad_image=section.on_bad_image,
        name=option,
        prepared=cached(section, scale, opt.n_channels, option),
        dataroot_T=section.dataroot_T if phase == "train" and opt.teacher_is_stored else None,
        features=opt.train.feature_taps if opt.features_are_stored else (),
        filename_tmpl=section.filename_tmpl,
    )
    LOGGER.info("%s (%s): %d images of %s", option, section.name, len(dataset), section.dataroot_H)
    return dataset


Datasets = dict[Phase, DatasetSR]


def define_Datasets(opt: Options, processes: Processes | None = None) -> Datasets:
    """Open and check the training set and, where the options name them, the test and the validation set.

    Of several processes one on each machine does so, and hands the others what it has found.

    Raises:
        OptionError: there is no training set; or there are fewer patches in a batch than processes.
        DataError: the faults of all sets, at once; or the machines see different images.
    """
    processes = processes or Processes()

    def open_here() -> Datasets | None:
        check_shares(opt, processes.count)
        return _open_all(opt) if processes.local_rank == 0 else None

    opened = processes.gather(open_here)
    first, here = opened[0], opened[processes.rank - processes.local_rank]
    assert first is not None, "the main process is the first of its machine"
    assert here is not None, "each machine's first process has opened them"
    for phase, dataset in here.items():
        if dataset.names != first[phase].names:
            raise DataError(f"datasets.{phase}: this machine's images are not those of the main process's machine")
    return here


def check_shares(opt: Options, count: int) -> None:
    """See that each of ``count`` processes gets patches of every batch, and enough for its parts.

    Raises:
        OptionError: it does not.
    """
    batch, parts = _section(opt, "train").dataloader_batch_size, opt.train.gradient_accumulation_steps
    if batch < count * parts:
        each = f", {parts} parts each (train.gradient_accumulation_steps)" if parts > 1 else ""
        raise OptionError(
            f"datasets.train.dataloader_batch_size: {batch} patches are too few for {count} processes{each}"
        )


def _open_all(opt: Options) -> Datasets:
    others: tuple[Phase, ...] = ("unlabelled", "test", "val")
    phases: list[Phase] = ["train", *(phase for phase in others if getattr(opt.datasets, phase) is not None)]
    if "unlabelled" not in opt.train.distillation_types:
        phases = [phase for phase in phases if phase != "unlabelled"]
    found: Datasets = {}
    faults: list[str] = []
    for phase in phases:
        try:
            found[phase] = define_Dataset(opt, phase)
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return found


def _section(opt: Options, phase: Phase) -> DatasetOptions:
    section: DatasetOptions | UnlabelledOptions | None = getattr(opt.datasets, phase)
    if section is None:
        raise OptionError(f"datasets.{phase}: missing; training needs it, e.g. {{dataroot_H: 'folder'}}")
    return section if isinstance(section, DatasetOptions) else _as_patches(section, opt)


def _as_patches(section: UnlabelledOptions, opt: Options) -> DatasetOptions:
    """Patches of unlabelled photographs are what the patches of L are of the training set."""
    return DatasetOptions(
        name=section.name,
        dataroot_H=section.dataroot,
        cache_gb=section.cache_gb,
        H_size=_section(opt, "train").H_size // opt.scale,
        dataloader_shuffle=section.dataloader_shuffle,
        on_bad_image=section.on_bad_image,
    )


def training_batches(
    dataset: DatasetSR,
    opt: Options,
    steps: range,
    processes: Processes | None = None,
    unlabelled: DatasetSR | None = None,
) -> Iterator[dict[str, Any]]:
    """One batch for each iteration of ``steps``, counted from 1, or this process's share of it.

    Sample ``slot`` of iteration ``step`` is ``dataset[(step - 1) * batch + slot]``: there are no epochs, the loader's
    processes live as long as the run, and a resumed run sees what an uninterrupted one would have seen.

    Yields:
        What ``DatasetSR.batch`` returns, and for a share ``slots``, which samples of the batch these are, with
        ``batch``, how many it has. With ``unlabelled`` photographs, as many patches ``U`` of them.

    Raises:
        DataError: on reaching an image that was changed or removed since the dataset was made, in any process.
        MachineError: a loader process was ended from outside, or finds no shared memory.
    """
    section = _section(opt, "train")
    processes = processes or Processes()
    batch = section.dataloader_batch_size
    slots = processes.share(batch)
    workers = min(section.dataloader_num_workers, _processors())
    if workers < section.dataloader_num_workers:
        LOGGER.info("dataloader_num_workers: %d, as this machine has no more processors", workers)
    starts = ((step - 1) * batch for step in steps)
    batches_of_positions = (range(start + slots.start, start + slots.stop) for start in starts)
    loader = DataLoader(
        _Batches(dataset, unlabelled),
        batch_size=None,  # the data set makes batches
        sampler=batches_of_positions,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        collate_fn=_as_it_is,
    )
    others, handler = set(active_children()), _child_handler()
    try:
        batches = iter(loader)
    except OSError as error:
        raise MachineError(f"no loader process can be started: {error}. {SHARED_MEMORY}") from error
    loaders = set(active_children()) - others
    if loaders and handler is not None:
        signal.signal(signal.SIGCHLD, handler)  # torch's raises wherever the run is just then, in mid-update, too
    atexit.register(_kill, loaders)
    share = {} if processes.count == 1 else {"slots": slots, "batch": batch}
    return _shared(batches, loaders, processes, share)


def _processors() -> int:
    """How many this process may use: of a machine that jobs share, not all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _child_handler() -> Any:
    """The handler of SIGCHLD, where there is one that can be set again."""
    is_main = threading.current_thread() is threading.main_thread()  # signals belong to the main thread
    return signal.getsignal(signal.SIGCHLD) if is_main and hasattr(signal, "SIGCHLD") else None


class _Batches(Dataset[Any]):
    """Batches by their positions.

    A DataError is handed over as a batch: torch would re-raise it with the worker's traceback for its message. A worker
    puts its batches into shared memory here: where that is full, the thread that torch leaves it to only prints a
    traceback, and the run waits forever.
    """

    def __init__(self, dataset: DatasetSR, unlabelled: DatasetSR | None) -> None:
        self._dataset = dataset
        self._unlabelled = unlabelled

    def __getitem__(self, positions: Sequence[int]) -> dict[str, Any] | DataError:
        try:
            batch = self._dataset.batch(positions)
            if self._unlabelled is not None:
                batch["U"] = self._unlabelled.batch(positions)["H"]
        except DataError as error:
            return error
        if get_worker_info() is not None:
            try:
                for value in batch.values():
                    if isinstance(value, torch.Tensor):
                        value.share_memory_()
            except (RuntimeError, OSError) as error:
                return MachineError(f"a loader process cannot hand over its batch: {error}. {SHARED_MEMORY}")
        return batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _shared(
    batches: Iterator[dict[str, Any] | DataError],
    loaders: Collection[BaseProcess],
    processes: Processes,
    share: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Batches, until there are no more; an error that one process meets is raised by all, before any waits for it."""
    while (batch := processes.agree(lambda: _take(batches, loaders))) is not None:
        yield batch | share


def _take(batches: Iterator[dict[str, Any] | DataError], loaders: Collection[BaseProcess]) -> dict[str, Any] | None:
    """The next batch; None: there is none."""
    try:
        with _interrupted_by_death(loaders):
            _refuse_dead(loaders)
            batch = next(batches, None)
    except (RuntimeError, OSError, EOFError):
        # Torch's own watch, the only one on Windows and for a process that ended by itself; or the connection to one
        # that dies: what it has open is closed before it has ended.
        if loaders:
            closed = wait([process.sentinel for process in loaders], _DYING)
            for process in loaders:
                if process.sentinel in closed:
                    process.join(_DYING)
            _refuse_dead(loaders, even_in_peace=True)
        raise
    if isinstance(batch, DataError):
        # Not the object itself: this frame would keep it, its traceback the frame, and both the loader's processes.
        raise type(batch)(str(batch))
    return batch


@contextmanager
def _interrupted_by_death(processes: Collection[BaseProcess]) -> Generator[None, None, None]:
    """Inside, the death of a loader process ends the waiting for what it will never send.

    Torch looks every 5 seconds, but not while it reads a message: one that was killed in the middle of writing it would
    be waited for forever.
    """
    before = _child_handler() if processes else None
    if before is None:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if callable(before):
            before(number, frame)
        _refuse_dead(processes)

    signal.signal(signal.SIGCHLD, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _refuse_dead(processes: Iterable[BaseProcess], *, even_in_peace: bool = False) -> None:
    """Whether loader processes have ended.

    Args:
        processes: all of them.
        even_in_peace: with exit code 0 as well, as all do at the end of a run.

    Raises:
        MachineError: one has.
    """
    ended = [code for process in processes if (code := process.exitcode) is not None]
    code = next((code for code in ended if code or even_in_peace), None)
    if code is None:
        return
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"exit code {code}"
    if number == getattr(signal, "SIGBUS", None):
        advice = SHARED_MEMORY
    else:
        advice = f"Most often memory ran out: {FEWER_WORKERS}, then start the same command again"
    raise MachineError(f"a loader process was ended from outside ({name}). {advice}")


def _start_worker(_: int) -> None:
    """Leave it to the main process to stop, and to end its workers then.

    Ctrl-C reaches every process of the terminal; timeout, systemd and Slurm send SIGTERM to every process of a run.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    sys.excepthook = _print_unless_left
    torch.set_num_threads(1)


def _print_unless_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Errors of a worker's threads, but not of a connection that the main process broke off.

    It leaves in the middle of taking a batch when another worker has died, and says so itself.
    """
    if not isinstance(error, (OSError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _follow_parent() -> None:
    """End this worker when the main process was killed. Torch's own watch misses that while a worker is starting."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _kill(workers: Iterable[BaseProcess]) -> None:
    """At exit multiprocessing sends SIGTERM to workers that are left, and waits for them: forever, as they ignore it.

    Workers are left where the traceback of an error keeps the loader alive.
    """
    for worker in workers:
        worker.kill()
