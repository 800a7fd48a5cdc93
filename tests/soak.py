"""Kill a training again and again, resume it each time, and compare what it ends with to a run that nobody disturbed.

    python -m tests.soak [--kills 500] [--seed 0] [--out build/soak]

Every training is a process of its own, forked from one that has imported torch and done nothing else, and is killed
with SIGKILL: at a random instant, or while a file of a checkpoint is being written. Some read their images in a
worker process. After some kills the newest checkpoint is damaged as well, as a power failure could leave it. After
every kill the newest sealed checkpoint must be whole and no older than it was; whenever a run is complete its
weights, translator and moments must equal the undisturbed run's bit for bit, and the next one starts. Prints what was
done; the exit status tells whether all went well.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from swinlet.checkpoint import newest_sealed
from swinlet.cli import run_train
from swinlet.models.select_network import define_G
from tests.small_run import TEACHER, tree

STEPS = 24


class Soak:
    """One series of kills; ``counts`` is what happened."""

    def __init__(self, out: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.out = out
        self.counts: Counter[str] = Counter()
        self.run = out / "killed" / "run"
        shutil.rmtree(out, ignore_errors=True)
        for part, number in (("train", 3), ("test/HR", 1)):
            folder = out / "photos" / part
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = np.random.default_rng(i).integers(0, 256, (48, 48, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")

    def go(self, kills: int) -> None:
        """Kill so often, then let the last run finish.

        Raises:
            AssertionError: something was lost.
        """
        self.finish(self.start(self.make_teacher))
        begin = time.monotonic()
        self.finish(self.start(self.train, "undisturbed"))
        duration = time.monotonic() - begin
        expected = final_state(self.out / "undisturbed" / "run")
        before = 0
        while self.counts["kills"] < kills:
            process = self.start(self.train, "killed", self.random.choice((0, 0, 0, 1)))
            self.kill(process, duration)
            sealed = newest_sealed(self.run / "models", lambda text: self.counts.update(["checkpoints passed over"]))
            step = 0 if sealed is None else sealed.step
            assert step >= before, f"the checkpoint of iteration {before} was lost"
            before = step
            if step == STEPS:
                self.finish(self.start(self.train, "killed"))  # it may have been killed before its test
                self.compare(expected)
                shutil.rmtree(self.run)
                before = 0
            elif self.random.random() < 0.2:
                before = self.damage(step)
        self.finish(self.start(self.train, "killed"))
        self.compare(expected)

    def compare(self, expected: dict[str, bytes]) -> None:
        found = final_state(self.run)
        different = [name for name in expected if found.get(name) != expected[name]]
        assert not different, f"{len(different)} tensors differ from an undisturbed run's, first {different[0]}"
        self.counts["runs completed, equal bit for bit"] += 1

    def kill(self, process: int, duration: float) -> None:
        """At some instant, if it still lives then."""
        if self.random.random() < 0.5:
            deadline, place = time.monotonic() + self.random.uniform(0, duration), "at a random instant"
            while time.monotonic() < deadline and not ended(process):
                time.sleep(0.001)
        else:
            place = "inside the write of a checkpoint"
            wanted = self.random.randrange(12)  # of the writes
            seen: set[str] = set()
            while len(seen) <= wanted and not ended(process):
                seen.update(f"{name} {seal(self.run)}" for name in names(self.run / "models") if name.endswith(".tmp"))
            time.sleep(self.random.uniform(0, 0.002))
        if not ended(process):
            os.kill(process, signal.SIGKILL)
            self.counts["kills"] += 1
            self.counts[place] += 1
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            assert status == 0, f"a training failed: see {self.out / 'log.txt'}"

    def damage(self, step: int) -> int:
        """Cut or flip a file of the newest checkpoint where an older one is whole; the newest step that is left."""
        steps = sorted(int(name[:-5]) for name in names(self.run / "models") if name[:-5].isdigit())
        if len(steps) < 2 or steps[-1] != step:
            return step
        file = self.random.choice(sorted((self.run / "models").glob(f"{step}*")))
        content = bytearray(file.read_bytes())
        place = self.random.randrange(len(content))
        if self.random.random() < 0.5:
            content[place] ^= 1 << self.random.randrange(8)
        else:
            del content[place:]
        file.write_bytes(content)
        self.counts["checkpoints damaged"] += 1
        left = newest_sealed(self.run / "models", lambda text: None)
        return 0 if left is None else left.step

    def start(self, work: Callable[..., None], *arguments: object) -> int:
        """A process that does the work; its output goes to log.txt."""
        process = os.fork()
        if process == 0:
            log = os.open(self.out / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                work(*arguments)
            except SystemExit as end:
                os._exit(int(end.code or 0))
            os._exit(0)
        return process

    def finish(self, process: int) -> None:
        _, status = os.waitpid(process, 0)
        assert status == 0, f"a training failed: see {self.out / 'log.txt'}"

    def make_teacher(self) -> None:
        torch.save(define_G({**TEACHER, "window_size": 4}).state_dict(), self.out / "teacher.pth")

    def train(self, root: str, workers: int = 0) -> None:
        options = tree(self.out / "photos", self.out / root, self.out / "teacher.pth", total_iter=STEPS)
        options["train"] |= {"checkpoint_test": STEPS // 2, "checkpoint_save": 3}
        file = self.out / f"{root}.json"
        if not file.exists():
            file.write_text(json.dumps(options))
        sys.argv = ["main_train_student.py", "--opt", str(file), f"datasets.train.dataloader_num_workers={workers}"]
        run_train()


def ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def seal(run: Path) -> int:
    """Number of manifests, so that the writes of different checkpoints count as different."""
    return sum(name.endswith(".json") for name in names(run / "models"))


def final_state(run: Path) -> dict[str, bytes]:
    """The tensors of the last checkpoint, by file and key, as bytes."""
    found: dict[str, bytes] = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        elif isinstance(value, dict):
            for key, entry in value.items():
                collect(f"{name}/{key}", entry)

    for file in sorted((run / "models").glob(f"{STEPS}_*.pth")):
        collect(file.name, torch.load(file, weights_only=True))
    assert found, f"{run} holds no weights of iteration {STEPS}"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill trainings, resume them, compare.")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    given = parser.parse_args()
    soak, begin = Soak(given.out.resolve(), given.seed), time.monotonic()
    try:
        soak.go(given.kills)
        lost = None
    except AssertionError as error:
        lost = error
    minutes = (time.monotonic() - begin) / 60
    print(f"seed {given.seed}, {minutes:.1f} minutes: " + ", ".join(f"{n} {what}" for what, n in soak.counts.items()))
    print(f"lost: {lost or 'nothing'}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
