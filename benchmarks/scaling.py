"""What several processes gain and cost on this machine's processor: python -m benchmarks.scaling [--help]

Feature-distillation steps of the default networks, in fp32 on LR patches of 32x32, by one process with all cores and by
several that share cores and batch (gloo), in turns. Prints, and writes to the JSON file, seconds for a step, the ratio,
the teacher's part, and what the messages between the processes take where nobody waits for another's computation.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from benchmarks.machine import ROOT, describe
from benchmarks.measure import WallClock, interleave, spread
from benchmarks.member import MESSAGES
from benchmarks.table import aligned, quartiles
from benchmarks.workloads import Workload
from swinlet.errors import TrainingError
from swinlet.utils.files import write_text


class Team:
    """Processes of one training that do the same at the same time; a context manager.

    Args:
        workload: a step, whose batch they share.
        count, threads: how many processes, and threads of each.
    """

    def __init__(self, workload: Workload, count: int, threads: int) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        common = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
        if count > 1:
            common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
            common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        self._members: list[subprocess.Popen[str]] = []
        for rank in range(count):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
            self._members.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.member", json.dumps(asdict(workload))],
                    env={"GOMP_SPINCOUNT": "10000", **os.environ, **common, **place},  # as swinlet's command line
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            if error is not None:
                member.kill()
            member.communicate()

    def wait(self) -> None:
        """Until all are ready.

        Raises:
            TrainingError: one has failed; it has said why.
        """
        self._expect("ready")

    def do(self, task: str) -> None:
        """One of ``benchmarks.member.tasks``, in all of them; over when the last has done it.

        Raises:
            TrainingError: one has failed; it has said why.
        """
        for member in self._members:
            assert member.stdin is not None
            member.stdin.write(f"{task}\n")
            member.stdin.flush()
        self._expect("done")

    def _expect(self, answer: str) -> None:
        for member in self._members:
            assert member.stdout is not None
            if member.stdout.readline().strip() != answer:
                raise TrainingError("a process of the measurement has ended")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; returns the exit status."""
    given = _parse(arguments)
    cores = os.cpu_count() or 1
    threads = max(1, cores // given.processes)
    results: dict[str, Any] = {"format": 1, "machine": describe("cpu"), "measurements": []}
    results |= {"processes": given.processes, "threads": threads}
    print(f"1 process with {given.processes * threads} threads, {given.processes} with {threads}\n")
    try:
        for batch in given.batch:
            workload = Workload("step", 8 if given.tiny else 32, batch, tiny=given.tiny)
            found = measure(workload, given.processes, threads, given.seconds)
            results["measurements"].append(found)
            print(as_text(found), flush=True)
            write_text(given.json, json.dumps(results, indent=1) + "\n")
    except (TrainingError, OSError) as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 1
    print(f"All numbers: {given.json}")
    return 0


def measure(workload: Workload, count: int, threads: int, budget: float) -> dict[str, Any]:
    """Seconds of everything in every round, and medians with quartiles.

    Args:
        workload: a step.
        count, threads: of the several processes; the one has as many threads as they together.
        budget: about how many seconds the rounds may take.
    """
    one, several = Team(workload, 1, count * threads), Team(workload, count, threads)  # all start at the same time
    with one, several:
        one.wait()
        several.wait()
        single, multiple = "1 process", f"{count} processes"
        calls = {
            single: lambda: one.do("step"),
            multiple: lambda: several.do("step"),
            f"{single}: teacher": lambda: one.do("teacher"),
            f"{multiple}: messages": lambda: several.do("messages"),
        }
        rounds = interleave(calls, WallClock(), budget, most=50)
    seconds = rounds.seconds | {
        name: [value / MESSAGES for value in values] for name, values in rounds.seconds.items() if "messages" in name
    }
    return {
        "name": workload.name,
        "batch": workload.batch,
        "rounds": len(seconds[single]),
        "warmed_up": rounds.warmed_up,
        "seconds": {name: asdict(spread(values)) for name, values in seconds.items()},
        "times_as_fast": asdict(rounds.ratio(single, multiple)),
        "all_seconds": seconds,
    }


def as_text(found: dict[str, Any]) -> str:
    """A table."""
    rows = [["", "ms (quartiles)", "images/s"]]
    for name, times in found["seconds"].items():
        milliseconds = {key: 1000 * value for key, value in times.items()}
        pace = f"{found['batch'] / times['median']:.3g}" if ":" not in name else ""
        rows.append([name, quartiles(milliseconds), pace])
    rounds = f"{found['rounds']} rounds" if found["warmed_up"] else "1 round, without a warm-up"
    ratio = f"several processes are {quartiles(found['times_as_fast'], 2)} times as fast as one"
    return f"{found['name']}, {rounds}\n{aligned(rows)}\n{ratio}\n"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scaling", description="Training steps by one process and by several.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32], help="of an iteration, over all processes")
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long the rounds of a batch may take")
    parser.add_argument("--tiny", action="store_true", help="networks that only test this script")
    parser.add_argument("--json", type=Path, default=Path("build/scaling.json"), metavar="FILE")
    given = parser.parse_args(arguments)
    if given.processes < 2 or min(given.batch) < given.processes or not given.seconds > 0:
        parser.error("there must be 2 processes or more, a patch for each, and time")
    return given


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
