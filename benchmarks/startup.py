"""CPU time that commands take before they say a word, and that a tiny picture takes.

    python -m benchmarks.startup

Seconds of user and system time, medians of five runs, one thread.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

COMMANDS = {
    "option file that is missing": ["train", "--opt", "none.json"],
    "option that is wrong": ["evaluate", "--testset", "x", "--scale", "5"],
    "picture that is missing": ["upscale", "none.png", "--out", "x"],
    "four pictures of 32x24 pixels, x4": ["upscale", "pictures", "--out", "large", "--overwrite"],
    "info": ["info"],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pictures").mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
        for i in range(4):
            Image.fromarray(pixels).save(Path(folder) / "pictures" / f"{i}.png")
        for name, words in COMMANDS.items():
            print(f"{name:40}{statistics.median(seconds(words, folder) for _ in range(5)):6.2f} s")


def seconds(words: list[str], folder: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {"PYTHONPATH": os.getcwd()} | os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "swinlet", *words]
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
