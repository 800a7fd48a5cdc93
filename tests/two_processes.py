"""What two processes do in tests/test_processes.py: trainings one after the other, with a record of what each process
opened for reading and for writing.

    torchrun --nproc_per_node 2 -m tests.two_processes RECORD_FOLDER OPTION_FILE...

In an option file named poisoned.json the second process' losses of iteration 4 are no numbers.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from swinlet.errors import DataError, SharedError, SwinletError
from swinlet.models.model_plain import ModelPlain
from swinlet.options import load_options
from swinlet.train import train
from swinlet.utils.console import log_to_console
from swinlet.utils.processes import join

READ: set[str] = set()
CHANGED: set[str] = set()


def record(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: opened files, and what is made, renamed or removed."""
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        flags = arguments[2]
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        (CHANGED if writes else READ).add(os.fsdecode(arguments[0]))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        CHANGED.add(os.fsdecode(arguments[0]))  # pyright: ignore[reportArgumentType]


def poison(step: int) -> Any:
    """Inside, an iteration's losses are no numbers."""
    learn = ModelPlain._learn

    def poisoned(self: ModelPlain, now: int, *arguments: Any) -> Any:
        E, losses = learn(self, now, *arguments)
        factor = float("nan") if now == step else 1.0
        return E, {name: loss * factor for name, loss in losses.items()}

    return patch.object(ModelPlain, "_learn", poisoned)


def check_agreement() -> None:
    """An error of one process is the error of all, whatever the others have to say."""
    processes = join(on_cpu=True)
    for culprit in range(processes.count):

        def make(culprit: int = culprit) -> object:
            if processes.rank == culprit:
                raise DataError("gone.png")
            return lambda: "nothing that could be sent"

        with pytest.raises(SwinletError) as caught:
            processes.agree(make)
        text = "gone.png" if culprit == 0 else "process 1 of 2: gone.png"
        expected = (DataError, text) if processes.is_main else (SharedError, "gone.png")
        assert (caught.type, str(caught.value)) == expected


def main() -> None:
    folder, files = Path(sys.argv[1]), sys.argv[2:]
    log_to_console()
    check_agreement()
    sys.addaudithook(record)
    for file in files:
        with poison(4 if Path(file).stem == "poisoned" and os.environ["RANK"] == "1" else 0):
            assert train(load_options(Path(file), []))
    sets = {"read": sorted(READ), "changed": sorted(CHANGED)}
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(sets))


if __name__ == "__main__":
    main()
