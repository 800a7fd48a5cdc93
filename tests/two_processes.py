"""What torchrun starts in tests/test_processes.py: trainings one after the other, with a record of what each process
opened for reading and for writing.

    torchrun --nproc_per_node 2 -m tests.two_processes RECORD_FOLDER OPTION_FILE...
"""

import json
import os
import sys
from pathlib import Path

from swinlet.options import load_options
from swinlet.train import train
from swinlet.utils.console import log_to_console

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


def main() -> None:
    folder, files = Path(sys.argv[1]), sys.argv[2:]
    log_to_console()
    sys.addaudithook(record)
    for file in files:
        assert train(load_options(Path(file), []))
    sets = {"read": sorted(READ), "changed": sorted(CHANGED)}
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(sets))


if __name__ == "__main__":
    main()
