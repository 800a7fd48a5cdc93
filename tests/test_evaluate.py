"""swinlet evaluate, from weight files and photographs to tables, in small."""

import csv
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from swinlet.checkpoint import write_set
from swinlet.cli import app
from swinlet.metrics import GroundTruth
from swinlet.models.network_swinir import SwinIR
from swinlet.models.select_network import define_G
from swinlet.utils.dihedral import turned, turned_back
from swinlet.utils.image_io import read_image, to_tensor, to_uint8
from swinlet.utils.resize import bicubic_downscale, bicubic_upscale

ROOT = Path(__file__).resolve().parents[1]
TINY: dict[str, Any] = {"embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4}
SIZES = {"cat": (51, 49), "gray": (48, 60)}  # width, height; not all multiples of 4


@pytest.fixture
def testset(tmp_path: Path) -> Path:
    """Two photographs, one of them gray, without LR."""
    folder = tmp_path / "Two"
    (folder / "HR").mkdir(parents=True)
    photo = Image.open(ROOT / "demo" / "images" / "test" / "chelsea.png").convert("RGB")
    for name, (width, height) in SIZES.items():
        crop = photo.crop((120, 80, 120 + width, 80 + height))
        (crop.convert("L") if name == "gray" else crop).save(folder / "HR" / f"{name}.png")
    return folder


def network(seed: int = 0, net_type: str = "swinir_student", **config: Any) -> SwinIR:
    torch.manual_seed(seed)
    return define_G({"net_type": net_type, "init_type": "interpolation", **TINY, **config}).eval()


def run_folder(folder: Path, net: SwinIR, net_type: str = "swinir_student") -> Path:
    """A run as this program leaves it; returns its weights."""
    state = net.official_state_dict()
    write_set(folder / "models", 7, {"G": state, "E": state}, {"network": {"net_type": net_type, **net.config}})
    return folder / "models" / "7_E.pth"


def kair_folder(folder: Path, net: SwinIR, *net_types: str) -> Path:
    """A run as the reference leaves it: bare state dicts, option files; returns its weights."""
    (folder / "models").mkdir(parents=True)
    (folder / "options").mkdir()
    torch.save(net.state_dict(), folder / "models" / "7_E.pth")
    for i, net_type in enumerate(net_types):
        options = {"task": "x", "netG": {"net_type": net_type}}
        (folder / "options" / f"train_{i}.json").write_text(json.dumps(options))
    return folder / "models" / "7_E.pth"


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", "--device", "cpu", "--latency-size", "0", *map(str, words)])


def evaluate(tmp_path: Path, *words: object, code: int = 0) -> dict[str, Any]:
    """The JSON of a call."""
    result = call(*words, "--json", tmp_path / "out.json")
    assert result.exit_code == code, result.output
    return json.loads((tmp_path / "out.json").read_text())


def means(found: dict[str, Any], testset: int = 0) -> dict[str, dict[str, float]]:
    return {row["label"]: row["mean"] for row in found["testsets"][testset]["rows"]}


def expected(net: SwinIR, testset: Path, name: str) -> dict[str, float]:
    """Scores by the plainest means."""
    truth = read_image(testset / "HR" / f"{name}.png", 3)
    low = bicubic_downscale(truth, net.upscale)
    with torch.inference_mode():
        estimate = to_uint8(net(to_tensor(low)[None].float() / 255)[0])
    return GroundTruth(truth[: estimate.shape[0], : estimate.shape[1]], net.upscale).score(estimate)


class TestBicubic:
    def test_alone(self, testset: Path, tmp_path: Path) -> None:
        found = evaluate(tmp_path, "--testset", testset, "--scale", 4)
        truth = read_image(testset / "HR" / "gray.png", 3)
        scores = GroundTruth(truth, 4).score(bicubic_upscale(bicubic_downscale(truth, 4), 4))
        rows = {row["label"]: row["images"] for row in found["testsets"][0]["rows"]}
        assert list(rows) == ["bicubic", "bicubic of LR"]
        assert rows["bicubic of LR"]["gray"] == pytest.approx(scores, abs=1e-9)
        # Papers take a gray file as its own Y; as RGB it has 219 / 255 of the range, and the errors, too.
        gain = 20 * np.log10(255 / 219)
        assert rows["bicubic of LR"]["gray"]["psnr_y"] - rows["bicubic"]["gray"]["psnr_y"] == pytest.approx(
            gain, abs=0.05
        )

    def test_the_literatures_numbers_stand_in_the_table(self, shared: Path) -> None:
        sets = [shared / "data" / "testsets" / name for name in ("Set5", "Set14")]
        result = call("--testset", sets[0], "--testset", sets[1], "--scale", "4")
        assert result.exit_code == 0, result.output
        lines = [line.split() for line in result.stdout.splitlines() if line.startswith("bicubic  ")]
        assert [line[1:5] for line in lines] == [
            ["28.42", "0.8104", "26.69", "0.7731"],
            ["26.00", "0.7019", "24.46", "0.6637"],
        ]

    def test_papers_row_is_left_out_where_lr_is_something_else(self, testset: Path, tmp_path: Path) -> None:
        low = testset / "LR_bicubic" / "X4"
        low.mkdir(parents=True)
        for path in (testset / "HR").iterdir():
            image = bicubic_downscale(read_image(path, 3), 4)
            Image.fromarray(image // 2).save(low / f"{path.stem}x4.png")
        found = evaluate(tmp_path, "--testset", testset, "--scale", 4)
        assert list(means(found)) == ["bicubic of LR"]
        assert means(found)["bicubic of LR"]["psnr_y"] < 20  # the dark LR images were used

    def test_a_plain_folder_of_images(self, testset: Path, tmp_path: Path) -> None:
        one = evaluate(tmp_path, "--testset", testset, "--scale", 2)
        other = evaluate(tmp_path, "--testset", testset / "HR", "--scale", 2)
        assert one["testsets"][0]["rows"] == other["testsets"][0]["rows"]
        assert one["testsets"][0]["name"] == other["testsets"][0]["name"] == "Two"


class TestNetworks:
    def test_scores_are_those_of_the_network(self, testset: Path, tmp_path: Path) -> None:
        student, teacher = network(1), network(2, embed_dim=12)
        torch.save({"params": teacher.state_dict()}, tmp_path / "T.pth")
        weights = run_folder(tmp_path / "A", student)
        found = evaluate(
            tmp_path, "--testset", testset, "--weights", weights, "--teacher", tmp_path / "T.pth",
            "--save-images", tmp_path / "pictures",
        )  # fmt: skip
        rows = {row["label"]: row["images"] for row in found["testsets"][0]["rows"]}
        assert list(rows) == ["bicubic", "bicubic of LR", "A", "teacher"]
        for label, net in (("A", student), ("teacher", teacher)):
            for name in SIZES:
                assert rows[label][name] == pytest.approx(expected(net, testset, name), abs=1e-9)
        cards = {card["label"]: card for card in found["models"]}
        assert cards["A"]["parameters"] == sum(p.numel() for p in student.parameters())
        assert cards["A"]["net_type"] == "swinir_student"
        assert [cards[label]["role"] for label in ("A", "teacher")] == ["student", "teacher"]
        saved = sorted(str(path.relative_to(tmp_path / "pictures")) for path in (tmp_path / "pictures").rglob("*.png"))
        assert saved == [f"Two/{row}/{name}.png" for row in ("A", "bicubic of LR", "teacher") for name in SIZES]
        picture = read_image(tmp_path / "pictures" / "Two" / "A" / "cat.png", 3)
        truth = read_image(testset / "HR" / "cat.png", 3)[: picture.shape[0], : picture.shape[1]]
        assert GroundTruth(truth, 4).score(picture) == pytest.approx(rows["A"]["cat"], abs=1e-9)

    def test_labels(self, testset: Path, tmp_path: Path) -> None:
        nets = [run_folder(tmp_path / name, network()) for name in ("run", "sub/run")]
        shutil.copy(tmp_path / "run" / "models" / "7.json", tmp_path / "7.json")
        shutil.copy(nets[0], tmp_path / "7_E.pth")
        odd = tmp_path / "a=b.safetensors"
        save_file(network().state_dict(), odd, metadata={"net_type": "swinir_student"})
        words = [*nets, tmp_path / "7_E.pth", odd, f"C={odd}", f"bicubic={odd}"]
        found = evaluate(tmp_path, "--testset", testset, *(w for word in words for w in ("--weights", word)))
        labels = [card["label"] for card in found["models"]]
        assert labels == ["run", "run 7_E", "7_E", "a=b", "C", "bicubic (2)"]

    def test_bundled_teacher_has_its_golden_scores(self, tmp_path: Path) -> None:
        """Computed once by ``independent`` of test_metrics.py."""
        words = ["--testset", ROOT / "demo" / "images" / "test", "--weights", ROOT / "demo" / "teacher_x4.safetensors"]
        golden = {"psnr_y": 30.53624, "ssim_y": 0.85868, "psnr_rgb": 29.03696, "ssim_rgb": 0.83321}
        assert means(evaluate(tmp_path, *words))["teacher_x4"] == pytest.approx(golden, abs=5e-4)

    def test_bundled_teacher_on_set5(self, shared: Path, tmp_path: Path) -> None:
        testset = shared / "data" / "testsets" / "Set5"
        found = evaluate(tmp_path, "--testset", testset, "--teacher", ROOT / "demo" / "teacher_x4.safetensors")
        assert means(found)["teacher"]["psnr_y"] == pytest.approx(30.69, abs=5e-3)

    def test_self_ensemble_is_the_mean_of_eight_views(self, testset: Path, tmp_path: Path) -> None:
        net = network(3, init_type="default")
        weights = run_folder(tmp_path / "A", net)
        found = evaluate(tmp_path, "--testset", testset, "--weights", weights, "--self-ensemble")
        truth = read_image(testset / "HR" / "cat.png", 3)
        low = to_tensor(bicubic_downscale(truth, 4))[None].float() / 255
        with torch.inference_mode():
            views = [turned_back(net(turned(low, view)), view) for view in range(8)]
            estimate = to_uint8(torch.stack(views).mean(0)[0])
        scores = GroundTruth(truth[: estimate.shape[0], : estimate.shape[1]], 4).score(estimate)
        row = found["testsets"][0]["rows"][-1]["images"]["cat"]
        assert row == pytest.approx(scores, abs=1e-2)  # a sum in another order may round a pixel otherwise
        assert row != pytest.approx(expected(net, testset, "cat"), abs=1e-2)

    def test_tiles_and_bf16_come_close(self, testset: Path, tmp_path: Path) -> None:
        weights = run_folder(tmp_path / "A", network(4))
        whole = means(evaluate(tmp_path, "--testset", testset, "--weights", weights))["A"]
        tiled = evaluate(tmp_path, "--testset", testset, "--weights", weights, "--tile", 8, "--tile-overlap", 3)
        assert means(tiled)["A"]["psnr_y"] == pytest.approx(whole["psnr_y"], abs=0.3)
        assert means(tiled)["A"] != whole
        assert tiled["provenance"]["tile"] == 8
        half = evaluate(tmp_path, "--testset", testset, "--weights", weights, "--precision", "bf16")
        assert means(half)["A"]["psnr_y"] == pytest.approx(whole["psnr_y"], abs=0.3)
        assert means(half)["A"] != whole

    def test_gray_networks(self, testset: Path, tmp_path: Path) -> None:
        weights = run_folder(tmp_path / "A", network(in_chans=1))
        found = evaluate(tmp_path, "--testset", testset, "--weights", weights)
        assert list(means(found)) == ["bicubic of LR", "A"]
        assert means(found)["A"]["psnr_y"] == means(found)["A"]["psnr_rgb"]

    def test_denoising(self, testset: Path, tmp_path: Path) -> None:
        weights = run_folder(tmp_path / "A", network(upscale=1, upsampler="", init_type="default"))
        result = call("--testset", testset, "--weights", weights)
        assert result.exit_code == 2
        assert "models of scale 1 need the degraded images in" in result.stderr
        low = testset / "LR_bicubic" / "X1"
        low.mkdir(parents=True)
        for path in (testset / "HR").iterdir():
            Image.fromarray(read_image(path, 3) ^ 4).save(low / path.name)
        found = evaluate(tmp_path, "--testset", testset, "--weights", weights)
        assert list(means(found)) == ["input", "A"]
        assert means(found)["input"]["psnr_rgb"] == pytest.approx(10 * np.log10(255**2 / 16))


class TestWhichNetwork:
    """V1 and V2 have the same tensors."""

    def test_told_by_manifest_marker_or_options(self, testset: Path, tmp_path: Path) -> None:
        net = network(net_type="swinir_student_v2")
        save_file(net.state_dict(), tmp_path / "x.safetensors", metadata={"net_type": "swinir_student_v2"})
        files = [
            run_folder(tmp_path / "own", net, "swinir_student_v2"),
            tmp_path / "x.safetensors",
            kair_folder(tmp_path / "kair", net, "swinir_student_v2", "swinir_student_v2"),
        ]
        found = evaluate(tmp_path, "--testset", testset, *(w for file in files for w in ("--weights", file)))
        assert [card["net_type"] for card in found["models"]] == ["swinir_student_v2"] * 3
        scores = expected(net, testset, "cat")
        for row in found["testsets"][0]["rows"][2:]:
            assert row["images"]["cat"] == pytest.approx(scores, abs=1e-9)

    @pytest.mark.parametrize("net_types", [(), ("swinir_student", "swinir_student_v2"), ("rrdbnet",)])
    def test_ambiguous(self, testset: Path, tmp_path: Path, net_types: tuple[str, ...]) -> None:
        path = kair_folder(tmp_path / "kair", network(), *net_types)
        result = call("--testset", testset, "--weights", path)
        assert result.exit_code == 2
        assert "does not say whether its blocks are SwinIR's or those of swinir_student_v2" in result.stderr
        assert "pass --net-type kair=swinir_student or --net-type kair=swinir_student_v2" in result.stderr

    @pytest.mark.parametrize("word", ["swinir_student_v2", "kair=swinir_student_v2"])
    def test_told_on_the_command_line(self, testset: Path, tmp_path: Path, word: str) -> None:
        net = network(net_type="swinir_student_v2")
        path = kair_folder(tmp_path / "kair", net)
        found = evaluate(tmp_path, "--testset", testset, "--weights", path, "--net-type", word)
        assert found["testsets"][0]["rows"][-1]["images"]["cat"] == pytest.approx(
            expected(net, testset, "cat"), abs=1e-9
        )

    def test_a_record_beats_the_general_word_and_contradicts_none(self, testset: Path, tmp_path: Path) -> None:
        path = run_folder(tmp_path / "A", network())
        found = evaluate(tmp_path, "--testset", testset, "--weights", path, "--net-type", "swinir_student_v2")
        assert found["models"][0]["net_type"] == "swinir_student"

    def test_official_files_and_teachers_need_no_word(self, testset: Path, tmp_path: Path) -> None:
        torch.save({"params_ema": network().state_dict()}, tmp_path / "official.pth")
        torch.save(network().state_dict(), tmp_path / "bare.pth")
        words = ["--weights", tmp_path / "official.pth", "--teacher", tmp_path / "bare.pth"]
        found = evaluate(tmp_path, "--testset", testset, *words)
        assert [card["net_type"] for card in found["models"]] == ["swinir", "swinir"]

    def test_one_enlarging_convolution_serves_two_scales(self, testset: Path, tmp_path: Path) -> None:
        path = run_folder(tmp_path / "A", network(upscale=3, upsampler="nearest+conv"))
        found = evaluate(tmp_path, "--testset", testset, "--weights", path, "--scale", 3)
        assert (found["scale"], [card["label"] for card in found["models"]]) == (3, ["A"])


class TestComparison:
    def test_of_two_students(self, testset: Path, tmp_path: Path) -> None:
        good, bad = run_folder(tmp_path / "good", network()), run_folder(tmp_path / "bad", network(init_type="default"))
        found = evaluate(tmp_path, "--testset", testset, "--weights", good, "--weights", bad)
        (comparison,) = found["testsets"][0]["comparisons"]
        difference = means(found)["bad"]["psnr_y"] - means(found)["good"]["psnr_y"]
        assert comparison["mean"] == pytest.approx(difference)
        assert (comparison["a"], comparison["b"], comparison["images"], comparison["losses"]) == ("good", "bad", 2, 2)
        result = call("--testset", testset, "--weights", good, "--weights", bad)
        assert f"bad - good is {difference:+.3f} dB on Two (95 % interval " in result.stdout
        assert "they tell nothing of another training seed" in result.stdout
        assert "about 0.3" not in result.stdout

    def test_equal_students_and_the_teacher_is_no_rival(self, testset: Path, tmp_path: Path) -> None:
        one, other = (run_folder(tmp_path / name, network()) for name in ("one", "other"))
        found = evaluate(tmp_path, "--testset", testset, "--weights", one, "--weights", other, "--teacher", one)
        (comparison,) = found["testsets"][0]["comparisons"]
        assert (comparison["mean"], comparison["ties"], comparison["low"], comparison["high"]) == (0, 2, 0, 0)


class TestOutputs:
    def test_all_forms_say_the_same(self, testset: Path, tmp_path: Path) -> None:
        weights = run_folder(tmp_path / "A|B", network())
        result = call(
            "--testset", testset, "--weights", weights, "--latency-size", 8,
            "--json", tmp_path / "deep" / "x.json", "--csv", tmp_path / "x.csv", "--markdown", tmp_path / "x.md",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        found = json.loads((tmp_path / "deep" / "x.json").read_text())
        (card,) = found["models"]
        mean = means(found)["A|B"]
        latency = card["latency"]
        assert latency["milliseconds"] > 0
        assert (latency["size"], latency["runs"] >= 3) == (8, True)
        cells = [
            f"{mean['psnr_y']:.2f}", f"{mean['ssim_y']:.4f}", f"{mean['psnr_rgb']:.2f}", f"{mean['ssim_rgb']:.4f}",
            f"{card['parameters']:,}", f"{card['multiply_adds'] / 1e9:.1f} G", f"{latency['milliseconds']:.0f} ms",
        ]  # fmt: skip
        assert "  ".join(["A|B          ", *cells]).split() in [line.split() for line in result.stdout.splitlines()]
        assert f"| A\\|B | {' | '.join(cells)} |" in (tmp_path / "x.md").read_text()
        rows = list(csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text())))
        assert [(row["model"], row["image"]) for row in rows] == [
            (model, image) for model in ("bicubic", "bicubic of LR", "A|B") for image in ("cat", "gray", "(mean)")
        ]
        assert float(rows[-1]["psnr_y"]) == pytest.approx(mean["psnr_y"], abs=1e-6)
        assert (rows[-1]["parameters"], rows[-1]["sha256"]) == (str(card["parameters"]), card["sha256"])

    def test_test_sets_of_one_name(self, testset: Path, tmp_path: Path) -> None:
        found = evaluate(
            tmp_path, "--testset", testset, "--testset", testset, "--scale", 4, "--save-images", tmp_path / "p"
        )
        assert [item["name"] for item in found["testsets"]] == ["Two", "Two (2)"]
        assert (tmp_path / "p" / "Two (2)" / "bicubic of LR" / "cat.png").exists()

    def test_provenance(self, testset: Path, tmp_path: Path) -> None:
        found = evaluate(tmp_path, "--testset", testset, "--scale", 4)
        provenance = found["provenance"]
        assert provenance["torch"] == torch.__version__
        assert provenance["threads"] == torch.get_num_threads()
        assert provenance["device"].startswith("cpu: ")
        assert provenance["command"]

    def test_perfect_images_are_no_trouble(self, tmp_path: Path) -> None:
        """Infinite PSNR becomes null in JSON."""
        (tmp_path / "HR").mkdir()
        Image.fromarray(np.full((20, 20, 3), 77, dtype=np.uint8)).save(tmp_path / "HR" / "flat.png")
        found = evaluate(tmp_path, "--testset", tmp_path, "--scale", 4)
        assert means(found)["bicubic"] == {"psnr_y": None, "ssim_y": 1, "psnr_rgb": None, "ssim_rgb": 1}
        lines = [line.split() for line in call("--testset", tmp_path, "--scale", 4).stdout.splitlines()]
        assert ["bicubic", "inf", "1.0000", "inf", "1.0000", "-", "-", "-"] in lines

    def test_images_are_named_by_hr(self, testset: Path, tmp_path: Path) -> None:
        low = testset / "LR_bicubic" / "X4"
        low.mkdir(parents=True)
        for path in (testset / "HR").iterdir():
            Image.fromarray(bicubic_downscale(read_image(path, 3), 4)).save(low / f"{path.stem}x4.png")
        found = evaluate(tmp_path, "--testset", testset, "--scale", 4)
        assert list(found["testsets"][0]["rows"][0]["images"]) == list(SIZES)

    def test_markdown_is_safe(self, testset: Path, tmp_path: Path) -> None:
        weights = run_folder(tmp_path / "A", network())
        result = call("--testset", testset, "--weights", f"a\n<b>*={weights}", "--markdown", tmp_path / "x.md")
        assert result.exit_code == 0
        assert "| a \\<b>\\* |" in (tmp_path / "x.md").read_text()

    def test_pictures_stay_in_their_folder(
        self, testset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights = run_folder(tmp_path / "A", network())
        monkeypatch.chdir(weights.parent)
        words = [f"..={weights}", f"a:b={weights}", f"a?b={weights}", ".."]
        out = tmp_path / "pictures"
        result = call("--testset", testset, *(w for word in words for w in ("--weights", word)), "--save-images", out)
        assert result.exit_code == 0, result.output
        folders = sorted(path.name for path in (out / "Two").iterdir())
        assert folders == ["A", "_", "a_b", "a_b (2)", "bicubic of LR"]
        assert [path.name for path in out.iterdir()] == ["Two"]


class TestLayouts:
    """Test sets as the public archives have them."""

    @pytest.fixture
    def expected(self, testset: Path, tmp_path: Path) -> dict[str, Any]:
        low = testset / "LR_bicubic" / "X4"
        low.mkdir(parents=True)
        for path in (testset / "HR").iterdir():
            picture = read_image(path, 3)
            picture = picture[: picture.shape[0] // 4 * 4, : picture.shape[1] // 4 * 4]
            Image.fromarray(255 - bicubic_downscale(255 - picture, 4)).save(low / path.name)
        return evaluate(tmp_path, "--testset", testset, "--scale", 4)["testsets"][0]

    @pytest.mark.parametrize(
        ("high", "low"),
        [
            ("HR", "LR"),
            ("HR", "LR/X4"),
            ("HR", "LRx4"),
            ("GTmod12", "LRbicx4"),
            ("GT", "LRbicx4"),
            ("original", "LR_bicubic/X4"),
            ("original", "LR_bicubic"),
        ],
    )
    def test_layouts(self, high: str, low: str, testset: Path, expected: dict[str, Any], tmp_path: Path) -> None:
        low_folder = testset / low
        (testset / "LR_bicubic" / "X4").rename(testset / "moved")
        (testset / "LR_bicubic").rmdir()
        low_folder.parent.mkdir(exist_ok=True)
        (testset / "moved").rename(low_folder)
        (testset / "HR").rename(testset / high)
        (testset / "LRbicx2").mkdir()
        found = evaluate(tmp_path, "--testset", testset, "--scale", 4)["testsets"][0]
        assert found["name"] == "Two"
        assert low in found["low_resolution"] or low.startswith("LR_bicubic")
        assert found["low_resolution"] != "made by MATLAB's bicubic"
        assert {**found, "low_resolution": ""} == {**expected, "low_resolution": ""}

    def test_the_archive_of_set5(self, shared: Path, tmp_path: Path) -> None:
        source = shared / "data" / "testsets" / "Set5"
        folder = tmp_path / "S"
        for name, path in {
            "GTmod12/bird.png": source / "HR" / "bird.png",
            "LRbicx4/bird.png": source / "LR_bicubic" / "X4" / "birdx4.png",
        }.items():
            (folder / name).parent.mkdir(parents=True)
            shutil.copyfile(path, folder / name)
        rows = evaluate(tmp_path, "--testset", folder, "--scale", 4)["testsets"][0]["rows"]
        assert rows[0]["mean"]["psnr_y"] == pytest.approx(30.18, abs=0.005)


class TestBadInput:
    """One clear message each, exit code 2, and the other results are kept."""

    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        return run_folder(tmp_path / "A", network())

    def check(self, result: Result, *messages: str, kept: str = "") -> None:
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.stderr
        for message in messages:
            assert result.stderr.count(message) == 1, result.stderr
        assert kept in result.stdout

    def test_corrupt_image_among_many(self, testset: Path, weights: Path) -> None:
        (testset / "HR" / "broken.png").write_bytes((testset / "HR" / "cat.png").read_bytes()[:900])
        result = call("--testset", testset, "--weights", weights)
        self.check(result, "broken.png", kept="Two x4, 2 images")

    def test_sizes_that_do_not_match(self, testset: Path, weights: Path) -> None:
        low = testset / "LR_bicubic" / "X4"
        low.mkdir(parents=True)
        for path in (testset / "HR").iterdir():
            Image.fromarray(bicubic_downscale(read_image(path, 3), 4)[:-1]).save(low / path.name)
        Image.fromarray(bicubic_downscale(read_image(testset / "HR" / "cat.png", 3), 4)).save(low / "cat.png")
        result = call("--testset", testset, "--weights", weights)
        self.check(result, "gray.png: 12x14 pixels, but scale 4 needs 12x15", kept="Two x4, 1 image (")

    @pytest.mark.parametrize("content", ["empty", "missing", "texts"])
    def test_no_images(self, testset: Path, weights: Path, tmp_path: Path, content: str) -> None:
        folder = tmp_path / "None"
        if content != "missing":
            (folder / "HR").mkdir(parents=True)
        if content == "texts":
            (folder / "HR" / "x.png").write_text("text")
        result = call("--testset", folder, "--testset", testset, "--weights", weights)
        self.check(result, f"error: --testset {folder}", kept="Two x4, 2 images")
        self.check(call("--testset", folder, "--weights", weights), f"error: --testset {folder}")

    def test_lr_without_hr(self, testset: Path, tmp_path: Path) -> None:
        (tmp_path / "Bad" / "LR_bicubic").mkdir(parents=True)
        result = call("--testset", tmp_path / "Bad", "--testset", testset, "--scale", 4)
        self.check(result, "it has LR_bicubic, but no folder HR", kept="Two x4, 2 images")

    def test_several_folders_of_low_resolution(self, testset: Path, tmp_path: Path) -> None:
        for name in ("LRbicx4", "LR_bicubic/X4"):
            (testset / name).mkdir(parents=True)
        result = call("--testset", testset, "--scale", 4)
        self.check(result, "several folders hold its LR images (LR_bicubic/X4, LRbicx4): remove or rename all but one")

    def test_high_and_low_resolution_in_one(self, testset: Path) -> None:
        """They were scored as ground truth, all of them, without a word."""
        (testset / "HR").rename(testset / "big")
        low = testset / "small"
        low.mkdir()
        for path in (testset / "big").iterdir():
            Image.fromarray(bicubic_downscale(read_image(path, 3), 4)).save(low / path.name)
        result = call("--testset", testset, "--scale", 4)
        self.check(result, "it holds high- and low-resolution images of the same pictures, such as")

    def test_scale_that_does_not_match(self, testset: Path, weights: Path, tmp_path: Path) -> None:
        other = run_folder(tmp_path / "B", network(upscale=2))
        result = call("--testset", testset, "--weights", weights, "--weights", other)
        self.check(result, "its scale is 2, that of A is 4: name it in a call of its own", kept="\nA  ")
        result = call("--testset", testset, "--weights", weights, "--weights", other, "--scale", 2)
        self.check(result, "these weights enlarge x4, but --scale is 2", kept="\nB  ")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "does not exist"),
            (b"", "is not a readable weight file"),
            (b"\x89PNG\r\n\x1a\n" + bytes(99), "is not a readable weight file"),
            ({"a": torch.zeros(3)}, "these are not the weights of a SwinIR: there is no conv_first.weight"),
            ({"optimizer": 3}, "holds no network weights"),
        ],
    )
    def test_no_checkpoint(self, testset: Path, weights: Path, tmp_path: Path, content: object, message: str) -> None:
        path = tmp_path / "bad.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        result = call("--testset", testset, "--weights", path, "--weights", weights, "--teacher", path)
        self.check(result, f"--weights: {path}", f"--teacher: {path}", kept="\nA  ")
        assert result.stderr.count(message) == 2
        self.check(call("--testset", testset, "--weights", path, "--scale", 4), message, kept="bicubic of LR")
        self.check(call("--testset", testset, "--weights", path), message)

    def test_weights_that_are_no_numbers(self, testset: Path, weights: Path, tmp_path: Path) -> None:
        net = network()
        torch.nn.init.constant_(net.conv_first.bias, torch.nan)
        bad = run_folder(tmp_path / "B", net)
        result = call("--testset", testset, "--weights", bad, "--weights", weights)
        self.check(result, "conv_first.bias holds values that are no numbers", kept="\nA  ")

    def test_outputs_that_are_no_pictures(self, testset: Path, weights: Path, tmp_path: Path) -> None:
        """The weights are numbers, what comes out is not."""
        net = network()
        for parameter in net.conv_first.parameters():
            torch.nn.init.constant_(parameter, 3e38)
        bad = run_folder(tmp_path / "B", net)
        found = evaluate(tmp_path, "--testset", testset, "--weights", bad, "--weights", weights, code=2)
        assert [problem.partition(":")[0] for problem in found["problems"]] == ["B on Two, cat", "B on Two, gray"]
        assert "are not a number (NaN)" in found["problems"][0]
        assert means(found)["B"]["psnr_y"] is None
        assert means(found)["A"]["psnr_y"] > 20

    @pytest.mark.parametrize("kind", ["meta", "sparse", "expanded"])
    def test_tensors_that_are_not_plain(self, testset: Path, weights: Path, tmp_path: Path, kind: str) -> None:
        state = network().state_dict()
        bias = state["conv_first.bias"]
        odd = {"meta": bias.to("meta"), "sparse": bias.to_sparse(), "expanded": torch.zeros(1).expand(10**12)}
        torch.save({"params": state | {"conv_first.bias": odd[kind]}}, tmp_path / "odd.pth")
        result = call("--testset", testset, "--weights", tmp_path / "odd.pth", "--weights", weights)
        self.check(result, "conv_first.bias is not stored as a plain tensor", kept="\nA  ")

    def test_net_types_that_contradict_or_miss(self, testset: Path, weights: Path) -> None:
        words = ["--net-type", "A=swinir_student_v2", "--net-type", "Z=swinir"]
        result = call("--testset", testset, "--weights", weights, *words, "--scale", 4)
        self.check(
            result,
            "--net-type says swinir_student_v2, but it records swinir_student",
            "--net-type Z=...: no weights have this label, only A, teacher",
        )

    def test_a_damaged_newest_checkpoint(self, testset: Path, weights: Path) -> None:
        net = network()
        write_set(weights.parent, 9, {"E": net.state_dict()}, {"network": {"net_type": "swinir_student", **net.config}})
        (weights.parent / "9_E.pth").write_bytes(b"damaged")
        result = call("--testset", testset, "--weights", weights.parents[1])
        self.check(result, "checkpoint passed over: ", kept="7_E.pth")

    def test_folders_that_are_no_test_set(self, testset: Path) -> None:
        self.check(call("--testset", testset.parent, "--scale", 4), "it holds test sets (Two): name one of them")
        (testset.parent / "LR" / "X4").mkdir(parents=True)
        self.check(call("--testset", testset.parent / "LR", "--scale", 4), "it looks like LR images of several scales")
        self.check(call("--testset", "", "--scale", 4), "--testset: is empty: name a folder")

    def test_small_images_are_left_out(self, testset: Path, weights: Path) -> None:
        """SSIM's window does not fit."""
        Image.fromarray(np.zeros((16, 30, 3), dtype=np.uint8)).save(testset / "HR" / "small.png")
        result = call("--testset", testset, "--weights", weights)
        self.check(result, "small.png: too small for SSIM, whose window is 11 pixels wide", kept="Two x4, 2 images")

    def test_links_and_devices_are_written_to(self, testset: Path, tmp_path: Path) -> None:
        target = tmp_path / "target.json"
        target.write_text("old")
        (tmp_path / "link.json").symlink_to(target)
        assert call("--testset", testset, "--scale", 4, "--json", tmp_path / "link.json").exit_code == 0
        assert (tmp_path / "link.json").is_symlink()
        assert json.loads(target.read_text())["scale"] == 4
        os.mkfifo(tmp_path / "pipe")
        reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
        assert call("--testset", testset, "--scale", 4, "--csv", tmp_path / "pipe").exit_code == 0
        assert reader.communicate()[0].startswith(b"testset,")
        assert (tmp_path / "pipe").is_fifo()

    def test_wrong_words_are_named_at_once(self) -> None:
        result = call("--scale", 5, "--precision", "fp8", "--tile", 4, "--net-type", "resnet")
        self.check(result, "--testset: missing", "--scale 5", "--precision fp8", "--tile 4", "--net-type resnet")
        result = call("--testset", "x", "--tile", 16, "--tile-overlap", 8)
        self.check(result, "--tile-overlap 8: must be at least 0 and less than half of --tile 16")
        assert result.stdout == ""

    @pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta"])
    def test_devices_that_are_not_there(self, testset: Path, device: str) -> None:
        self.check(call("--testset", testset, "--scale", 4, "--device", device), f"--device {device}")

    @pytest.mark.skipif(os.name == "nt", reason="rights are kept otherwise there")
    def test_an_output_that_cannot_be_written_is_told_before_the_work(self, testset: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = call("--testset", testset, "--scale", 4, "--json", tmp_path / "file" / "x.json")
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "file" in result.stderr
        result = call("--testset", testset, "--scale", 4, "--csv", tmp_path)
        self.check(result, "is a folder: name a file")
        same = tmp_path / "x"
        result = call("--testset", testset, "--scale", 4, "--csv", same, "--json", same)
        self.check(result, f"{same} is named for more than one output")
