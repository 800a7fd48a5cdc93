"""Memory that restoring takes for each LR pixel, beside what ``bytes_per_pixel`` says, from which tiles are chosen.

    python -m benchmarks.inference_memory [--side 256]

Each row is a process of its own: the highest resident memory after restoring one image, less that after a tiny one.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from typing import Any

ROWS: list[dict[str, Any]] = [
    {"net_type": "swinir_student"},
    {"net_type": "swinir_student", "upscale": 2},
    {"net_type": "swinir_student", "upscale": 8},
    {"net_type": "swinir_student", "upsampler": "pixelshuffledirect"},
    {"net_type": "swinir_student", "upsampler": "nearest+conv"},
    {"net_type": "swinir_student", "embed_dim": 24, "depths": [2, 2], "num_heads": [4, 4]},
    {"net_type": "swinir"},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256, help="of the image in LR pixels")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        measure(arguments.row, arguments.side)
        return
    print(f"bytes for each LR pixel, {arguments.side}x{arguments.side}\n{'native':>8}{'torch':>8}{'said':>8}")
    for row in ROWS:
        found = [measured(row, arguments.side, kernels) for kernels in ("native", "torch")]
        print(f"{found[0][0]:8,.0f}{found[1][0]:8,.0f}{found[0][1]:8,.0f}  {json.dumps(row)}")


def measured(row: dict[str, Any], side: int, kernels: str) -> tuple[float, float]:
    """Measured and said bytes per pixel."""
    command = [sys.executable, "-m", "benchmarks.inference_memory", "--side", str(side), "--row", json.dumps(row)]
    environment = os.environ | {"SWINLET_KERNELS": kernels}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found, said = map(float, done.stdout.split())
    return found, said


def measure(row: dict[str, Any], side: int) -> None:
    import torch

    import swinlet
    from swinlet.inference import RestoreOptions, Restorer

    network = swinlet.define_G(row)
    restorer = Restorer(network, RestoreOptions(torch.device("cpu")))
    restorer.restore(torch.rand(1, 3, 32, 32))
    image = torch.rand(1, 3, side, side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    restorer.restore(image)
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(taken / side**2, network.bytes_per_pixel)


if __name__ == "__main__":
    main()
