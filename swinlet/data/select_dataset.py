"""From a dataset's type in the option file to the dataset and its loader."""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from swinlet.data.dataset_sr import DatasetSR
from swinlet.errors import OptionError
from swinlet.options import DatasetOptions, Options
from swinlet.options.names import DATASETS, named_class

LOGGER = logging.getLogger("swinlet")


def define_Dataset(opt: Options, phase: Literal["train", "test"]) -> DatasetSR:
    """Open and check a data set.

    Args:
        opt: the options of a run.
        phase: "train" or "test".

    Raises:
        OptionError: the section is missing.
        DataError: images are missing, unreadable, unpaired or too small; all are named.
    """
    section = _section(opt, phase)
    dataset: DatasetSR = named_class(DATASETS, section.dataset_type)(
        section.dataroot_H,
        section.dataroot_L,
        scale=opt.scale,
        n_channels=opt.n_channels,
        phase=phase,
        H_size=section.H_size,
        seed=opt.train.manual_seed,
        shuffle=section.dataloader_shuffle,
        on_bad_image=section.on_bad_image,
        name=f"datasets.{phase}",
    )
    LOGGER.info("datasets.%s (%s): %d images of %s", phase, section.name, len(dataset), section.dataroot_H)
    return dataset


def _section(opt: Options, phase: Literal["train", "test"]) -> DatasetOptions:
    section: DatasetOptions | None = getattr(opt.datasets, phase)
    if section is None:
        raise OptionError(f"datasets.{phase}: missing; training needs it, e.g. {{dataroot_H: 'folder'}}")
    return section


def training_batches(dataset: DatasetSR, opt: Options, steps: range) -> Iterator[dict[str, Any]]:
    """One batch for each iteration of ``steps``, counted from 1.

    Sample ``slot`` of iteration ``step`` is ``dataset[(step - 1) * batch + slot]``: there are no epochs, the loader's
    processes live as long as the run, and a resumed run sees what an uninterrupted one would have seen.

    Yields:
        L uint8 (N, C, h, w), H uint8 (N, C, H_size, H_size), and lists of paths.
    """
    section = _section(opt, "train")
    batch = section.dataloader_batch_size
    workers = min(section.dataloader_num_workers, os.cpu_count() or 1)
    if workers < section.dataloader_num_workers:
        LOGGER.info("dataloader_num_workers: %d, as this machine has no more processors", workers)
    positions: Sequence[int] = range((steps.start - 1) * batch, (steps.stop - 1) * batch)
    loader = DataLoader(
        dataset,
        batch_size=batch,
        sampler=positions,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def _start_worker(_: int) -> None:
    """Ctrl-C reaches every process of the terminal: the main process decides, and then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
