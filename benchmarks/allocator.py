"""A feature distillation step under glibc's own allocator settings and under others that keep memory once taken.

    OMP_NUM_THREADS=2 python benchmarks/allocator.py

Student 60 wide, teacher 180 wide with random weights, batch 4 of 32x32 LR pixels, fp32. Interleaved processes;
medians of the step in milliseconds (and their range), of its processor time, of its page faults (as the kernel counts
them), and of the process's peak memory in MiB; ratios to glibc's own settings. Linux with glibc only.
"""

import json
import os
import statistics
import subprocess
import sys

ROUNDS = 4
STEP = """
import ctypes, json, logging, resource, sys, time
logging.disable(logging.WARNING)  # that the teacher's weights are random
libc = ctypes.CDLL(None)
for parameter, value in json.loads(sys.argv[1]):
    assert libc.mallopt(parameter, value) == 1
import statistics, torch, swinlet
model = swinlet.define_Model(
    {"gpu_ids": None, "netTeacher": {"net_type": "swinir"}, "train": {"distillation_type": "feature"}}
)
model.init_train()
model.feed_data({"L": torch.rand(4, 3, 32, 32), "H": torch.rand(4, 3, 128, 128)})
steps = []
for step in range(1, 8):
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    model.optimize_parameters(step)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    steps.append((1000 * wall, 1000 * cpu, after.ru_minflt - before.ru_minflt))
medians = [statistics.median(column) for column in zip(*steps[2:])]
print(json.dumps([*medians, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
KEEP = [(M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)]
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # read when the process starts, unlike the rest
TORCH_HUGE = {"THP_MEM_ALLOC_ENABLE": "1"}
SETTINGS = {
    "glibc's own": ({}, []),
    "no mmap, no trim": ({}, KEEP),
    "torch's huge pages": (TORCH_HUGE, []),
    "no mmap, no trim, torch's huge pages": (TORCH_HUGE, KEEP),
    "no mmap, no trim, glibc's huge pages": (HUGE, [*KEEP, (M_TOP_PAD, 64 << 20)]),
}


def measure(environment: dict[str, str], parameters: list[tuple[int, int]]) -> list[float]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", STEP, json.dumps(parameters)]
    done = subprocess.run(command, env=clean | environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


runs = {label: [] for label in SETTINGS}
for _ in range(ROUNDS):
    for label, setting in SETTINGS.items():
        runs[label].append(measure(*setting))

own = [statistics.median(column) for column in zip(*runs["glibc's own"], strict=True)]
for label, values in runs.items():
    columns = list(zip(*values, strict=True))
    wall, cpu, faults, peak = map(statistics.median, columns)
    print(
        f"{label}: step {wall:.0f} ms ({min(columns[0]):.0f} to {max(columns[0]):.0f}), ratio {own[0] / wall:.2f}; ",
        end="",
    )
    print(f"processor {cpu:.0f} ms, ratio {own[1] / cpu:.2f}; {faults:.0f} faults; peak {peak:.0f} MiB")
