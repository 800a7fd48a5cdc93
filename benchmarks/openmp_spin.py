"""A small student's training step with GNU OpenMP's own spin limit and with the one that the command line sets.

    python benchmarks/openmp_spin.py

Interleaved processes, on an idle machine and beside one and two busy processes; medians of the step in milliseconds,
and their ratio. The limit is read when torch is imported, hence a process for each measurement.
"""

import os
import statistics
import subprocess
import sys

ROUNDS = 2
STEP = """
import statistics, time, torch, swinlet
model = swinlet.define_Model({"gpu_ids": None, "netG": {"embed_dim": 24, "depths": [2, 2], "num_heads": [4, 4]}})
model.init_train()
model.feed_data({"L": torch.rand(8, 3, 16, 16), "H": torch.rand(8, 3, 64, 64)})
times = []
for step in range(1, 14):
    begin = time.perf_counter()
    model.optimize_parameters(step)
    times.append(time.perf_counter() - begin)
print(statistics.median(times[3:]))
"""


def measure(spin: str | None) -> float:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "OMP"))}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = spin
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=True)
    return 1000 * float(done.stdout)


def compare(label: str) -> None:
    own, short = [], []
    for _ in range(ROUNDS):
        own.append(measure(None))
        short.append(measure("10000"))
    medians = statistics.median(own), statistics.median(short)
    print(f"{label}: own limit {medians[0]:.0f} ms ({min(own):.0f} to {max(own):.0f}), ", end="")
    print(f"10000 {medians[1]:.0f} ms ({min(short):.0f} to {max(short):.0f}), ratio {medians[0] / medians[1]:.2f}")


compare("idle machine")
for count in (1, 2):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        compare(f"beside {count} busy process(es)")
    finally:
        for process in busy:
            process.kill()
