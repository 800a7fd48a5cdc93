"""Faults of the machine, on real trainings: what they say, how they end, and that nothing is lost.

The trainings write a line an iteration into a pipe that holds few: whoever reads it decides how far they come.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from swinlet.data import select_dataset
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.select_dataset import define_Dataset, training_batches
from swinlet.errors import MachineError
from swinlet.options import parse_options
from swinlet.train import train
from swinlet.utils.signals import stop_signals
from tests.conftest import NOT_PERMITTED
from tests.fork_server import Command
from tests.small_run import NET, tree
from tests.test_train import final_state, records

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts, capabilities and pipes of Linux")

ROOT = Path(__file__).resolve().parents[1]
STEPS = 60
START_AGAIN = "then start the same command again"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images for as many iterations: each is read for the first time at a known one."""
    folder = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(0)
    for part, number in (("train", 2 * STEPS), ("test/HR", 1)):
        (folder / part).mkdir(parents=True)
        for i in range(number):
            Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / part / f"{i}.png")
    return folder


def small(data: Path, root: Path, *, workers: int = 0, cache_gb: float = 1, **train_keys: Any) -> dict[str, Any]:
    """Nothing is saved before the end, unless keys say so."""
    keys = {
        "total_iter": STEPS,
        "checkpoint_print": 1,
        "checkpoint_test": STEPS,
        "checkpoint_save": STEPS,
        **train_keys,
    }
    options = tree(data, root, None, **keys)
    options["netG"] = NET | {"upsampler": "pixelshuffledirect"}
    options["datasets"]["train"] |= {"dataloader_num_workers": workers, "cache_gb": cache_gb}
    return options


@pytest.fixture(scope="module")
def undisturbed(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    assert train(parse_options(small(many, root)))
    return root / "run"


class Training:
    """``python main_train_student.py`` as a process of its own.

    Args:
        options, file: what it trains, and where that is written; None: it is there.
        mounts: whose disks it sees.
        more: of ``Command``.
    """

    def __init__(self, options: dict[str, Any] | None, file: Path, mounts: Mounts | None = None, **more: Any) -> None:
        if options is not None:
            file.write_text(json.dumps(options))
        holder = mounts.holder.pid if mounts else None
        self._process = Command("main_train_student.py", "--opt", str(file), namespaces=holder, **more)
        self._text = ""

    @property
    def loaders(self) -> list[psutil.Process]:
        return [p for p in psutil.Process(self._process.pid).children(recursive=True) if "tracker" not in p.name()]

    def until(self, text: str) -> None:
        for line in self._process.stderr:
            self._text += line
            if text in line:
                return
        raise AssertionError(f"{text!r} did not appear in {self._text}")

    def end(self, code: int) -> str:
        """Its output, once it has ended so; a hang is an error."""
        self._text += self._process.communicate()
        assert self._process.returncode == code, self._text
        assert "Traceback" not in self._text
        assert "Logging error" not in self._text
        return self._text


class Mounts:
    """Small disks, seen by the trainings alone that are started by way of ``way``; they go with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for extra, enter in ([], []), (["-r"], ["-U", "--preserve-credentials"]):  # root; or a user's own namespace
            script = f"mount -t tmpfs none '{folder}' && echo ready && exec cat"
            self.holder = subprocess.Popen(
                ["unshare", *extra, "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert self.holder.stdout is not None
            if self.holder.stdout.readline():
                self.way = ["nsenter", "-t", str(self.holder.pid), *enter, "-m"]
                return
            self.close()
        pytest.skip(f"{NOT_PERMITTED}a mount namespace (neither CAP_SYS_ADMIN nor user namespaces)")

    def close(self) -> None:
        self.holder.communicate()

    def sh(self, script: str) -> None:
        subprocess.run([*self.way, "sh", "-ec", script], check=True, cwd="/")

    @property
    def seen(self) -> Path:
        """The folder, as this process can see it."""
        return Path(f"/proc/{self.holder.pid}/root{self.folder}")


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    made = Mounts(tmp_path / "mounts")
    yield made
    made.close()


def temporary_files(run: Path) -> list[Path]:
    return [path for path in run.rglob("*") if ".tmp" in path.name]


class TestDiskFull:
    def test_when_it_starts_and_in_a_checkpoint(
        self, many: Path, undisturbed: Path, mounts: Mounts, tmp_path: Path
    ) -> None:
        size = sum(path.stat().st_size for path in (undisturbed / "models").glob(f"{STEPS}*"))
        options = small(many, mounts.folder, checkpoint_save=5)
        mounts.sh(f"cd {mounts.folder}; mount -o remount,size={3.5 * size:.0f} .; cat /dev/zero > full 2>&1 || true")
        run = mounts.seen / "run"

        message = Training(options, tmp_path / "o.json", mounts).end(1)
        assert "run.lock: cannot be written: No space left on device: free some space, " + START_AGAIN in message
        assert not list(run.rglob("*")), "no lock that would keep the next one out"

        (mounts.seen / "full").unlink()
        message = Training(options, tmp_path / "o.json", mounts).end(1)
        assert f"{mounts.folder}/run/models/" in message
        assert "cannot be written: No space left on device: free some space, " + START_AGAIN in message
        assert not temporary_files(run)
        last = max(int(path.stem) for path in (run / "models").glob("*.json") if path.stem != "best")
        assert last in (10, 15)

        mounts.sh(f"mount -o remount,size=100m {mounts.folder}")
        message = Training(options, tmp_path / "o.json", mounts).end(0)
        assert f"resuming {mounts.folder}/run after iteration {last}" in message
        assert_same_end(undisturbed, run)

    def test_of_logs_and_curves_alone_ends_no_run(
        self, many: Path, undisturbed: Path, mounts: Mounts, tmp_path: Path
    ) -> None:
        run = mounts.folder / "run"
        mounts.sh(
            f"cd {mounts.folder}; mkdir -p full run/tensorboard; mount -t tmpfs -o size=8k none full\n"
            "mkdir full/board; touch run/train.log\n"
            "head -c 4096 /dev/zero > full/log; head -c 4096 /dev/zero > full/rest\n"
            "mount --bind full/log run/train.log; mount --bind full/board run/tensorboard"
        )
        message = Training(small(many, mounts.folder), tmp_path / "o.json", mounts).end(0)
        assert message.count("No space left on device") == 2
        assert f"warning: {run}/train.log: lines will be missing: No space" in message
        assert f"warning: no more TensorBoard curves: {run}/tensorboard/events.out" in message
        assert_same_end(undisturbed, mounts.seen / "run")

    def test_of_the_metrics_saves_and_ends_the_run(
        self, many: Path, undisturbed: Path, mounts: Mounts, tmp_path: Path
    ) -> None:
        mounts.sh(
            f"cd {mounts.folder}; mkdir full run; mount -t tmpfs -o size=8k none full; touch full/metrics\n"
            "touch run/metrics.jsonl; mount --bind full/metrics run/metrics.jsonl"
        )
        message = Training(small(many, mounts.folder), tmp_path / "o.json", mounts).end(1)
        assert "run/metrics.jsonl: cannot be written: No space left on device: free some space, " in message
        shutil.copytree(mounts.seen / "run", tmp_path / "run")  # to a larger disk
        lines = (tmp_path / "run" / "metrics.jsonl").read_bytes()
        assert not lines.endswith(b"\n"), "the last line is torn"
        last = json.loads(lines.splitlines()[-2])["step"] + 1
        assert f"iteration {last} is saved, as the run ends by an error" in message
        assert train(parse_options(small(many, tmp_path)))
        assert_same_end(undisturbed, tmp_path / "run")
        torn = (tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines()[len(lines.splitlines()) - 1]
        kept = tmp_path / "run" / "metrics.jsonl"
        kept.write_bytes(kept.read_bytes().replace(torn + b"\n", b""))
        assert [record["step"] for record in records(tmp_path / "run", "start")] == [0, last]


def assert_same_end(one: Path, other: Path) -> None:
    first, second = final_state(one, STEPS), final_state(other, STEPS)
    assert any("exp_avg" in name for name in first)
    assert first.keys() == second.keys()
    assert not [name for name in first if not first[name].equal(second[name])]


class TestPermissionDenied:
    def test_at_the_start(self, many: Path, teacher_file: Path, tmp_path: Path) -> None:
        shutil.copytree(many, tmp_path / "data")
        shutil.copy(teacher_file, tmp_path / "teacher.pth")
        (tmp_path / "closed").mkdir()
        options = {name: small(many, tmp_path / name) for name in ("file", "image", "weights", "folder")}
        options["image"]["datasets"]["train"]["dataroot_H"] = str(tmp_path / "data" / "train")
        options["weights"]["path"]["pretrained_netTeacher"] = str(tmp_path / "teacher.pth")
        options["weights"]["train"]["distillation_type"] = "response"
        options["folder"]["path"]["root"] = str(tmp_path / "closed")
        for name, content in options.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        for name in ("file.json", "data/train/3.png", "teacher.pth"):
            (tmp_path / name).chmod(0)
        (tmp_path / "closed").chmod(0o555)
        for name, code, text in (
            ("file", 2, r"file\.json' is[\s│]+not[\s│]+readable"),
            ("image", 2, r"cannot read .*3\.png: Permission denied\. Check its permissions"),
            ("weights", 1, r"error: .*teacher\.pth is not a readable weight file: Permission denied"),
            ("folder", 1, rf"closed/run: cannot be written: Permission denied: see that .* {START_AGAIN}"),
        ):
            message = Training(None, tmp_path / f"{name}.json", obeys_modes=True).end(code)
            assert re.search(text, message), message
        assert not list(tmp_path.glob("*/run"))

    def test_in_the_course_of_a_run(self, many: Path, undisturbed: Path, tmp_path: Path) -> None:
        """The cache cannot be written, which costs time alone; then the folder of the checkpoints cannot."""
        (tmp_path / "cache").mkdir(mode=0o555)
        options = small(many, tmp_path, checkpoint_save=1)
        cache = {"SWINLET_CACHE": str(tmp_path / "cache" / "new")}
        training = Training(options, tmp_path / "o.json", environment=cache, obeys_modes=True)
        training.until("iter:       3,")
        models = tmp_path / "run" / "models"
        models.chmod(0o555)
        message = training.end(1)
        assert "datasets.train: no cache of decoded images, so loading takes longer: [Errno 13] Permission" in message
        assert re.search(rf"error: {models}/\d+_G\.pth: cannot be written: Permission denied: see that this", message)
        models.chmod(0o755)
        assert not temporary_files(tmp_path / "run")
        assert train(parse_options(options))
        assert_same_end(undisturbed, tmp_path / "run")

    def test_on_a_read_only_disk(self, many: Path, mounts: Mounts, tmp_path: Path) -> None:
        """The pictures of the test images, in the course of a run."""
        mounts.sh(f"cd {mounts.folder}; mkdir -p other run/images; mount -t tmpfs -o ro none run/images")
        message = Training(small(many, mounts.folder, checkpoint_test=5), tmp_path / "o.json", mounts).end(1)
        assert "iteration 5 is saved, as the run ends by an error" in message
        assert f"error: cannot write {mounts.folder}/run/images/0/0_5.png: Read-only file system: see that" in message
        assert (mounts.seen / "run" / "models" / "5.json").exists()


class TestVanishedImages:
    def test_of_training(self, many: Path, undisturbed: Path, tmp_path: Path) -> None:
        shutil.copytree(many, tmp_path / "data")
        options = small(tmp_path / "data", tmp_path, workers=2, cache_gb=0)
        training = Training(options, tmp_path / "o.json")
        training.until("iter:       2,")
        (tmp_path / "data").rename(tmp_path / "away")
        message = training.end(2)
        assert re.search(rf"error: cannot read {tmp_path}/data/train/\d+\.png: there is no such file", message)
        assert_saved_and_goes_on(message, options, tmp_path, undisturbed)

    def test_of_a_test(self, many: Path, undisturbed: Path, tmp_path: Path) -> None:
        """Those of training are in the cache, and not missed."""
        shutil.copytree(many, tmp_path / "data")
        options = small(tmp_path / "data", tmp_path, checkpoint_test=STEPS - 10)
        options["datasets"]["test"]["cache_gb"] = 0
        training = Training(options, tmp_path / "o.json")
        training.until("iter:       2,")
        (tmp_path / "data").rename(tmp_path / "away")
        message = training.end(2)
        assert f"error: cannot read {tmp_path}/data/test/HR/0.png: there is no such file" in message
        assert_saved_and_goes_on(message, options, tmp_path, undisturbed, STEPS - 10)
        assert {record["step"] for record in records(tmp_path / "run", "test")} == {STEPS - 10, STEPS}


def assert_saved_and_goes_on(
    message: str, options: dict[str, Any], root: Path, undisturbed: Path, step: int | None = None
) -> None:
    """The last iteration is saved; the same command, in this process, ends with the same weights."""
    found = re.search(r"iteration (\d+) is saved, as the run ends by an error", message)
    assert found, message
    last = int(found[1])
    assert last == (step or records(root / "run", "train")[-1]["step"])
    assert (root / "run" / "models" / f"{last}.json").exists()
    if (root / "away").exists():
        (root / "away").rename(root / "data")
    assert train(parse_options(options))
    assert [record["step"] for record in records(root / "run", "start")] == [0, last]
    assert_same_end(undisturbed, root / "run")


# A loader process hands over a batch, which is an open file to the system; the main process leaves in the middle of
# taking it, as when it has heard of another's death.
HALF_TAKEN = """
import multiprocessing, multiprocessing.reduction, os, socket
from swinlet.data.select_dataset import _start_worker

def hand_over(main):
    _start_worker(0)
    main.send(multiprocessing.reduction.DupFd(1))
    main.recv()

context = multiprocessing.get_context("fork")
here, there = context.Pipe()
loader = context.Process(target=hand_over, args=(there,))
loader.start()
batch = here.recv()
address, _ = batch._id
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(address)
os.close(batch.detach())  # served after the other
here.send("end")
loader.join()
"""


class TestLoaderProcesses:
    def test_one_that_is_killed(self, many: Path, undisturbed: Path, tmp_path: Path) -> None:
        options = small(many, tmp_path, workers=2)
        training = Training(options, tmp_path / "o.json")
        training.until("iter:       2,")
        training.loaders[0].kill()
        message = training.end(1)
        assert "error: a loader process was ended from outside (SIGKILL). Most often memory ran out: lower" in message
        assert_saved_and_goes_on(message, options, tmp_path, undisturbed)

    def test_a_batch_that_is_left_half_taken(self) -> None:
        command = Command("-c", HALF_TAKEN)
        assert command.communicate() == ""
        assert command.returncode == 0

    @pytest.mark.parametrize("dies", [True, False])
    def test_a_connection_that_breaks(self, dies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """It does before the process that held it has ended."""
        loader = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
        loader.start()

        def batches() -> Iterator[Any]:
            if dies:
                threading.Timer(0.2, loader.kill).start()
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
            yield

        monkeypatch.setattr(select_dataset, "_child_handler", lambda: None)  # else the signal comes first
        monkeypatch.setattr(select_dataset, "_DYING", 20 if dies else 0.1)
        with pytest.raises(MachineError if dies else ConnectionResetError, match="SIGKILL" if dies else "reset"):
            select_dataset._take(batches(), [loader])
        loader.kill()
        loader.join()

    def test_without_loader_processes_nobody_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def waited(*_: object) -> None:
            pytest.fail("there is nobody to wait for")

        def batches() -> Iterator[Any]:
            raise OSError(errno.EIO, "Input/output error")
            yield

        monkeypatch.setattr(select_dataset, "wait", waited)
        with pytest.raises(OSError, match="Input/output error"):
            select_dataset._take(batches(), [])

    def test_without_shared_memory(self, many: Path, mounts: Mounts, tmp_path: Path) -> None:
        mounts.sh("mount -t tmpfs -o size=100k none /dev/shm")
        message = Training(small(many, tmp_path, workers=1), tmp_path / "o.json", mounts).end(1)
        assert "No space left on device" in message
        assert "shared memory is full: enlarge /dev/shm (docker run --shm-size 1g), or lower datasets.train." in message

    def test_death_in_an_update_waits_for_its_end(self, many: Path, tmp_path: Path) -> None:
        """Torch's handler of SIGCHLD would raise here."""
        opt = parse_options(small(many, tmp_path, workers=1))
        batches = training_batches(define_Dataset(opt, "train"), opt, range(1, STEPS))
        next(batches)
        (loader,) = multiprocessing.active_children()
        loader.kill()
        loader.join()
        sum(range(10_000))  # handlers run between two instructions
        with pytest.raises(MachineError, match="SIGKILL"):
            next(batches)

    @pytest.mark.parametrize(("code", "shown"), [(3, "exit code 3"), (-signal.SIGBUS, "SIGBUS.*enlarge /dev/shm")])
    def test_how_one_ended(
        self, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, shown: str
    ) -> None:
        def end(*_: object) -> None:
            os.kill(os.getpid(), -code) if code < 0 else os._exit(code)

        monkeypatch.setattr(DatasetSR, "batch", end)
        opt = parse_options(small(many, tmp_path, workers=1))
        with pytest.raises(MachineError, match=shown):
            next(training_batches(define_Dataset(opt, "train"), opt, range(1, STEPS)))


class TestTerminal:
    @pytest.mark.usefixtures("hanging_up_counts")
    def test_its_end_is_a_request_to_stop(self) -> None:
        with stop_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.number == signal.SIGHUP
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with stop_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, before)
        assert not stop.number

    def test_nobody_reads_the_messages(self) -> None:
        """As with ``2>&1 | head``."""
        code = (
            "import logging, os, sys; from swinlet.cli.common import set_up\n"
            "set_up(); log = logging.getLogger('swinlet')\n"
            "log.info('read'); sys.stdin.read()\n"
            "for _ in range(3): log.info('nobody reads this')\n"
            "print('went on')"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", code], text=True, cwd=ROOT, **pipes) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "read\n"
            process.stderr.close()
            process.stderr = None
            assert process.communicate(timeout=30)[0] == "went on\n"
        assert process.returncode == 0
