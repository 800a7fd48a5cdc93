"""The loader of training batches: what arrives, and what becomes of its processes."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swinlet.data.select_dataset import define_Dataset, training_batches
from swinlet.errors import DataError
from swinlet.options import Options, parse_options
from tests.fork_server import Command

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (12, 14, 3), np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def options(folder: Path, workers: int) -> Options:
    section = {
        "dataroot_H": str(folder),
        "H_size": 8,
        "dataloader_batch_size": 3,
        "dataloader_num_workers": workers,
        "dataloader_shuffle": False,
        "cache_gb": 0,
    }
    train = {"total_iter": 1000, "distillation_type": "none"}
    return parse_options({"task": "run", "scale": 2, "datasets": {"train": section}, "netG": {}, "train": train})


@pytest.fixture(params=["main process", "fork", "spawn"])
def workers(request: pytest.FixtureRequest) -> Iterator[int]:
    """Number of workers; where there is one, it is started in this way."""
    before = multiprocessing.get_start_method(allow_none=True)
    if request.param != "main process":
        multiprocessing.set_start_method(request.param, force=True)
    yield int(request.param != "main process")
    multiprocessing.set_start_method(before, force=True)


def test_batches_follow_the_positions(folder: Path, workers: int) -> None:
    opt = options(folder, workers)
    dataset = define_Dataset(opt, "train")
    batches = list(training_batches(dataset, opt, range(5, 8)))
    assert len(batches) == 3
    for step, batch in enumerate(batches, start=5):
        assert batch.keys() == {"L", "H", "L_path", "H_path"}
        samples = [dataset[(step - 1) * 3 + slot] for slot in range(3)]
        for key in ("L", "H"):
            assert torch.equal(batch[key], torch.stack([sample[key] for sample in samples]))
        for key in ("L_path", "H_path"):
            assert batch[key] == [sample[key] for sample in samples]


def message_of_error(batches: Iterator[dict[str, Any]]) -> str:
    """By hand: what pytest.raises gives would live on, and with it the loader, until it is collected."""
    try:
        next(batches)
    except DataError as error:
        return str(error)
    return ""


def test_a_file_that_vanishes_is_a_plain_error_in_its_turn(folder: Path, workers: int) -> None:
    opt = options(folder, workers)
    dataset = define_Dataset(opt, "train")
    (folder / "3.png").unlink()
    batches = training_batches(dataset, opt, range(1, 1000))
    assert [Path(path).name for path in next(batches)["H_path"]] == ["0.png", "1.png", "2.png"]
    assert message_of_error(batches) == f"cannot read {folder / '3.png'}: there is no such file"
    del batches
    assert not multiprocessing.active_children(), "once the error is handled, nothing keeps the loader"


@pytest.mark.parametrize("workers", ["fork", "spawn"], indirect=True)
def test_workers_leave_signals_to_the_main_process_and_end_with_the_iterator(
    folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = 60.0  # instead of torch's 5 seconds, for which a busy machine can keep a worker from its processor
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", patience)
    opt = options(folder, workers)
    batches = training_batches(define_Dataset(opt, "train"), opt, range(1, 1000))
    next(batches)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid or 0, number)
        time.sleep(0.2)
    for _ in range(20):  # more than were fetched ahead
        next(batches)
    start = time.monotonic()
    del batches
    assert time.monotonic() - start < patience / 2, "a worker that does not end by itself is waited for"
    assert not worker.is_alive()


SCRIPT = """
import multiprocessing, os, signal, sys
from pathlib import Path
from swinlet.data.select_dataset import define_Dataset, training_batches
from tests.test_select_dataset import options

def main():
    opt = options(Path(sys.argv[1]), workers=2)
    batches = training_batches(define_Dataset(opt, "train"), opt, range(1, 1000))
    next(batches)
    workers = multiprocessing.active_children()
    {ending}

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.modules['__main__'].batches = batches", 0),
        ("sys.modules['__main__'].batches = batches; 1 / 0", 1),
        # As the kernel does when memory runs out. The traceback leads into torch's loader and keeps it alive.
        ("os.kill(workers[0].pid, signal.SIGKILL); list(batches)", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_no_ending_hangs_or_leaves_workers_behind(folder: Path, ending: str, code: int) -> None:
    command = Command("-c", SCRIPT.replace("{ending}", ending), str(folder))
    errors = command.communicate()  # until nobody has the output open any more: the worker as well
    assert command.returncode == code, errors
