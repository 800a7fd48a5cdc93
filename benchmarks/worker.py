"""All measurements under one setting of the memory allocator, in one process.

Run by benchmarks.bench: python -m benchmarks.worker SETTINGS FILE; writes JSON to the file.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import loader, memory
from benchmarks.contestants import Contestant, lacks_bf16, line_up
from benchmarks.machine import start_process
from benchmarks.measure import Call, Rounds, clock_for, interleave
from benchmarks.peak import matmul_peak
from benchmarks.settings import Settings
from benchmarks.workloads import Workload, memory_workloads, workloads
from swinlet.utils.files import write_text

BASES = ("reference fp32", "torch fp32")
"""Ratios are to these and to OpenVINO in the same precision."""


def measure(settings: Settings) -> dict[str, Any]:
    """The content of the file."""
    early = _peaks(settings)
    measurements = [_timed(settings, workload) for workload in workloads(settings)]
    peaks = {name: value and max(value, early[name] or 0) for name, value in _peaks(settings).items()}
    for row in (row for entry in measurements for row in entry["contestants"]):
        peak = peaks["fp32" if row["precision"] == "fp32" else "bf16"]
        row["share_of_peak"] = row["gflop_per_second"] / peak if peak else None
    return {
        "peak_gflop_per_second": peaks,
        "threads": torch.get_num_threads(),
        "measurements": measurements,
        "memory": [_memory(settings, workload) for workload in memory_workloads(settings)],
        "loading": _loading(settings),
    }


def _peaks(settings: Settings) -> dict[str, float | None]:
    device = torch.device(settings.device)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    skipped = {"bf16"} if lacks_bf16(settings) else set[str]()
    return {
        name: None if name in skipped else matmul_peak(device, dtype, clock_for(device))
        for name, dtype in dtypes.items()
    }


def _timed(settings: Settings, workload: Workload) -> dict[str, Any]:
    print(f"  {workload.name}", file=sys.stderr)
    contestants = line_up(settings, workload)
    absent = [{"label": entry.label, "reason": entry.missing} for entry in contestants if entry.missing]
    calls: dict[str, Call] = {}
    for contestant in contestants:
        if contestant.missing is None:
            try:
                calls[contestant.label] = contestant.prepare()
            except Exception as error:  # another project's, on whose failure the others go on
                if not contestant.optional:
                    raise
                absent.append({"label": contestant.label, "reason": _failure(error)})
    rounds = interleave(calls, clock_for(torch.device(settings.device)), settings.seconds, settings.repeats)
    gflop = workload.gflop()
    return {
        "name": workload.name,
        "batch": workload.batch,
        "gflop": gflop,
        "rounds": len(next(iter(rounds.seconds.values()))),
        "warmed_up": rounds.warmed_up,
        "contestants": [
            _row(rounds, contestant, workload, gflop) for contestant in contestants if contestant.label in calls
        ],
        "absent": absent,
    }


def _row(rounds: Rounds, contestant: Contestant, workload: Workload, gflop: float) -> dict[str, Any]:
    label = contestant.label
    seconds = rounds.time(label)
    bases = [base for base in (*BASES, f"openvino {contestant.precision}") if base in rounds.seconds]
    return {
        "label": label,
        "precision": contestant.precision,
        "seconds": asdict(seconds),
        "per_second": workload.batch / seconds.median,
        "gflop_per_second": gflop / seconds.median,
        "times_as_fast_as": {base: asdict(rounds.ratio(base, label)) for base in bases},
        "all_seconds": rounds.seconds[label],
    }


def _memory(settings: Settings, workload: Workload) -> dict[str, Any]:
    print(f"  memory of {workload.name}", file=sys.stderr)
    if not memory.measurable(settings):
        return {"name": workload.name, "peaks": [], "absent": "peak memory is read from /proc, which is not here"}
    return {"name": workload.name, "peaks": list(_memory_rows(settings, workload))}


def _memory_rows(settings: Settings, workload: Workload) -> Iterator[dict[str, Any]]:
    for contestant in line_up(settings, workload):
        if contestant.missing is None:
            try:
                yield {"label": contestant.label, **memory.peak_of(settings, workload, contestant.label)}
            except RuntimeError as error:
                if not contestant.optional:
                    raise
                yield {"label": contestant.label, "mib": None, "reason": _failure(error)}


def _loading(settings: Settings) -> dict[str, Any] | None:
    if settings.sizes != "full" or not settings.wants("loading"):
        return None
    return loader.measure()


def _failure(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


if __name__ == "__main__":
    request = Settings.from_json(sys.argv[1])
    start_process(request.device)
    write_text(Path(sys.argv[2]), json.dumps(measure(request)))
