"""Several processes train as one does: real ones, talking over gloo, some started by torchrun and accelerate launch."""

import itertools
import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from swinlet.checkpoint import newest_sealed
from swinlet.data.select_dataset import check_shares, define_Dataset, training_batches
from swinlet.errors import OptionError
from swinlet.models.model_plain import _split
from swinlet.options import parse_options
from swinlet.train import train
from swinlet.utils import accelerator
from swinlet.utils.processes import Processes, join
from tests.fork_server import Command
from tests.small_run import options, tree
from tests.test_teach import taught
from tests.test_train import final_state, records, wait_for
from tests.two_processes import poison

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-5


def two_of(folder: Path, *arguments: str) -> list[int]:
    """Exit codes of a command that two processes carry out, as torchrun would start them; output in a file for each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    commands: list[Command] = []
    for rank in ("0", "1"):
        with (folder / f"output{rank}.txt").open("w") as log:
            mine = place | {"RANK": rank, "LOCAL_RANK": rank}
            commands.append(Command(*arguments, stdout=log, stderr=log, environment=mine))
    return [command.wait(timeout=300) for command in commands]


def output(folder: Path) -> str:
    """What the two have written, one after the other."""
    return "".join(file.read_text() for file in sorted(folder.glob("output?.txt")))


def assert_close(one: Path, other: Path, step: int = 6) -> None:
    """All weights, averages and moments, to ``TOLERANCE``; the losses, relatively."""
    first, second = final_state(one / "run", step), final_state(other / "run", step)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=TOLERANCE, rtol=TOLERANCE, msg=name)
    assert any("exp_avg" in name for name in first)
    losses = [{r["step"]: r["losses"] for r in records(run / "run", "train")} for run in (one, other)]
    assert losses[0].keys() == losses[1].keys()
    for i, values in losses[0].items():
        assert values == pytest.approx(losses[1][i], rel=TOLERANCE)


CASES: dict[str, dict[str, Any]] = {
    "feature, two times 16 patches": {"batch": 32, "kind": "feature", "checkpoint_test": 3, "checkpoint_save": 2},
    "stored features": {"batch": 5, "kind": "feature", "stored": True},
    "feature loss that starts later": {"batch": 4, "kind": "feature", "start_feature_iter": 4},
    "response, each share in two parts, checkpointed": {
        "batch": 8,
        "kind": "response",
        "gradient_accumulation_steps": 2,
        "activation_checkpointing": True,
    },
    "response, stored answers, shares of 2 and 3": {"batch": 5, "kind": "response", "stored": True},
    "feature, tapped": {"batch": 4, "kind": "feature", "feature_taps": ["conv_first", "layers.1"]},
    "none, shares of 2 and 3, sum of squares": {"batch": 5, "kind": "none", "G_lossfn_type": "l2sum"},
    "several types, one measured, one that starts later, shares of 2 and 3": {
        "batch": 5,
        "kind": ["feature_norm", "dukd", "unlabelled"],
        "distillation": {"feature_norm": {"start_iter": 2}},
    },
    "none, clipped gradients": {"batch": 4, "kind": "none", "G_optimizer_clipgrad": 0.1, "E_decay": 0},
}


@pytest.fixture(scope="module")
def set_of_three(photos: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training images of ``photos`` and the teacher's answers, and three test images: one process gets two of them."""
    folder = tmp_path_factory.mktemp("three")
    (folder / "test" / "HR").mkdir(parents=True)
    (folder / "train").symlink_to(photos / "train")
    image = Image.open(next((photos / "test" / "HR").iterdir()))
    for i in range(3):
        image.crop((10 * i, 0, 10 * i + 48, 32)).save(folder / "test" / "HR" / f"{i}.png")
    taught(teacher_file, photos / "train", folder / "answers", features=["0", "1"])
    return folder


def option_tree(images: Path, root: Path, teacher_file: Path, case: dict[str, Any], **train_keys: Any) -> Any:
    keys: dict[str, Any] = {"checkpoint_test": 6, "checkpoint_save": 6}
    keys |= {key: value for key, value in case.items() if key not in ("batch", "kind", "stored")} | train_keys
    data = tree(images, root, teacher_file, G_optimizer_lr=2e-4, distillation_type=case["kind"], **keys)
    data["datasets"]["train"] |= {"dataloader_batch_size": case["batch"], "cache_gb": 0}
    if case.get("stored"):
        data["datasets"]["train"]["dataroot_T"] = str(images / "answers")
    data["datasets"]["test"] |= {"cache_gb": 0}
    data["datasets"]["unlabelled"] = {"dataroot": str(images / "train"), "cache_gb": 0}
    return data


@pytest.fixture(scope="module")
def two_processes(set_of_three: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each case, trained by two processes; and two that change their number in the middle."""
    folder = tmp_path_factory.mktemp("two_processes")
    feature = CASES["feature loss that starts later"]
    trees = {
        f"{i}": option_tree(set_of_three, folder / f"{i}", teacher_file, case) for i, case in enumerate(CASES.values())
    }
    trees["one, then two"] = option_tree(set_of_three, folder / "one, then two", teacher_file, feature)
    trees["two, then one"] = option_tree(set_of_three, folder / "two, then one", teacher_file, feature, total_iter=3)
    trees["poisoned"] = option_tree(set_of_three, folder / "poisoned", teacher_file, feature)
    first = trees["one, then two"]
    train(parse_options(first | {"train": first["train"] | {"total_iter": 3}}))
    for name, data in trees.items():
        (folder / f"{name}.json").write_text(json.dumps(data))
    files = [str(folder / f"{name}.json") for name in trees]
    assert two_of(folder, "-m", "tests.two_processes", str(folder), *files) == [0, 0], output(folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_does(
    case: str, two_processes: Path, set_of_three: Path, teacher_file: Path, tmp_path: Path
) -> None:
    assert train(parse_options(option_tree(set_of_three, tmp_path, teacher_file, CASES[case])))
    together = two_processes / f"{list(CASES).index(case)}"
    assert_close(tmp_path, together)
    tests = [records(run / "run", "test") for run in (tmp_path, together)]
    for one, two in itertools.zip_longest(*tests):
        assert list(one["images"]) == list(two["images"]) == ["0", "1", "2"]
        assert one["mean"] == pytest.approx(two["mean"], abs=0.01)
    names = [sorted(str(p.relative_to(run)) for p in run.rglob("*.png")) for run in (tmp_path, together)]
    assert names[0] == names[1]
    assert len(names[0]) == 3 * 6 // CASES[case].get("checkpoint_test", 6)


def test_resume_with_another_number_of_processes(
    two_processes: Path, set_of_three: Path, teacher_file: Path, tmp_path: Path
) -> None:
    case = CASES["feature loss that starts later"]
    assert train(parse_options(option_tree(set_of_three, tmp_path, teacher_file, case)))
    assert train(parse_options(option_tree(set_of_three, two_processes / "two, then one", teacher_file, case)))
    for name in ("one, then two", "two, then one"):
        assert [record["step"] for record in records(two_processes / name / "run", "start")] == [0, 3]
        resumed = final_state(two_processes / name / "run")
        for key, value in final_state(tmp_path / "run").items():
            torch.testing.assert_close(value, resumed[key], atol=TOLERANCE, rtol=TOLERANCE, msg=key)


def test_a_step_is_skipped_by_all(two_processes: Path, set_of_three: Path, teacher_file: Path, tmp_path: Path) -> None:
    case = CASES["feature loss that starts later"]
    with poison(4):
        assert train(parse_options(option_tree(set_of_three, tmp_path, teacher_file, case)))
    skipped = [records(run / "run", "skipped") for run in (tmp_path, two_processes / "poisoned")]
    assert [record["step"] for record in skipped[1]] == [4]
    assert skipped[0][0]["images"] == skipped[1][0]["images"]
    first, second = final_state(tmp_path / "run"), final_state(two_processes / "poisoned" / "run")
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=TOLERANCE, rtol=TOLERANCE, msg=name)


def test_only_the_main_process_writes_and_none_reads_what_it_does_not_need(
    two_processes: Path, set_of_three: Path, teacher_file: Path
) -> None:
    main, other = (json.loads((two_processes / f"{rank}.json").read_text()) for rank in (0, 1))
    inside = str(two_processes)
    assert any(path.startswith(inside) for path in main["changed"])
    assert not [path for path in other["changed"] if path.startswith(inside)]

    cases = list(CASES.values())
    dataset = define_Dataset(parse_options(option_tree(set_of_three, two_processes, teacher_file, cases[0])), "train")
    needed = {
        str(dataset.H_path(position))
        for case in cases
        for step in range(6)
        for position in (step * case["batch"] + slot for slot in Processes(1, 2).share(case["batch"]))
    }
    photos = {path for path in other["read"] if path.startswith(str(set_of_three / "train"))}
    assert photos
    assert photos <= needed
    tests = [path for path in other["read"] if path.startswith(str(set_of_three / "test"))]
    assert [Path(path).name for path in tests] == ["1.png"]
    weights = [path for path in other["read"] if path.startswith(inside) and "/models/" in path]
    assert not weights  # of the checkpoint the main process tells the others


class TestShares:
    @pytest.mark.parametrize(("count", "total"), [(1, 5), (2, 5), (3, 32), (8, 32), (7, 7)])
    def test_they_make_up_the_batch_in_order(self, count: int, total: int) -> None:
        shares = [Processes(rank, count).share(total) for rank in range(count)]
        assert [slot for share in shares for slot in share] == list(range(total))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    def test_parts(self) -> None:
        parts = _split(range(3, 10), 3)
        assert [slot for part in parts for slot in part] == list(range(3, 10))
        assert sorted(map(len, parts)) == [2, 2, 3]

    @pytest.mark.parametrize("count", [2, 3])
    def test_batches_are_the_same_samples(self, photos: Path, tmp_path: Path, count: int) -> None:
        data = tree(photos, tmp_path)
        data["datasets"]["train"]["dataloader_batch_size"] = 7
        opt = parse_options(data)
        dataset = define_Dataset(opt, "train")
        whole = list(training_batches(dataset, opt, range(3, 5)))
        for i, batch in enumerate(whole):
            parts = [dataset.batch([(i + 2) * 7 + slot for slot in Processes(r, count).share(7)]) for r in range(count)]
            assert torch.equal(batch["H"], torch.cat([part["H"] for part in parts]))
            assert torch.equal(batch["L"], torch.cat([part["L"] for part in parts]))
            assert batch["H_path"] == [str(dataset.H_path((i + 2) * 7 + slot)) for slot in range(7)]

    def test_too_few_patches(self, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"dataloader_batch_size: 2 patches are too few for 3 processes$"):
            check_shares(options(photos, tmp_path), 3)
        check_shares(options(photos, tmp_path), 2)
        with pytest.raises(OptionError, match=r"2 patches are too few for 2 processes, 2 parts each"):
            check_shares(options(photos, tmp_path, gradient_accumulation_steps=2), 2)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_give_its_gradient(photos: Path, teacher_file: Path, tmp_path: Path, parts: int) -> None:
    """With drop-path, which is drawn for each sample of the batch."""
    case = {"batch": 5, "kind": "feature", "G_lossfn_type": "l2sum", "G_optimizer_clipgrad": 1.0}
    assert train(parse_options(option_tree(photos, tmp_path / "whole", teacher_file, case)))
    split = option_tree(photos, tmp_path / "parts", teacher_file, case, gradient_accumulation_steps=parts)
    assert train(parse_options(split))
    assert_close(tmp_path / "whole", tmp_path / "parts")


def test_accelerate_cannot_divide_the_gradient(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train(options(photos, tmp_path / "plain", G_optimizer_clipgrad=0.1))
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert "accelerate's" not in caplog.text
    train(options(photos, tmp_path / "told", G_optimizer_clipgrad=0.1))
    assert "accelerate's mixed precision (no) and gradient accumulation (4) have no effect" in caplog.text
    first, second = final_state(tmp_path / "plain" / "run"), final_state(tmp_path / "told" / "run")
    assert all(torch.equal(first[name], second[name]) for name in first)


TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]


def launched(launcher: list[str], folder: Path, name: str) -> Command:
    """A launcher, which starts two trainings of train.json."""
    script = [str(ROOT / "main_train_student.py"), "--opt", str(folder / "train.json")]
    with (folder / f"{name}.txt").open("w") as log:
        return Command(*launcher, *script, stdout=log, stderr=log)


def trainer(launcher: Command, rank: int) -> psutil.Process:
    """The process with a number among those that the launcher has started."""
    children = psutil.Process(launcher.pid).children()
    return next(child for child in children if child.environ().get("RANK") == str(rank))


def test_a_stop_and_a_crash_lose_nothing(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    """SIGTERM to torchrun; then, resumed by accelerate launch, one process is killed; then one goes on alone."""
    case = {"batch": 12, "kind": "feature"}
    steps = {"total_iter": 40, "checkpoint_print": 1, "checkpoint_test": 100, "checkpoint_save": 100}
    assert train(parse_options(option_tree(photos, tmp_path / "whole", teacher_file, case, **steps)))
    data = option_tree(photos, tmp_path, teacher_file, case, **steps)
    data["datasets"]["train"]["dataloader_num_workers"] = 1
    (tmp_path / "train.json").write_text(json.dumps(data))
    log = tmp_path / "run" / "train.log"

    launcher = launched(TORCHRUN, tmp_path, "stopped")
    wait_for(log, "iter:       3")
    os.kill(launcher.pid, signal.SIGTERM)
    launcher.wait()
    said = (tmp_path / "stopped.txt").read_text()
    assert "stopped by SIGTERM after iteration" in said, said
    stopped = records(tmp_path / "run", "train")[-1]["step"]
    sealed = newest_sealed(tmp_path / "run" / "models")
    assert sealed is not None
    assert sealed.step == stopped < 40

    launcher = launched(ACCELERATE, tmp_path, "killed")
    wait_for(log, f"iter: {stopped + 3:>7}")
    trainer(launcher, 1).kill()
    assert launcher.wait(timeout=60) != 0
    said = (tmp_path / "killed.txt").read_text()
    assert "process 1 of 2 has ended without a word: killed from outside" in said
    saved = int(re.findall(r"iteration (\d+) is saved", said)[0])
    assert saved >= stopped + 3
    assert "process 1 of 2 has ended without a word" in log.read_text()
    assert not (tmp_path / "run" / "run.lock").exists()

    assert train(parse_options(data))
    assert [record["step"] for record in records(tmp_path / "run", "start")] == [0, stopped, saved]
    first, second = final_state(tmp_path / "whole" / "run", 40), final_state(tmp_path / "run", 40)
    for name in first:
        # Rounding errors have grown; one iteration more or less would change weights by some 1e-4.
        torch.testing.assert_close(first[name], second[name], atol=2e-5, rtol=1e-3, msg=name)


def test_an_error_that_all_processes_meet_is_told_once(photos: Path, tmp_path: Path) -> None:
    data = tree(photos, tmp_path)
    data["datasets"]["train"]["dataloader_batch_size"] = 1
    (tmp_path / "train.json").write_text(json.dumps(data))
    codes = two_of(tmp_path, "main_train_student.py", "--opt", str(tmp_path / "train.json"))
    assert codes == [2, 1], output(tmp_path)
    assert output(tmp_path).count("dataloader_batch_size: 1 patches are too few for 2 processes") == 1
    assert "Traceback" not in output(tmp_path)


class TestRefusals:
    def test_a_static_graph_with_parts(self, photos: Path, tmp_path: Path) -> None:
        data = tree(photos, tmp_path, gradient_accumulation_steps=2) | {"use_static_graph": True}
        with pytest.raises(OptionError, match=r"use_static_graph: torch's static graph knows no parts"):
            parse_options(data)

    def test_processes_that_cannot_meet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As on a Mac's GPU, or without LOCAL_RANK."""
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(OptionError, match=r"gpu_ids: 2 processes were started that cannot meet"):
            join.__wrapped__(on_cpu=False)

    @pytest.mark.parametrize(
        ("gpu_ids", "count", "message"),
        [
            ("auto", 3, "3 processes on this machine, but 2 GPUs"),
            ((1,), 1, r"\[1\], but each of the 1 processes takes"),
        ],
    )
    def test_gpus(self, gpu_ids: Any, count: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCAL_RANK", "0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(accelerator, "join_processes", lambda _: Processes(0, count, 0, count))
        with pytest.raises(OptionError, match=message):
            accelerator.make_accelerator(gpu_ids, "fp32")
