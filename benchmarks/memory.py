"""Peak memory of one forward pass, in a process of its own: with weights, but without what torch itself takes.

Run by the worker: python -m benchmarks.memory SETTINGS WORKLOAD CONTESTANT
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.contestants import line_up
from benchmarks.machine import start_process
from benchmarks.measure import Call
from benchmarks.settings import Settings
from benchmarks.workloads import Workload, memory_workloads

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEASURABLE = _STATUS.exists()
"""Whether this system tells the peak of a process."""


def measurable(settings: Settings) -> bool:
    """Whether this system tells."""
    return torch.device(settings.device).type == "cuda" or MEASURABLE


def peak_of(settings: Settings, workload: Workload, label: str) -> dict[str, float]:
    """What a process holds at most during a forward pass.

    Returns:
        ``mib`` over what it held before it built the contestant, and ``process_mib`` in all (on a GPU: of tensors).

    Raises:
        RuntimeError: the process failed; with its last line.
    """
    command = [sys.executable, "-m", "benchmarks.memory", settings.to_json(), workload.name, label]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
    return json.loads(done.stdout)


def _measure(settings: Settings, workload: str, label: str) -> dict[str, float]:
    (wanted,) = [entry for entry in memory_workloads(settings) if entry.name == workload]
    (contestant,) = [entry for entry in line_up(settings, wanted) if entry.label == label]
    if torch.device(settings.device).type == "cuda":
        before = torch.cuda.memory_allocated()
        call = contestant.prepare()
        torch.cuda.reset_peak_memory_stats()
        call()
        peak = torch.cuda.max_memory_allocated()
        return {"mib": (peak - before) / 2**20, "process_mib": peak / 2**20}
    return resident_peak(contestant.prepare)


def resident_peak(prepare: Callable[[], Call], warm_ups: int = 0) -> dict[str, float]:
    """What this process holds at most during a call on the CPU, after so many like it; as ``peak_of``."""
    with torch.no_grad():
        Workload("student", 16, 1, tiny=True).network()(torch.zeros(1, 3, 16, 16))  # torch loads what it needs
    before = _kib("VmRSS")
    call = prepare()
    for _ in range(warm_ups):
        call()
    _CLEAR.write_text("5")  # the peak so far is forgotten
    call()
    peak = _kib("VmHWM")
    return {"mib": (peak - before) / 2**10, "process_mib": peak / 2**10}


def _kib(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise RuntimeError(f"{_STATUS} has no {field}")


if __name__ == "__main__":
    request = Settings.from_json(sys.argv[1])
    start_process(request.device)
    print(json.dumps(_measure(request, *sys.argv[2:])))
