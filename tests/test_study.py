"""Studies from file to results, in small: tiny students, real photographs, a few iterations."""

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import swinlet.study.run
import swinlet.study.scores
import swinlet.study.training
from swinlet.checkpoint import newest_sealed
from swinlet.cli import app
from swinlet.errors import DataError, SwinletError
from swinlet.options import load_options
from swinlet.study.gather import gather
from swinlet.study.results import StudyResults, read_results
from swinlet.train import train
from swinlet.utils.run_lock import RunLock
from swinlet.weights import read_weight_file
from tests.fork_server import Command
from tests.small_run import tree
from tests.test_train import wait_for

VARIANTS = {
    "none": {"options": {"train.distillation_type": "none"}},
    "response": {"options": {"train.distillation_type": "response"}},
}


def write_study(
    folder: Path, photos: Path, teacher_file: Path, train_keys: Mapping[str, Any] | None = None, **keys: Any
) -> Path:
    """A study file and its base in a folder; results go to ``out`` there."""
    folder.mkdir(exist_ok=True)
    base = tree(
        photos,
        folder / "unused",
        teacher_file,
        G_scheduler_type="cosine",
        **{"checkpoint_test": 6, **(train_keys or {})},
    )
    (folder / "base.json").write_text(json.dumps(base))
    content = {
        "base": "base.json",
        "out": str(folder / "out"),
        "seeds": [1, 2],
        "reference": "none",
        "teacher": str(teacher_file),
        "testsets": [str(photos / "test")],
        "variants": VARIANTS,
        **keys,
    }
    path = folder / "study.json"
    path.write_text(json.dumps(content))
    return path


def study(*arguments: object) -> tuple[int, str]:
    """Exit code and what the command writes to standard output."""
    result = CliRunner().invoke(app, ["study", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def said(*arguments: object) -> tuple[int, str]:
    """``study``, and what it logs."""
    result = CliRunner().invoke(app, ["study", *map(str, arguments)])
    return result.exit_code, result.output


Trained = list[str]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Trainings take place in this process, which is faster; the option files that were trained."""
    files: Trained = []
    train_here(monkeypatch, files)
    return files


def train_here(monkeypatch: pytest.MonkeyPatch, files: Trained) -> None:
    """See ``trained``."""

    def train_file(command: Sequence[str], _: object) -> int:
        files.append("/".join(Path(command[-1]).with_suffix("").parts[-2:]))
        try:
            train(load_options(command[-1]))
        except SwinletError:
            return 2
        return 0

    monkeypatch.setattr(swinlet.study.training, "_wait_for", train_file)


@pytest.fixture(scope="module")
def finished(photos: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study that shards have trained, the first by a process for its run, and what the last one said."""
    path = write_study(tmp_path_factory.mktemp("study"), photos, teacher_file)
    assert study(path, "--shard", "4/4")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        train_here(patch, [])
        assert study(path, "--shard", "2/2")[0] == 0
        check_half(path)
        code, output = study(path, "--shard", "1/2")
    assert code == 0
    return path, output


def check_half(path: Path) -> None:
    """The results of one of two shards."""
    half = read_results(path.parent / "out")
    assert [(run.variant, run.seed, run.state) for run in half.runs] == [
        *[("none", 1, "missing"), ("response", 1, "scored")],
        *[("none", 2, "missing"), ("response", 2, "scored")],
    ]
    assert half.missing == ("none, seed 1: new of 6", "none, seed 2: new of 6")


@pytest.fixture
def copied(finished: tuple[Path, str], photos: Path, teacher_file: Path, tmp_path: Path) -> Path:
    """A study whose finished runs are there already, in a folder of the test's own."""
    path = write_study(tmp_path / "copy", photos, teacher_file)
    shutil.copytree(finished[0].parent / "out", path.parent / "out")
    return path


def results_of(path: Path) -> StudyResults:
    return read_results(path.parent / "out")


def without_times(results: StudyResults) -> StudyResults:
    return results.model_copy(update={"provenance": {}})


class TestResults:
    def test_every_run_is_an_ordinary_one(self, finished: tuple[Path, str]) -> None:
        out = finished[0].parent / "out"
        for variant in ("none", "response"):
            for seed in (1, 2):
                run = out / "runs" / variant / f"seed_{seed}"
                opt = load_options(run.with_suffix(".json"))
                assert (opt.run_dir, opt.train.manual_seed, opt.train.distillation_type) == (run, seed, variant)
                sealed = newest_sealed(run / "models")
                assert sealed is not None
                assert sealed.step == 6

    def test_numbers_are_those_of_the_runs(self, finished: tuple[Path, str]) -> None:
        """The last test of a run has scored the same weights on the same image."""
        results = results_of(finished[0])
        (testset,) = results.testsets
        assert (testset.name, testset.images, results.weights, results.scale) == ("test", 1, "E", 4)
        for scores in testset.variants:
            for score in scores.seeds:
                run = next(r for r in results.runs if (r.variant, r.seed) == (scores.variant, score.seed))
                lines = map(json.loads, (Path(run.folder) / "metrics.jsonl").read_text().splitlines())
                (last,) = [r for r in lines if (r["type"], r["step"], r.get("weights")) == ("test", 6, "E")]
                assert score.psnr_y == pytest.approx(last["mean"]["psnr_y"], abs=1e-9)
                assert score.ssim_y == pytest.approx(last["mean"]["ssim_y"], abs=1e-9)

    def test_differences_are_paired(self, finished: tuple[Path, str]) -> None:
        results = results_of(finished[0])
        none, response = results.testsets[0].variants
        found = response.difference
        assert found is not None
        assert found.seeds == (1, 2)
        assert found.values == pytest.approx(
            [ours.psnr_y - theirs.psnr_y for ours, theirs in zip(response.seeds, none.seeds, strict=True)]  # type: ignore[operator]
        )
        assert found.over_seeds is not None
        assert found.over_seeds.low < found.mean < found.over_seeds.high

    def test_provenance(self, finished: tuple[Path, str]) -> None:
        results = results_of(finished[0])
        assert results.missing == results.problems == ()
        assert results.teacher_sha256 is not None
        for run in results.runs:
            assert run.options_sha256 is not None
            assert run.log_sha256 is not None
            assert run.weights is not None
            assert run.weights.endswith("models/6_E.pth")
            assert run.hosts
            assert run.command == f"swinlet train --opt {run.options_file}"
        assert results.comparisons == 1
        assert all(variant.seconds_per_step for variant in results.variants)
        assert results.variants[0].cost == 1.0

    def test_text_and_markdown(self, finished: tuple[Path, str]) -> None:
        path, output = finished
        markdown = (path.parent / "out" / "results.md").read_text()
        results = results_of(path)
        for text in (output, markdown):
            assert results.testsets[0].variants[1].verdict in text
            assert "Ranking on test (PSNR-Y, seeds 1, 2): 1" in text
        assert "| response | 2 | " in markdown
        assert results.runs[3].command in markdown
        assert results.runs[3].weights_sha256 is not None
        assert results.runs[3].weights_sha256[:16] in markdown

    def test_all_shards_write_the_same(self, finished: tuple[Path, str], trained: Trained) -> None:
        path, output = finished
        before = results_of(path)
        for arguments in (["--shard", "2/2"], ["--results-only"], []):
            code, again = study(path, *arguments)
            assert (code, again) == (0, output)
            assert without_times(results_of(path)) == without_times(before)
        assert trained == []

    def test_results_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"results\.json: no results of a study: No such file"):
            read_results(tmp_path)
        (tmp_path / "results.json").write_text('{"format": 2}')
        with pytest.raises(DataError, match=r"no results of a study: its format is 2, this swinlet reads 1"):
            read_results(tmp_path)
        (tmp_path / "results.json").write_text('{"format": 1}')
        with pytest.raises(
            DataError, match=r"no results of a study: \d+ values are not as expected, the first is 'study'"
        ):
            read_results(tmp_path)


class TestScores:
    def test_they_are_reused_while_nothing_has_changed(self, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scored: list[str] = []
        original = swinlet.study.scores.score_testset

        def count(testset: Any, contenders: Any, *args: Any, **kwargs: Any) -> Any:
            scored.append(contenders[0].card.label if contenders else "bicubic")
            return original(testset, contenders, *args, **kwargs)

        monkeypatch.setattr(swinlet.study.scores, "score_testset", count)
        assert study(copied, "--results-only")[0] == 0
        assert scored == []
        (copied.parent / "out/bicubic.json").write_text("torn")
        (copied.parent / "out/runs/none/seed_2/scores.json").unlink()
        assert study(copied, "--results-only")[0] == 0
        assert scored == ["none, seed 2", "bicubic"]

    def test_another_image_is_another_test_set(self, copied: Path, photos: Path) -> None:
        """Scores on a test set that is not asked for any more are kept."""
        before = results_of(copied)
        sets = copied.parent / "sets"
        shutil.copytree(photos / "test", sets)
        image = Image.open(sets / "HR/chelsea.png")
        image.transpose(Image.Transpose.ROTATE_180).save(sets / "HR/chelsea.png")
        content = json.loads(copied.read_text()) | {"testsets": [str(photos / "test"), str(sets)]}
        copied.write_text(json.dumps(content))
        assert study(copied, "--results-only")[0] == 0
        one, other = results_of(copied).testsets
        assert one.variants == before.testsets[0].variants
        assert other.name == "sets"
        assert other.identity != one.identity
        assert other.variants[0].psnr_y != one.variants[0].psnr_y
        copied.write_text(json.dumps(content | {"testsets": [str(sets)]}))
        assert study(copied, "--results-only")[0] == 0
        assert results_of(copied).testsets == (other,)
        scores = json.loads((copied.parent / "out/runs/none/seed_1/scores.json").read_text())
        assert [entry["name"] for entry in scores["sets"]] == ["test", "sets"]

    def test_raw_weights(self, copied: Path) -> None:
        copied.write_text(json.dumps(json.loads(copied.read_text()) | {"weights": "G"}))
        before = results_of(copied)
        assert study(copied, "--results-only")[0] == 0
        results = results_of(copied)
        assert results.runs[0].weights is not None
        assert results.runs[0].weights.endswith("6_G.pth")
        assert results.testsets[0].variants[0].psnr_y != before.testsets[0].variants[0].psnr_y

    def test_weights_that_cannot_be_opened_are_told(self, copied: Path) -> None:
        copied.write_text(json.dumps(json.loads(copied.read_text()) | {"teacher": "nothing.pth"}))
        code, output = said(copied, "--results-only")
        assert code == 2
        assert "study.json: teacher: " in output
        assert "nothing.pth: no such file" in output
        assert results_of(copied).testsets[0].teacher is None
        assert results_of(copied).testsets[0].variants[1].difference is not None

    def test_a_test_set_that_is_missing(self, copied: Path) -> None:
        copied.write_text(json.dumps(json.loads(copied.read_text()) | {"testsets": ["nowhere"]}))
        code, output = said(copied)
        assert code == 2
        assert "study.json: testsets: " in output
        assert "nowhere does not exist" in output

    def test_what_is_tried_has_results_of_its_own(self, copied: Path, trained: Trained) -> None:
        before = results_of(copied)
        code, output = said(copied, "--try", "frequency")
        assert code == 0
        assert trained == ["frequency/seed_1", "frequency/seed_2"]
        tried = read_results(copied.parent / "out/try_frequency")
        assert [variant.name for variant in tried.variants] == ["none", "response", "frequency"]
        assert tried.study == f"{copied} --try frequency"
        assert f"written: {copied.parent / 'out/try_frequency/results.json'}" in output.replace("\n", "")
        assert results_of(copied) == before

    def test_results_of_another_shard_meanwhile_are_looked_at_once_more(
        self, copied: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may have trained a run since this one has looked."""
        calls: list[int] = []

        def slow(*arguments: Any) -> StudyResults:
            calls.append(len(calls))
            found = gather(*arguments)
            if len(calls) == 1:
                file = copied.parent / "out/results.json"
                os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
            return found

        monkeypatch.setattr(swinlet.study.run, "gather", slow)
        assert study(copied, "--results-only")[0] == 0
        assert len(calls) == 2


class TestGoingOn:
    def test_a_dry_run_writes_nothing(self, photos: Path, teacher_file: Path, tmp_path: Path, trained: Trained) -> None:
        path = write_study(
            tmp_path,
            photos,
            teacher_file,
            variants=VARIANTS | {"control": {"equal_time": "response"}, "untrained": {"untrained_teacher": True}},
        )
        before = sorted(tmp_path.rglob("*"))
        code, output = study(path, "--dry-run", "--shard", "1/2")
        assert code == 0
        assert sorted(tmp_path.rglob("*")) == before
        assert trained == []
        rows = [line.split() for line in output.splitlines()]
        assert [row[0] for row in rows] == ["run", "1", "(2)", "3", "(4)", "5", "(6)", "7", "(8)"]
        assert "waits for response, seed 1 and none, seed 1" in output
        assert output.count("new of 6") == 6

    def test_states(self, copied: Path) -> None:
        models = copied.parent / "out/runs/none/seed_2/models"
        (models / "6.json").unlink()
        _, output = study(copied, "--dry-run")
        assert output.count("finished") == 3
        assert "stopped at 4 of 6" in output

    def test_what_was_stopped_goes_on(self, copied: Path, trained: Trained) -> None:
        before = results_of(copied)
        (copied.parent / "out/runs/none/seed_2/models/6.json").unlink()
        assert study(copied, "--results-only")[0] == 0
        assert results_of(copied).missing == ("none, seed 2: stopped at 4 of 6",)
        assert results_of(copied).testsets[0].variants[1].difference is not None
        assert study(copied)[0] == 0
        assert trained == ["none/seed_2"]
        assert results_of(copied).testsets[0].variants == before.testsets[0].variants

    def test_more_seeds_and_variants_come_on_top(self, copied: Path, trained: Trained) -> None:
        content = json.loads(copied.read_text())
        content["variants"]["slow"] = {"options": {"train.G_optimizer_betas": [0.8, 0.99], "netG.drop_path_rate": 0.2}}
        copied.write_text(json.dumps(content | {"seeds": [3, 1]}))
        assert study(copied)[0] == 0
        assert trained == ["none/seed_3", "response/seed_3", "slow/seed_3", "slow/seed_1"]
        results = results_of(copied)
        assert results.variants[2].has_own_first_weights
        assert (
            "Not paired by first weights, which are their own: slow." in (copied.parent / "out/results.md").read_text()
        )

    def test_changed_options_are_refused(self, copied: Path, trained: Trained) -> None:
        content = json.loads(copied.read_text())
        content["variants"]["response"]["options"]["train.distill_lossfn_weight"] = 0.5
        copied.write_text(json.dumps(content))
        before = {path: path.read_bytes() for path in (copied.parent / "out").rglob("*") if path.is_file()}
        for arguments in ([], ["--dry-run"], ["--results-only"]):
            code, output = said(copied, *arguments)
            assert code == 2
            assert "response, seed 2: its options have changed since" in output
            assert "train.distill_lossfn_weight: 1.0 -> 0.5" in output
            assert "name another folder in out, or move" in output
        assert trained == []
        assert {path: path.read_bytes() for path in (copied.parent / "out").rglob("*") if path.is_file()} == before

    def test_options_of_what_was_not_begun_may_change(
        self, photos: Path, teacher_file: Path, tmp_path: Path, trained: Trained
    ) -> None:
        path = write_study(tmp_path, photos, teacher_file, seeds=[1])
        file = tmp_path / "out/runs/none/seed_1.json"
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        assert study(path)[0] == 0
        assert load_options(file).train.total_iter == 6

    def test_a_run_that_fails_stops_no_other(
        self, photos: Path, teacher_file: Path, tmp_path: Path, trained: Trained
    ) -> None:
        other = {"options": {"netG.embed_dim": 13}}  # not divisible by the heads
        path = write_study(tmp_path, photos, teacher_file, seeds=[1], variants={"wrong": other, **VARIANTS})
        code, output = said(path)
        assert code == 2
        assert trained == ["wrong/seed_1", "none/seed_1", "response/seed_1"]
        assert "wrong, seed 1: failed: ended with exit code 2" in output
        results = results_of(path)
        assert results.missing == ("wrong, seed 1: new of 6",)
        assert "wrong and none cannot be compared on test: there is no seed with finite scores of both." in output

    def test_a_run_that_another_process_trains_is_passed_over(self, copied: Path, trained: Trained) -> None:
        for seed in (1, 2):
            (copied.parent / f"out/runs/none/seed_{seed}/models/6.json").unlink()
        with RunLock(copied.parent / "out/runs/none/seed_1"):
            code, output = said(copied)
        assert code == 0
        assert trained == ["none/seed_2"]
        assert "none, seed 1: passed over: " in output
        assert "another run is at work here" in output
        assert results_of(copied).missing == ("none, seed 1: stopped at 4 of 6, at work or ended without a word",)

    def test_two_studies_share_the_runs(self, copied: Path, trained: Trained) -> None:
        """What the other one has claimed, but not begun to train."""
        for seed in (1, 2):
            (copied.parent / f"out/runs/none/seed_{seed}/models/6.json").unlink()
        with RunLock(copied.parent / "out/runs/none/.seed_2.claim"):
            code, output = said(copied)
        assert code == 0
        assert trained == ["none/seed_1"]
        assert re.search(
            r"none, seed 2: passed over: .*another run is at work here \(user .*\); start the command", output
        )
        assert not list(copied.parent.rglob("*.claim"))

    def test_files_that_are_missing_are_told_before_anything_is_trained(
        self, photos: Path, teacher_file: Path, tmp_path: Path, trained: Trained
    ) -> None:
        other = {"options": {"path.pretrained_netTeacher": "nothing.pth"}}
        path = write_study(tmp_path, photos, teacher_file, variants={**VARIANTS, "other": other})
        code, output = said(path)
        assert code == 2
        assert "variants.other: path.pretrained_netTeacher: nothing.pth does not exist" in output
        assert trained == []
        wrong = {**VARIANTS, "wrong": {**other, "untrained_teacher": True}}
        code, output = said(write_study(tmp_path, photos, teacher_file, variants=wrong))
        assert code == 2
        assert "variants.wrong.untrained_teacher: its architecture is that of the teacher: " in output
        assert "nothing.pth does not exist" in output

    def test_a_dry_run_checks_the_teacher_and_the_folder(
        self, photos: Path, teacher_file: Path, tmp_path: Path, trained: Trained
    ) -> None:
        (tmp_path / "text.pth").write_text("no weights")
        for keys, dry, real in (
            ({"teacher": str(tmp_path / "text.pth")}, *["study.json: teacher: "] * 2),
            (
                {"out": str(tmp_path / "text.pth/out")},
                f"study.json: out: {tmp_path / 'text.pth'} is not a folder",
                f"study.json: out: {tmp_path / 'text.pth/out'} cannot be made: Not a directory",
            ),
        ):
            path = write_study(tmp_path / "study", photos, teacher_file, **keys)
            for arguments, message in ((["--dry-run"], dry), ([], real)):
                code, output = said(path, *arguments)
                assert code == 2
                assert message in output
        assert trained == []

    @pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
    def test_a_signal_while_a_run_starts_ends_it_in_silence(
        self, photos: Path, teacher_file: Path, tmp_path: Path
    ) -> None:
        path = write_study(tmp_path, photos, teacher_file, seeds=[1])
        command = Command("-m", "swinlet", "study", str(path))
        wait_for(tmp_path / "out/runs/none/seed_1.starts.jsonl", "\n")
        time.sleep(0.3)  # it imports
        os.kill(command.pid, signal.SIGINT)
        errors = command.communicate()
        assert command.returncode == 130, errors
        assert "Traceback" not in errors
        assert "study stopped; what is saved stays, start the same command again to go on" in errors

    @pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
    def test_a_signal_stops_it_and_it_goes_on(self, photos: Path, teacher_file: Path, tmp_path: Path) -> None:
        train_keys = {"total_iter": 100_000, "checkpoint_test": 100_000, "checkpoint_save": 100_000}
        path = write_study(tmp_path, photos, teacher_file, train_keys, seeds=[1])
        command = Command("-m", "swinlet", "study", str(path))
        wait_for(tmp_path / "out/runs/none/seed_1/metrics.jsonl", '"type": "train"')
        os.kill(command.pid, signal.SIGINT)
        errors = command.communicate()
        assert command.returncode == 130, errors
        assert "study stopped; what is saved stays, start the same command again to go on" in errors
        sealed = newest_sealed(tmp_path / "out/runs/none/seed_1/models")
        assert sealed is not None
        assert sealed.step > 1
        assert not (tmp_path / "out/runs/response").exists()
        _, output = study(path, "--dry-run")
        assert f"stopped at {sealed.step} of 100000" in output


class TestControls:
    def test_equal_time(
        self, photos: Path, teacher_file: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control stands first, waits, and has as many iterations as the slower variant's time is worth."""
        speeds = {"none": 0.5, "response": 1.0}  # seconds for an iteration
        monkeypatch.setattr("swinlet.study.equal_time.seconds_per_step", lambda folder: speeds[folder.parent.name])
        control = {"options": {"train.distillation_type": "none"}, "equal_time": "response"}
        path = write_study(tmp_path, photos, teacher_file, variants={"longer": control, **VARIANTS})
        code, output = said(path, "--shard", "1/3")
        assert code == 0
        assert trained == []
        waits = "longer, seed 1: waits for response, seed 1 and none, seed 1: start the command again when they are"
        assert waits in output
        assert study(path)[0] == 0
        assert trained == [
            f"{name}/seed_{seed}"
            for seed in (1, 2)
            for name in (("none", "response", "longer") if seed == 1 else ("longer", "none", "response"))
        ]
        assert load_options(tmp_path / "out/runs/longer/seed_2.json").train.total_iter == 12
        decided = json.loads((tmp_path / "out/equal_time.json").read_text())["longer"]
        assert (decided["total_iter"], decided["ratio"], decided["base_iter"]) == (12, 2.0, 6)
        assert [Path(folder).parent.name for folder in decided["measured"]] == ["response", "none"]
        assert [variant.total_iter for variant in results_of(path).variants] == [12, 6, 6]

        speeds["response"] = 2.0  # decided once
        code, output = said(path)
        assert code == 0
        assert json.loads((tmp_path / "out/equal_time.json").read_text())["longer"] == decided
        (tmp_path / "out/equal_time.json").write_text("torn")
        code, output = said(path)
        assert code == 2
        assert "equal_time.json: not readable" in output

    def test_an_untrained_teacher_is_like_the_trained_one(
        self, photos: Path, teacher_file: Path, tmp_path: Path, trained: Trained
    ) -> None:
        wrong = {**VARIANTS["response"], "untrained_teacher": True}
        path = write_study(tmp_path, photos, teacher_file, seeds=[1], variants={**VARIANTS, "wrong": wrong})
        assert study(path)[0] == 0
        (file,) = (tmp_path / "out").glob("untrained_teacher_swinir_*.safetensors")
        assert load_options(tmp_path / "out/runs/wrong/seed_1.json").path.teachers == (file,)
        random, real = (read_weight_file(path, "test").state for path in (file, teacher_file))
        shapes = {name: value.shape for name, value in real.items()}
        assert {name: random[name].shape for name in shapes} == shapes
        assert not torch.equal(random["conv_first.weight"], real["conv_first.weight"])
        content = file.read_bytes()
        file.unlink()
        torch.manual_seed(99)
        assert study(path)[0] == 0  # nothing to train: it is not needed
        assert not file.exists()
        shutil.rmtree(tmp_path / "out/runs/wrong")
        assert study(path)[0] == 0
        assert file.read_bytes() == content
        assert results_of(path).variants[2].has_untrained_teacher


class FakeResult:
    """What Ray tells of a trial."""

    def __init__(self, config: dict[str, Any], metrics: dict[str, Any] | None, error: Exception | None) -> None:
        self.config, self.metrics, self.error = config, metrics, error


class FakeTune(ModuleType):
    """As much of ray.tune as is used: trials one after the other, in this process."""

    def __init__(self) -> None:
        super().__init__("ray.tune")
        self.resources: dict[str, float] = {}
        self.storage = ""
        self.ends: list[int] = []  # trials that Ray ends

    def with_resources(self, trial: Any, resources: dict[str, float]) -> Any:
        self.resources = resources
        return trial

    def grid_search(self, values: list[int]) -> list[int]:
        return values

    def RunConfig(self, storage_path: str, verbose: int) -> None:
        self.storage = storage_path

    def Tuner(self, trial: Any, param_space: dict[str, list[int]], run_config: None) -> Any:
        def fit() -> list[FakeResult]:
            return [self.result(trial, {"run": value}) for value in param_space["run"]]

        return SimpleNamespace(fit=fit)

    def result(self, trial: Any, config: dict[str, Any]) -> FakeResult:
        if config["run"] in self.ends:
            return FakeResult(config, None, None)
        try:
            return FakeResult(config, trial(config), None)
        except Exception as error:  # as Ray does
            return FakeResult(config, None, error)


class TestRay:
    @pytest.fixture
    def tune(self, monkeypatch: pytest.MonkeyPatch) -> FakeTune:
        tune = FakeTune()
        monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
        monkeypatch.setitem(sys.modules, "ray.tune", tune)
        return tune

    def test_runs_are_trials(
        self, tune: FakeTune, photos: Path, teacher_file: Path, tmp_path: Path, trained: Trained
    ) -> None:
        path = write_study(tmp_path, photos, teacher_file, seeds=[1])
        assert study(path, "--ray", "--cpus-per-run", "2")[0] == 0
        assert trained == ["none/seed_1", "response/seed_1"]
        assert tune.resources == {"cpu": 2.0, "gpu": int(torch.cuda.is_available())}
        assert tune.storage == str(tmp_path / "out" / "ray")
        assert results_of(path).missing == ()

    def test_trials_that_fail_or_are_ended(self, tune: FakeTune, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for seed in (1, 2):
            (copied.parent / f"out/runs/none/seed_{seed}/models/6.json").unlink()

        def fail(command: Sequence[str], _: object) -> int:
            raise OSError("no more processes")

        monkeypatch.setattr(swinlet.study.training, "_wait_for", fail)
        tune.ends = [1]
        code, output = said(copied, "--ray")
        assert code == 2
        assert "none, seed 1: failed: no more processes" in output
        assert "none, seed 2: stopped: ended by Ray; start the command again to go on" in output

    def test_ray_is_missing(self, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        monkeypatch.setitem(sys.modules, "ray.tune", None)
        code, output = said(copied, "--ray")
        assert code == 2
        assert "--ray needs Ray Tune: pip install 'swinlet[ray]'" in output
