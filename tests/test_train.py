"""The training loop from option file to results, in small: real photographs, a tiny student, a few iterations."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from swinlet.data.select_dataset import define_Dataset
from swinlet.errors import CheckpointError, DataError, OptionError, TrainingError
from swinlet.metrics import Scores
from swinlet.models.select_model import define_Model
from swinlet.models.select_network import define_G
from swinlet.options import load_options, parse_options
from swinlet.train import lagging_average, remarks, train
from swinlet.utils.processes import Processes
from swinlet.validation import TestPhase
from swinlet.weights import recorded_network
from tests.fork_server import Command
from tests.small_run import NET, options, tree

ROOT = Path(__file__).resolve().parents[1]


def final_state(run: Path, step: int = 6) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by file and name."""
    state: dict[str, torch.Tensor] = {}

    def collect(prefix: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            state[prefix] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                collect(f"{prefix}/{key}", item)

    for path in sorted((run / "models").glob(f"{step}_*.pth")):
        collect(path.name, torch.load(path, weights_only=True))
    return state


def assert_same_run(one: Path, other: Path) -> None:
    first, second = final_state(one), final_state(other)
    assert first.keys() == second.keys()
    assert any("exp_avg" in name for name in first)
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


@pytest.fixture(scope="module")
def reference_run(photos: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted feature distillation, with drop-path at its default."""
    root = tmp_path_factory.mktemp("reference")
    assert train(options(photos, root, teacher_file))
    return root / "run"


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["type"] == kind]


class TestResults:
    def test_layout(self, reference_run: Path) -> None:
        models = sorted(path.name for path in (reference_run / "models").iterdir())
        labels = ["_E.pth", "_G.pth", "_P.pth", "_optimizerG.pth"]
        sets = [f"{step}{tail}" for step in (2, 4, 6) for tail in (".json", *labels)]
        assert models == sorted([*sets, "best.json", "best_E.pth"])
        pictures = sorted(str(path.relative_to(reference_run)) for path in (reference_run / "images").rglob("*.png"))
        assert pictures == ["images/chelsea/chelsea_3.png", "images/chelsea/chelsea_6.png"]
        assert len(list((reference_run / "options").glob("*.json"))) == 1
        assert list((reference_run / "tensorboard").glob("events*"))

    def test_the_saved_options_are_an_option_file(self, reference_run: Path, photos: Path, teacher_file: Path) -> None:
        saved = next((reference_run / "options").glob("*.json"))
        assert load_options(saved) == options(photos, reference_run.parent, teacher_file)

    def test_metrics(self, reference_run: Path) -> None:
        losses = records(reference_run, "train")
        assert [record["step"] for record in losses] == [2, 4, 6]
        assert [record["lr"] for record in losses] == [1e-3, 5e-4, 5e-4]
        assert set(losses[0]["losses"]) == {"l_g_L1", "l_g_distill", "l_g_feature", "G_loss"}
        tests = records(reference_run, "test")
        assert [(record["step"], record["weights"]) for record in tests] == [(3, "E"), (3, "G"), (6, "E"), (6, "G")]
        for test in tests:
            assert set(test["mean"]) == {"psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"}
            assert test["mean"] == test["images"]["chelsea"]
            assert test["set"] == "test"
        compared = {record["weights"]: record["mean"] for record in records(reference_run, "comparison")}
        assert set(compared) == {"bicubic", "E", "Teacher"}

    def test_tensorboard_has_all_scores(self, reference_run: Path) -> None:
        events = EventAccumulator(str(reference_run / "tensorboard")).Reload()
        for metric in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"):
            for weights in "EG":
                logged = [(event.step, event.value) for event in events.Scalars(f"{metric}/{weights}")]
                tests = [r for r in records(reference_run, "test") if r["weights"] == weights]
                assert logged == [(r["step"], pytest.approx(r["mean"][metric], rel=1e-6)) for r in tests]

    def test_the_log_names_all_scores(self, reference_run: Path) -> None:
        mean = records(reference_run, "test")[0]["mean"]
        line = (
            f"<epoch:  2, iter:       3, Average PSNR : {mean['psnr_rgb']:.2f}dB (RGB), {mean['psnr_y']:.2f}dB (Y), "
            f"SSIM {mean['ssim_rgb']:.4f} (RGB), {mean['ssim_y']:.4f} (Y), student (EMA)"
        )
        assert line in (reference_run / "train.log").read_text()

    def test_the_score_is_that_of_the_saved_picture(self, reference_run: Path, photos: Path) -> None:
        picture = np.asarray(Image.open(reference_run / "images/chelsea/chelsea_6.png"), dtype=np.float64)
        truth = np.asarray(Image.open(photos / "test/HR/chelsea.png"), dtype=np.float64)[:48, :48]
        assert picture.shape == (48, 48, 3)  # 51x48 cropped to a multiple of the scale
        error = ((picture - truth)[4:-4, 4:-4] ** 2).mean()
        scores = [r for r in records(reference_run, "test") if r["step"] == 6 and r["weights"] == "E"]
        assert scores[0]["images"]["chelsea"]["psnr_rgb"] == pytest.approx(10 * np.log10(255**2 / error))

    def test_the_picture_shows_the_moving_average(self, reference_run: Path, photos: Path) -> None:
        from swinlet.utils.image_io import read_image, to_tensor, to_uint8
        from swinlet.utils.resize import bicubic_downscale

        net = define_G(NET | {"net_type": "swinir_student"}).eval()
        net.load_state_dict(torch.load(reference_run / "models" / "6_E.pth", weights_only=True))
        low = bicubic_downscale(read_image(photos / "test/HR/chelsea.png", 3), 4)
        with torch.no_grad():
            image = net(to_tensor(low)[None] / 255)[0]
        saved = np.asarray(Image.open(reference_run / "images/chelsea/chelsea_6.png"))
        assert np.array_equal(to_uint8(image), saved)

    def test_log_lines_in_the_references_form(self, reference_run: Path) -> None:
        log = (reference_run / "train.log").read_text()
        assert "<epoch:  1, iter:       2, lr:1.000e-03> l_g_L1: " in log
        assert "<epoch:  4, iter:       6, Average PSNR : " in log
        assert "distillation: feature" in log

    def test_training_improves_on_the_interpolation_it_starts_from(self, tmp_path: Path) -> None:
        """On the demo's photographs; how soon bicubic is passed takes a minute and stands in docs/interpolation.md."""
        data = tree(tmp_path, tmp_path, total_iter=60, checkpoint_test=60, checkpoint_print=60, E_decay=0.9)
        data["train"] |= {"G_optimizer_lr": 2e-3, "G_scheduler_type": "cosine", "G_scheduler_milestones": None}
        data["datasets"]["train"]["dataroot_H"] = str(ROOT / "demo" / "images" / "train")
        data["datasets"]["train"]["dataloader_batch_size"] = 4
        data["datasets"]["test"]["dataroot_H"] = str(ROOT / "demo" / "images" / "test")
        data["netG"] = NET | {"upsampler": "pixelshuffledirect", "init_type": "interpolation"}
        opt = parse_options(data)
        first = define_Model(opt)
        bilinear = TestPhase(define_Dataset(opt, "test"), opt, Processes()).run(first, 0, lambda *_: None)
        assert train(opt)
        scores = {record["weights"]: record["mean"] for record in records(tmp_path / "run", "comparison")}
        assert scores["E"]["psnr_y"] > bilinear[0].mean("psnr_y") + 0.2


LONG = {"total_iter": 60, "checkpoint_print": 1, "checkpoint_test": 100, "checkpoint_save": 100}


@pytest.fixture(scope="module")
def whole(photos: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of 60 iterations."""
    root = tmp_path_factory.mktemp("whole")
    assert train(options(photos, root, teacher_file, **LONG))
    return root / "run"


class TestResume:
    def test_in_two_halves(self, photos: Path, teacher_file: Path, reference_run: Path, tmp_path: Path) -> None:
        assert train(options(photos, tmp_path, teacher_file, total_iter=3))
        torch.rand(5)  # what happens between must not matter
        assert train(options(photos, tmp_path, teacher_file))
        assert_same_run(reference_run, tmp_path / "run")
        assert [record["step"] for record in records(tmp_path / "run", "start")] == [0, 3]
        log = (tmp_path / "run" / "train.log").read_text()
        assert "train.total_iter: 3 -> 6" in log

    def test_with_other_workers(self, photos: Path, teacher_file: Path, reference_run: Path, tmp_path: Path) -> None:
        for total, workers in ((3, 2), (6, 1)):
            data = tree(photos, tmp_path, teacher_file, total_iter=total)
            data["datasets"]["train"]["dataloader_num_workers"] = workers
            assert train(parse_options(data))
        assert_same_run(reference_run, tmp_path / "run")

    def test_passes_over_a_torn_checkpoint(
        self,
        photos: Path,
        teacher_file: Path,
        reference_run: Path,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        assert train(options(photos, tmp_path, teacher_file, total_iter=4))
        torn = tmp_path / "run" / "models" / "4_E.pth"
        torn.write_bytes(torn.read_bytes()[:-100])
        assert train(options(photos, tmp_path, teacher_file))
        assert_same_run(reference_run, tmp_path / "run")
        assert [record["step"] for record in records(tmp_path / "run", "start")] == [0, 2]

    def test_a_complete_run_only_reports(self, photos: Path, tmp_path: Path) -> None:
        opt = options(photos, tmp_path)
        train(opt)
        before = final_state(tmp_path / "run")
        assert train(opt)
        assert [record["step"] for record in records(tmp_path / "run", "train")] == [2, 4, 6]
        assert len(records(tmp_path / "run", "comparison")) == 4
        after = final_state(tmp_path / "run")
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_refuses_a_folder_of_other_networks(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, total_iter=2))
        data = tree(photos, tmp_path)
        data["netG"] = NET | {"embed_dim": 16}
        with pytest.raises(CheckpointError, match=r"(?s)2_.*does not fit.*choose another task"):
            train(parse_options(data))

    def test_refuses_another_function_of_the_same_tensors(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, total_iter=2))
        for change in ({"net_type": "swinir_student_v2"}, {"img_range": 255.0}):
            data = tree(photos, tmp_path)
            data["netG"] = NET | change
            with pytest.raises(CheckpointError, match=r"2_.*was saved.*"):
                train(parse_options(data))

    def test_refuses_another_kind_of_teaching(self, photos: Path, teacher_file: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, teacher_file, total_iter=2))
        with pytest.raises(CheckpointError, match=r'distillation_type: "feature" -> "none"'):
            train(options(photos, tmp_path))

    def test_optimiser_options_take_effect(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, total_iter=2))
        changed = options(photos, tmp_path, G_optimizer_wd=0.5, G_optimizer_betas=[0.8, 0.99])
        train(changed)
        saved = torch.load(tmp_path / "run" / "models" / "6_optimizerG.pth", weights_only=True)
        group = saved["param_groups"][0]
        assert (group["weight_decay"], tuple(group["betas"])) == (0.5, (0.8, 0.99))
        assert saved["state"][0]["step"] == 6  # and the moments were taken over

    def test_weights_of_another_program_are_not_written_over(self, photos: Path, tmp_path: Path) -> None:
        models = tmp_path / "run" / "models"
        models.mkdir(parents=True)
        (models / "2_G.pth").write_bytes(b"precious")
        with pytest.raises(CheckpointError, match=r"did not write \(iterations 2\): choose another task"):
            train(options(photos, tmp_path))
        assert (models / "2_G.pth").read_bytes() == b"precious"

    def test_a_first_checkpoint_cut_short_starts_again(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, total_iter=2))
        (tmp_path / "run" / "models" / "2.json").unlink()
        assert train(options(photos, tmp_path, total_iter=2))
        assert [record["step"] for record in records(tmp_path / "run", "start")] == [0, 0]

    def test_needs_no_pretrained_file_any_more(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path / "first", total_iter=2))
        weights = (tmp_path / "first" / "run" / "models" / "2_G.pth").rename(tmp_path / "start.pth")
        data = tree(photos, tmp_path, total_iter=2)
        data["path"]["pretrained_netG"] = str(weights)
        assert train(parse_options(data))
        weights.unlink()
        data["train"]["total_iter"] = 4
        assert train(parse_options(data))

    def test_past_the_end(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, total_iter=4))
        assert train(options(photos, tmp_path, total_iter=2))
        assert records(tmp_path / "run", "comparison")[-1]["step"] == 4
        assert "nothing left to train, 4 iterations are done" in (tmp_path / "run" / "train.log").read_text()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_after_a_signal(
        self, photos: Path, teacher_file: Path, whole: Path, tmp_path: Path, number: signal.Signals
    ) -> None:
        parts = tmp_path / "parts"
        data = tree(photos, parts, teacher_file, **LONG)
        data["datasets"]["train"]["dataloader_num_workers"] = 1
        file = tmp_path / "train.json"
        file.write_text(json.dumps(data))
        command = Command("main_train_student.py", "--opt", str(file))
        wait_for(parts / "run" / "train.log", "iter:       2")
        os.killpg(command.pid, number)  # as terminals, `timeout` and Slurm do: to the loader's processes, too
        message = command.communicate()
        assert command.returncode == 0, message
        assert f"stopped by {number.name}" in message
        assert "Traceback" not in message
        stopped = records(parts / "run", "train")[-1]["step"]
        assert 2 <= stopped < 60
        again = Command("main_train_student.py", "--opt", str(file))
        message = again.communicate()
        assert again.returncode == 0, message
        assert records(parts / "run", "start")[-1]["step"] == stopped
        first, second = final_state(whole, 60), final_state(parts / "run", 60)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text!r} did not appear in {path}"
        time.sleep(0.02)


class TestPruning:
    def test_a_run_keeps_what_it_was_told_to_keep(self, photos: Path, tmp_path: Path) -> None:
        keep = {"newest": 1, "every": 4, "best": False}
        train(options(photos, tmp_path / "all"))
        for total in (3, 6):  # resumed, too
            train(options(photos, tmp_path / "some", keep_checkpoints=keep, total_iter=total))
        left = sorted(path.name for path in (tmp_path / "some" / "run" / "models").iterdir())
        labels = [".json", "_E.pth", "_G.pth", "_optimizerG.pth"]
        assert left == sorted([f"{step}{tail}" for step in (4, 6) for tail in labels] + ["best.json", "best_E.pth"])
        assert_same_run(tmp_path / "all" / "run", tmp_path / "some" / "run")

    def test_the_best_stays(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, total_iter=3, checkpoint_save=3))
        path = tmp_path / "run" / "models" / "best.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"psnr_y": 99.0}))
        train(options(photos, tmp_path, keep_checkpoints={"newest": 1}))
        assert sorted(p.name for p in path.parent.glob("*_G.pth")) == ["3_G.pth", "6_G.pth"]


class TestBest:
    """The deployed weights of the best test so far are kept."""

    @staticmethod
    def best(run: Path) -> dict[str, Any]:
        return json.loads((run / "models" / "best.json").read_text())

    def test_best_is_the_best_test_by_psnr_y_of_the_moving_average(self, reference_run: Path) -> None:
        tests = [record for record in records(reference_run, "test") if record["weights"] == "E"]
        winner = max(tests, key=lambda record: record["mean"]["psnr_y"])
        best = self.best(reference_run)
        assert (best["step"], best["psnr_y"], best["set"]) == (winner["step"], winner["mean"]["psnr_y"], "test")
        assert best["file"] == "best_E.pth"
        assert recorded_network(reference_run / "models" / "best_E.pth").net_type == "swinir_student"
        kept = torch.load(reference_run / "models" / "best_E.pth", weights_only=True)
        if winner["step"] == 6:
            saved = torch.load(reference_run / "models" / "6_E.pth", weights_only=True)
            assert all(torch.equal(kept[name], saved[name]) for name in saved)

    def test_the_validation_set_chooses_and_is_scored(self, photos: Path, tmp_path: Path) -> None:
        data = tree(photos, tmp_path)
        data["datasets"]["val"] = {"dataroot_H": str(photos / "train")}
        assert train(parse_options(data))
        sets = [(r["step"], r["set"], r["weights"], len(r["images"])) for r in records(tmp_path / "run", "test")]
        assert sets == [
            (s, *kind) for s in (3, 6) for kind in [("test", w, 1) for w in "EG"] + [("val", w, 3) for w in "EG"]
        ]
        winner = max(
            (r for r in records(tmp_path / "run", "test") if r["set"] == "val" and r["weights"] == "E"),
            key=lambda record: record["mean"]["psnr_y"],
        )
        best = self.best(tmp_path / "run")
        assert (best["set"], best["step"], best["psnr_y"]) == ("val", winner["step"], winner["mean"]["psnr_y"])
        assert "Average PSNR on val : " in (tmp_path / "run" / "train.log").read_text()
        assert [path.name for path in (tmp_path / "run" / "images").iterdir()] == ["chelsea"]  # of the test set alone

    def test_a_validation_set_is_enough(self, photos: Path, tmp_path: Path) -> None:
        data = tree(photos, tmp_path)
        data["datasets"]["val"] = data["datasets"].pop("test")
        assert train(parse_options(data))
        assert self.best(tmp_path / "run")["set"] == "val"

    def test_without_moving_average_the_student_is_kept(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, E_decay=0, total_iter=3))
        assert self.best(tmp_path / "run")["file"] == "best_G.pth"
        assert (tmp_path / "run" / "models" / "best_G.pth").exists()

    @pytest.mark.parametrize(("recorded", "kept"), [(99.0, True), (None, True), (-99.0, False)])
    def test_a_resumed_run_knows_its_best(
        self, photos: Path, tmp_path: Path, recorded: float | None, kept: bool
    ) -> None:
        """null stands for an infinite PSNR."""
        train(options(photos, tmp_path, total_iter=3))
        path = tmp_path / "run" / "models" / "best.json"
        path.write_text(json.dumps(self.best(tmp_path / "run") | {"psnr_y": recorded, "step": 77}))
        train(options(photos, tmp_path, total_iter=4))
        assert (self.best(tmp_path / "run")["step"] == 77) == kept

    def test_another_validation_set_starts_anew(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, total_iter=3))
        path = tmp_path / "run" / "models" / "best.json"
        path.write_text(json.dumps(self.best(tmp_path / "run") | {"psnr_y": 99.0}))
        data = tree(photos, tmp_path, total_iter=4)
        data["datasets"]["test"]["dataroot_H"] = str(photos / "train")
        train(parse_options(data))
        best = self.best(tmp_path / "run")
        assert (best["step"], best["dataroot_H"]) == (4, str(photos / "train"))
        assert best["psnr_y"] < 99

    def test_a_run_killed_between_a_checkpoint_and_its_test(
        self, reference_run: Path, photos: Path, teacher_file: Path, tmp_path: Path
    ) -> None:
        """The test is made up for: scores and best weights are those of an uninterrupted run."""
        shutil.copytree(reference_run, tmp_path / "run")
        metrics = tmp_path / "run" / "metrics.jsonl"
        lines = metrics.read_text().splitlines(keepends=True)
        kept = lines[: next(i for i, line in enumerate(lines) if json.loads(line)["step"] == 6 and '"test"' in line)]
        first = [record for record in map(json.loads, kept) if record["type"] == "test" and record["weights"] == "E"]
        earlier = self.best(tmp_path / "run") | {"step": 3, "psnr_y": first[0]["mean"]["psnr_y"]}
        (tmp_path / "run" / "models" / "best.json").write_text(json.dumps(earlier))
        metrics.write_text("".join(kept))
        assert train(options(photos, tmp_path, teacher_file))
        expected = [r["mean"] for r in records(reference_run, "test") if r["step"] == 6]
        assert [r["mean"] for r in records(tmp_path / "run", "test") if r["step"] == 6] == expected
        better = expected[0]["psnr_y"] > first[0]["mean"]["psnr_y"]
        assert self.best(tmp_path / "run")["step"] == (6 if better else 3)
        assert train(options(photos, tmp_path, teacher_file))  # nothing is tested twice
        assert len([r for r in records(tmp_path / "run", "test") if r["step"] == 6]) == 2

    def test_weights_whose_pictures_are_no_numbers_are_never_best(self, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=r"not a number.*Lower train\.G_optimizer_lr"):
            train(options(photos, tmp_path, G_optimizer_lr=1e30, checkpoint_test=1, checkpoint_save=6))
        assert not (tmp_path / "run" / "models" / "best.json").exists()

    def test_a_broken_record_is_passed_over(self, photos: Path, tmp_path: Path) -> None:
        train(options(photos, tmp_path, total_iter=3))
        (tmp_path / "run" / "models" / "best.json").write_text("{")
        train(options(photos, tmp_path, total_iter=4))
        assert self.best(tmp_path / "run")["step"] == 4


class TestBadInput:
    def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_good_checkpoint(
        self, photos: Path, tmp_path: Path
    ) -> None:
        train(options(photos, tmp_path, total_iter=2))
        with pytest.raises(TrainingError, match=r"not a number.*Lower train\.G_optimizer_lr"):
            train(options(photos, tmp_path, total_iter=20, G_optimizer_lr=1e30))
        steps = [int(path.stem) for path in (tmp_path / "run" / "models").glob("*.json") if path.stem != "best"]
        assert min(steps) == 2
        state = final_state(tmp_path / "run", max(steps))
        assert all(torch.isfinite(tensor).all() for tensor in state.values())

    def test_weights_that_are_no_numbers_are_never_sealed(self, photos: Path, tmp_path: Path) -> None:
        """The loss tells of an update only in the next iteration."""
        message = r"iteration 1: .*weight.* not a number or infinite.*Lower train\.G_optimizer_lr"
        with pytest.raises(TrainingError, match=message):
            train(options(photos, tmp_path, G_optimizer_lr=1e39, checkpoint_save=1, checkpoint_test=6))
        assert not list((tmp_path / "run" / "models").glob("*"))

    def test_a_failing_test_phase_loses_no_checkpoint(self, photos: Path, tmp_path: Path) -> None:
        blocked = tmp_path / "run" / "images"
        blocked.parent.mkdir()
        blocked.write_text("a file where the folder should be")
        with pytest.raises((OSError, DataError)):
            train(options(photos, tmp_path, checkpoint_test=2))
        assert (tmp_path / "run" / "models" / "2.json").exists()

    def test_teacher_missing(self, photos: Path, tmp_path: Path) -> None:
        data = tree(photos, tmp_path, distillation_type="response")
        with pytest.raises(OptionError, match=r"path\.pretrained_netTeacher: missing"):
            train(parse_options(data))

    def test_no_training_set(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"datasets\.train: missing"):
            train(parse_options({"gpu_ids": None, "path": {"root": str(tmp_path)}}))

    def test_bad_images_stop_before_anything_is_written(self, photos: Path, tmp_path: Path) -> None:
        folder = tmp_path / "images"
        folder.mkdir()
        (folder / "note.png").write_text("not an image")
        data = tree(photos, tmp_path / "out")
        data["datasets"]["train"]["dataroot_H"] = str(folder)
        data["datasets"]["test"]["dataroot_H"] = str(tmp_path / "nowhere")
        with pytest.raises(DataError, match=r"(?s)datasets\.train.*note\.png.*datasets\.test.*nowhere"):
            train(parse_options(data))
        assert not (tmp_path / "out").exists()

    def test_without_a_test_set(self, photos: Path, tmp_path: Path) -> None:
        data = tree(photos, tmp_path, total_iter=2)
        del data["datasets"]["test"]
        assert train(parse_options(data))
        assert not (tmp_path / "run" / "images").exists()

    def test_without_tensorboard(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        assert train(options(photos, tmp_path, total_iter=2))
        assert "swinlet[tracking]" in (tmp_path / "run" / "train.log").read_text()
        assert not (tmp_path / "run" / "tensorboard").exists()


def test_keys_newer_than_the_checkpoint_are_no_change(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(options(photos, tmp_path, total_iter=2))
    manifest = tmp_path / "run" / "models" / "2.json"
    content = json.loads(manifest.read_text())
    for section, key in (("train", "distillation"), ("datasets", "unlabelled")):
        del content["options"][section][key]
    manifest.write_text(json.dumps(content))
    caplog.clear()
    train(options(photos, tmp_path, total_iter=4, distillation={"fakd": {"weight": 2.0}}))
    (warning,) = [record.getMessage() for record in caplog.records if "options that differ" in record.getMessage()]
    changes = warning.partition(": ")[2].split("; ")
    assert changes == ["train.distillation.fakd.weight: null -> 2.0", "train.total_iter: 2 -> 4"]


class TestRemarks:
    def test_no_scores(self, photos: Path, tmp_path: Path) -> None:
        opt = options(photos, tmp_path)
        assert list(remarks(opt)) == []
        without = opt.model_copy(update={"datasets": opt.datasets.model_copy(update={"test": None})})
        assert [text.partition(":")[0] for text in remarks(without)] == ["no scores"]
        val = opt.datasets.model_copy(update={"test": None, "val": opt.datasets.test})
        assert list(remarks(opt.model_copy(update={"datasets": val}))) == []

    @pytest.mark.parametrize(
        ("train", "said"),
        [
            ({"E_warmup": False, "total_iter": 300}, "300 is short for train.E_decay 0.999: at the end 74% of the EMA"),
            (
                {"E_warmup": False, "total_iter": 2000},
                "2000 is short for train.E_decay 0.999: at the end 14% of the EMA",
            ),
            ({"E_warmup": False, "total_iter": 4000}, None),
            ({"E_warmup": False, "total_iter": 300, "E_decay": 0.98}, None),
            ({"E_warmup": False, "total_iter": 300, "E_decay": 0}, None),
            ({"total_iter": 300}, None),
        ],
    )
    def test_short_runs(self, photos: Path, tmp_path: Path, train: dict[str, Any], said: str | None) -> None:
        texts = list(remarks(options(photos, tmp_path, **train)))
        assert len(texts) == (said is not None)
        assert said is None or said in texts[0]

    def test_an_average_far_behind(self) -> None:
        def table(E: float, G: float) -> list[Scores]:
            return [Scores(label, {"a": {"psnr_y": value}}) for label, value in (("E", E), ("G", G))]

        assert lagging_average(table(22.0, 22.9)) is None
        assert lagging_average(table(25.0, 22.9)) is None
        assert lagging_average(table(25.0, 22.9)[1:]) is None
        text = lagging_average(table(10.8, 22.8))
        assert text is not None
        assert "(E) is 12.0 dB behind the student (G)" in text

    def test_they_are_logged(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("swinlet.train._FAR_BEHIND", -100)
        train(options(photos, tmp_path, E_warmup=False))
        log = (tmp_path / "run" / "train.log").read_text()
        assert "6 is short for train.E_decay 0.999: at the end 99% of the EMA" in log
        assert log.count("dB behind the student (G)") == 2  # at each test
