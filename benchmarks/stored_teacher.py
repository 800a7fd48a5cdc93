"""A step of distillation with the teacher's network in it, and with its answers stored (swinlet teach).

    OMP_NUM_THREADS=1 python -m benchmarks.stored_teacher [--teacher FILE] [--features NAME ...] [--rounds 5]

Student 60 wide 4x4 at x4, batch 4 of 24x24 LR pixels of the demo's photographs, fp32, loaded by the main process. The
teacher is SwinIR 180 wide 6x6 with random weights, or that of FILE; of a SwinIR, features are those of the first four
stages. All runs and one without distillation take turns in one process, a few steps each; medians of the steps in
milliseconds (and their range), and how many times as long a step with the network takes.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import swinlet
from swinlet.data.prepared import folder_size
from swinlet.data.select_dataset import define_Dataset, training_batches
from swinlet.models.model_plain import ModelPlain
from swinlet.options import parse_options
from swinlet.teach import teach, teach_request
from swinlet.utils.console import ProgressBar

IMAGES = Path(__file__).resolve().parents[1] / "demo" / "images" / "train"
STEPS = 3  # in a row


def options(images: Path, kind: str, teacher: Path, answers: Path | None = None) -> Any:
    train = {"dataroot_H": str(images), "H_size": 96, "dataloader_batch_size": 4, "dataloader_num_workers": 0}
    return parse_options(
        {
            "gpu_ids": None,
            "path": {"pretrained_netTeacher": str(teacher)},
            "datasets": {"train": train | ({"dataroot_T": str(answers)} if answers else {})},
            "train": {"distillation_type": kind},
        }
    )


class Run:
    """A run whose steps are timed, with the loading of their batches."""

    def __init__(self, opt: Any) -> None:
        self._model = ModelPlain(opt)
        self._model.init_train()
        self._batches = training_batches(define_Dataset(opt, "train"), opt, range(1, 10**6))
        self._step = 0

    def steps(self, count: int) -> list[float]:
        seconds: list[float] = []
        for _ in range(count):
            begin = time.perf_counter()
            self._step += 1
            self._model.feed_data(next(self._batches))
            self._model.optimize_parameters(self._step)
            seconds.append(1000 * (time.perf_counter() - begin))
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--features", nargs="*", default=None, help="default: 0 1 2 3, of FILE none")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    features = given.features if given.features is not None else [] if given.teacher else ["0", "1", "2", "3"]
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        teacher = given.teacher or Path(folder, "teacher.pth")
        if given.teacher is None:
            torch.save({"params": swinlet.define_G({"net_type": "swinir"}).state_dict()}, teacher)
        answers = Path(folder, "answers")
        words = {"scale": 4, "on_bad_image": "skip", "self_ensemble": False, "tile": 64, "precision": "fp32"}
        words |= {"features": features, "download": False, "device": "cpu"}
        begin = time.perf_counter()
        with ProgressBar() as bar:
            teach(teach_request(str(teacher), given.images, None, answers, **words), bar)
        once = time.perf_counter() - begin
        kinds = ["response", *(["feature"] if features else [])]
        runs = {"no distillation": Run(options(given.images, "none", teacher))}
        for kind in kinds:
            if kind == "response" or all(name.isdecimal() for name in features):
                runs[f"{kind}, network"] = Run(options(given.images, kind, teacher))
            runs[f"{kind}, stored"] = Run(options(given.images, kind, teacher, answers))
        times: dict[str, list[float]] = {label: [] for label in runs}
        for number in range(given.rounds + 1):
            for label, run in runs.items():
                times[label] += run.steps(STEPS) if number else run.steps(STEPS)[:0]
        for label, values in times.items():
            middle = statistics.median(values)
            network = times.get(label.replace("stored", "network")) if "stored" in label else None
            ratio = f"{statistics.median(network) / middle:8.2f} x" if network else ""
            print(f"{label:<18} {middle:8.1f} ms ({min(values):.1f} to {max(values):.1f}){ratio}")
        print(f"answers stored in {once:.1f} s, {folder_size(answers) / 1e6:.1f} MB")
        print(json.dumps({label: statistics.median(values) for label, values in times.items()}))


if __name__ == "__main__":
    main()
