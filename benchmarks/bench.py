"""The benchmark: `make bench`, or python -m benchmarks.bench --help. See docs/performance.md."""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import ROOT, describe
from benchmarks.reference import reference_network
from benchmarks.settings import Settings
from benchmarks.table import as_text
from benchmarks.workloads import Workload, workloads
from swinlet.errors import OptionError, SwinletError, TrainingError
from swinlet.utils.device import inference_device
from swinlet.utils.files import write_text

ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "keeping": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 36)},
}
"""Environment for glibc: as it comes, and so that memory once taken is kept and used again."""
_RECORDED = ("MALLOC_", "GLIBC_", "LD_PRELOAD", "GOMP_", "OMP_", "MKL_", "KMP_", "ONEDNN_", "DNNL_", "SWINLET_")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; returns the exit status."""
    given = _parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="swinlet-bench-") as scratch:
            settings = _settings(given, scratch)
            results: dict[str, Any] = {"format": 1, "machine": describe(settings.device), "runs": []}
            results["settings"] = json.loads(settings.to_json())
            for found in _runs(settings, given.allocator):
                results["runs"].append(found)
                write_text(given.json, json.dumps(results, indent=1) + "\n")  # what is measured stays
    except (SwinletError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(as_text(results), end="")
    print(f"\nAll numbers: {given.json}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Speed and memory, against the reference and engines.")
    parser.add_argument("--reference", metavar="FILE", help="the official network_swinir.py")
    parser.add_argument("--quick", action="store_true", help="the smallest workloads only, in under a minute")
    parser.add_argument("--sizes", choices=("full", "quick", "tiny"), default="full", help="tiny: to test this script")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="e.g. student-128 'step-*' memory loading"
    )
    parser.add_argument("--allocator", nargs="+", choices=ALLOCATORS, default=list(ALLOCATORS), help="of glibc")
    parser.add_argument("--seconds", type=float, help="about how long the rounds of one workload may take")
    parser.add_argument("--repeats", type=int, default=20, help="rounds at most")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--line-up", choices=("cpu", "cuda"), help="contestants; the device's own unless given")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--force-bf16", action="store_true", help="also on a processor without bf16 instructions")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), metavar="FILE")
    given = parser.parse_args(arguments)
    if given.repeats < 1 or (given.seconds is not None and not given.seconds > 0):
        parser.error("--repeats and --seconds must be positive")
    return given


def _settings(given: argparse.Namespace, scratch: str) -> Settings:
    """The request, checked before anything is measured.

    Raises:
        OptionError: there is no such device, or the reference is none.
    """
    device = inference_device(given.device)
    sizes = "quick" if given.quick else given.sizes
    if given.reference is not None:
        reference_network(given.reference, Workload("student", 64, 1, tiny=sizes == "tiny").network())
    settings = Settings(
        scratch=scratch,
        device=str(device),
        line_up=given.line_up or ("cuda" if device.type == "cuda" else "cpu"),
        sizes=sizes,
        reference=given.reference and str(Path(given.reference).resolve()),
        seconds=given.seconds or (3.0 if sizes == "quick" else 15.0),
        repeats=given.repeats,
        force_bf16=given.force_bf16,
        compile=not given.no_compile,
    )
    known = [*(workload.name for workload in workloads(settings)), "memory", "loading"]
    unknown = [pattern for pattern in given.only if not fnmatch.filter(known, pattern)]
    if unknown:
        raise OptionError(f"--only {' '.join(unknown)}: there is no such measurement; there are {', '.join(known)}")
    return replace(settings, only=tuple(given.only))


def _runs(settings: Settings, allocators: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One worker process for each setting of the allocator; on a GPU it does not matter, and one is enough.

    Raises:
        TrainingError: a worker failed; it has said why.
    """
    on_gpu = torch.device(settings.device).type == "cuda"
    for name in ["default"] if on_gpu else dict.fromkeys(allocators):
        print(f"allocator {name}", file=sys.stderr)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        environment |= ALLOCATORS[name]
        environment.setdefault("GOMP_SPINCOUNT", "10000")  # as swinlet's command line does
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        file = Path(settings.scratch) / f"{name}.json"
        command = [sys.executable, "-m", "benchmarks.worker", settings.to_json(), str(file)]
        if subprocess.run(command, env=environment, check=False).returncode:
            raise TrainingError(f"the measurement with allocator {name} failed; what was measured before is kept")
        recorded = {key: value for key, value in sorted(environment.items()) if key.startswith(_RECORDED)}
        yield {"allocator": name, "environment": recorded, **json.loads(file.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    sys.exit(main())
