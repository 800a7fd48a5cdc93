"""How fast training samples come: decoded whole and then cropped, from image files, and from a prepared folder.

    python benchmarks/loader.py [--images DIR] [--json FILE]

Without --images, 2040x1356 PNG files are made up whose sizes are like photographs'. Patches are 96x96 (x4: 24x24), in
batches of 32; every way ends with float tensors in [0, 1]. Medians of interleaved rounds; one thread, no workers:

    whole     both files of a pair are decoded whole, made float, cropped, turned: what KAIR's loader does
    files     DatasetSR of the image files, with nothing decoded before (as where the images exceed its memory)
    prepared  DatasetSR of the prepared folder

then batches a second as the training loop gets them, in samples, with worker processes.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import swinlet.data.dataset_sr as dataset_module
from swinlet.data.augment import augment
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.prepare import prepare
from swinlet.data.prepare_image import Request
from swinlet.data.select_dataset import training_batches
from swinlet.options import parse_options
from swinlet.utils.console import ProgressBar
from swinlet.utils.image_io import list_images, read_image, save_image
from swinlet.utils.resize import bicubic_downscale

SCALE, PATCH, BATCH = 4, 96, 32
Sampler = Callable[[int, int], None]  # samples first ... first + count - 1


def made_up_photo(seed: int, height: int = 1356, width: int = 2040) -> np.ndarray:
    """Noise of several grain sizes, which PNG compresses about as badly as photographs."""
    rng = np.random.default_rng(seed)
    total = rng.normal(128, 2, (height, width, 3))
    for cells, strength in ((8, 26), (32, 15), (128, 8.6), (512, 4.9)):
        grid = rng.normal(0, strength, (max(2, height * cells // width), cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(grid[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(layer)
    return total.clip(0, 255).astype(np.uint8)


def whole_then_crop(high: list[Path], low: list[Path]) -> Sampler:
    rng = np.random.default_rng(0)

    def sample(first: int, count: int) -> None:
        for position in range(first, first + count):
            index = position % len(high)
            H, L = (read_image(files[index], 3).astype(np.float32) / 255 for files in (high, low))
            size = PATCH // SCALE
            top, left = (int(rng.integers(side - size + 1)) for side in L.shape[:2])
            mode = int(rng.integers(8))
            patches = (
                L[top : top + size, left : left + size],
                H[top * SCALE : top * SCALE + PATCH, left * SCALE : left * SCALE + PATCH],
            )
            for patch in patches:
                torch.from_numpy(np.ascontiguousarray(augment(patch, mode).transpose(2, 0, 1)))

    return sample


def batches_of(dataset: DatasetSR) -> Sampler:
    def sample(first: int, count: int) -> None:
        for start in range(first, first + count, BATCH):
            batch = dataset.batch(range(start, min(start + BATCH, first + count)))
            for key in ("L", "H"):
                batch[key].float().div_(255)

    return sample


def with_workers(dataset: DatasetSR, folder: Path, workers: int, steps: int) -> float:
    """Samples a second in the training loop's process."""
    section = {"dataroot_H": str(folder), "dataloader_batch_size": BATCH, "dataloader_num_workers": workers}
    opt = parse_options({"datasets": {"train": section}, "train": {"distillation_type": "none"}})
    batches = training_batches(dataset, opt, range(1, steps + 2))
    next(batches)  # the workers have started
    begin = time.perf_counter()
    for batch in batches:
        for key in ("L", "H"):
            batch[key].float().div_(255)
    return steps * BATCH / (time.perf_counter() - begin)


def measure(images: Path | None = None, count: int = 8, rounds: int = 5, workers: tuple[int, ...] = (1, 2)) -> dict:
    """Run the benchmark.

    Args:
        images: folder of PNG or other files, each side at least 96 pixels; None: files are made up.
        count: how many images to make up, and samples of the slow ways in a round.
        rounds: of all ways in turn; the medians count.
        workers: numbers of worker processes to try.
    """
    threads, memory = torch.get_num_threads(), dataset_module.CACHE_BYTES
    torch.set_num_threads(1)
    dataset_module.CACHE_BYTES = 0
    with tempfile.TemporaryDirectory() as name:
        try:
            return _measure(Path(name), images, count, rounds, workers)
        finally:
            torch.set_num_threads(threads)
            dataset_module.CACHE_BYTES = memory


def _measure(place: Path, images: Path | None, count: int, rounds: int, workers: tuple[int, ...]) -> dict:
    if images is None:
        images = place / "HR"
        for seed in range(count):
            save_image(images / f"{seed}.png", made_up_photo(seed))
    high = list_images(images)
    low = [place / "LR" / f"{number}.png" for number in range(len(high))]
    for H_path, L_path in zip(high, low, strict=True):
        save_image(L_path, bicubic_downscale(read_image(H_path, 3), SCALE))
    with ProgressBar() as bar:
        prepare(Request(images, scale=SCALE), place / "prepared", bar)
    prepared = DatasetSR(place / "prepared", scale=SCALE, phase="train", H_size=PATCH)
    files = DatasetSR(images, scale=SCALE, phase="train", H_size=PATCH)

    ways = {
        "whole": (whole_then_crop(high, low), count),
        "files": (batches_of(files), count),
        "prepared": (batches_of(prepared), 16 * BATCH),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {f"{number}": [] for number in workers}
    for sampler, samples in ways.values():
        sampler(0, samples)
    for number in range(1, rounds + 1):
        for name, (sampler, samples) in ways.items():
            begin = time.perf_counter()
            sampler(number * samples, samples)
            times[name].append(1000 * (time.perf_counter() - begin) / samples)
        for label, found in rates.items():
            found.append(with_workers(prepared, place / "prepared", int(label), 100))
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "images": {
            "count": len(high),
            "size": list(read_image(high[0], 3).shape[:2]),
            "made_up": place in high[0].parents,
        },
        "ms_per_sample": medians,
        "range_ms": {name: [min(found), max(found)] for name, found in times.items()},
        "ratio_to_whole": {name: medians["whole"] / value for name, value in medians.items()},
        "samples_per_s": {name: statistics.median(found) for name, found in rates.items()},
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of images; default: made up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result, too")
    arguments = parser.parse_args()
    logging.getLogger("swinlet").setLevel(logging.WARNING)
    found: dict[str, Any] = measure(arguments.images, rounds=arguments.rounds)
    size = "{1}x{0}".format(*found["images"]["size"])
    print(
        f"{found['images']['count']} images, the first {size}; load {found['load']:.1f} on {found['cpus']} processors"
    )
    for name, value in found["ms_per_sample"].items():
        low, high = found["range_ms"][name]
        ratio = found["ratio_to_whole"][name]
        print(f"{name:>9}: {value:8.3f} ms a sample ({low:.3f} to {high:.3f}), {ratio:.1f} times as fast as whole")
    for workers, rate in found["samples_per_s"].items():
        print(f"prepared, {workers} worker(s): {rate:.0f} samples a second")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
