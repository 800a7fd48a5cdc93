"""The documents' commands work, and what they name exists."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from swinlet.checkpoint import write_set
from swinlet.cli import app
from swinlet.options import parse_options
from swinlet.train import train
from swinlet.utils.image_io import list_images, read_image, save_image
from swinlet.utils.resize import bicubic_downscale
from swinlet.web.request import WebRequest
from tests.small_run import tree

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/data.md",
    "docs/distillation.md",
    "docs/evaluation.md",
    "docs/export.md",
    "docs/hub.md",
    "docs/interpolation.md",
    "docs/options.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/scaling.md",
    "docs/studies/README.md",
    "docs/study.md",
    "docs/teachers.md",
    "docs/upscale.md",
    "docs/web.md",
    "demo/README.md",
]
# What makes any training command of the README small: two iterations, on the demo's photographs.
SMALL = [
    "gpu_ids=null",
    "datasets.train.dataroot_H=demo/images/train",
    "datasets.train.H_size=32",
    "datasets.train.dataloader_batch_size=2",
    "datasets.train.dataloader_num_workers=0",
    "datasets.test.dataroot_H=demo/images/test",
    "datasets.test.dataroot_L=null",
    "path.pretrained_netTeacher=demo/teacher_x4.safetensors",
    "netG.depths=[1,1]",
    "netG.num_heads=[2,2]",
    "netG.embed_dim=12",
    "train.total_iter=2",
    "train.feature_pairs=[[0,0]]",
]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


DEMO_COMMANDS = [
    "swinlet evaluate --weights superresolution/demo --teacher demo/teacher_x4.safetensors --testset demo/images/test",
    "swinlet report superresolution/demo --out superresolution/demo/report.html",
]
SHELL = [line for name in DOCUMENTS for line in commands((ROOT / name).read_text(encoding="utf-8"))]


def test_the_two_commands_come_first() -> None:
    assert commands(README)[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", [c for c in SHELL if c.startswith("make ")])
def test_make_targets(command: str) -> None:
    """Their recipes run in continuous integration; here it is enough that make knows them."""
    subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("command", [c for c in SHELL if c.startswith("python ")])
def test_training_commands(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which saves the start of another; tests/test_slurm.py starts the script as it is."""
    arguments = [*shlex.split(command)[1:], *SMALL, f"path.root={tmp_path}"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(arguments[0], run_name="__main__")
    assert not end.value.code
    assert list(tmp_path.rglob("2_E.pth"))


@pytest.fixture(scope="module")
def sandbox(photos: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the files that commands name are small: runs, test sets, a teacher, an old log."""
    root = tmp_path_factory.mktemp("sandbox")
    here = root / "main"
    for task in ("A", "C", "demo"):
        data = tree(photos, here / "superresolution", teacher_file, total_iter=2) | {"task": task}
        assert train(parse_options(data))
    run = here / "superresolution" / "C" / "models"
    states = {label: torch.load(run / f"2_{label}.pth", weights_only=True) for label in "EGP"}
    write_set(run, 20000, states, {"network": json.loads((run / "2.json").read_text())["network"]})
    shutil.copy(teacher_file, here / "T.pth")
    shutil.copy(here / "superresolution" / "A" / "train.log", here / "train.log")
    (here / "demo" / "images").mkdir(parents=True)
    shutil.copytree(photos / "test" / "HR", here / "demo" / "images" / "test")
    shutil.copy(ROOT / "demo" / "teacher_x4.safetensors", here / "demo")
    for name in ("Set5", "Set14"):
        shutil.copytree(photos / "test", root / "shared" / "data" / "testsets" / name)
    shutil.copytree(photos / "train", here / "trainsets" / "DIV2K" / "HR")
    for path in list_images(photos / "train"):
        save_image(here / "trainsets" / "DIV2K" / "LR" / path.name, bicubic_downscale(read_image(path, 3), 4))
    (here / "photos").mkdir()
    for path in (here / "photo.jpg", here / "photos" / "one.jpg"):
        Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(path)
    (here / "options").symlink_to(ROOT / "options")
    return here


def test_prepare_commands(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the document, as later ones use what earlier ones made."""
    monkeypatch.chdir(sandbox)
    found = [command for command in SHELL if command.startswith("swinlet prepare ")]
    assert found
    for command in found:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
        written = re.search(r"--out (\S+)", command)
        assert written is None or (sandbox / written[1] / "index.json").exists()


@pytest.mark.parametrize(
    "command", sorted({c for c in SHELL if c.startswith(("swinlet evaluate ", "swinlet report "))})
)
def test_scoring_commands(command: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox)
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--latency-size", "8"])
    assert result.exit_code == 0, result.output
    written = re.search(r"--(?:json|out) (\S+)", command)
    assert written is None or (sandbox / written[1]).stat().st_size > 1000


@pytest.mark.parametrize("command", [c for c in SHELL if c.startswith("swinlet export ")])
def test_export_commands(command: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(engine)
    monkeypatch.chdir(sandbox)
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--latency-size", "8", "--overwrite"])
    assert result.exit_code == 0, result.output
    assert (sandbox / re.findall(r"--out (\S+)", command)[0]).exists()


@pytest.mark.parametrize("command", sorted({c for c in SHELL if c.startswith("swinlet upscale ")}))
def test_upscale_commands(command: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox)
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--overwrite"])
    assert result.exit_code == 0, result.output
    written = re.search(r"--out (\S+)", command)
    assert written is not None
    assert Path(written[1]).is_file() or list_images(written[1])


@pytest.mark.parametrize("command", sorted({c for c in SHELL if c.startswith("swinlet web")}))
def test_web_commands(command: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox)
    asked: list[WebRequest] = []
    monkeypatch.setattr("swinlet.web.serve.serve", asked.append)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    assert len(asked[0].methods) == 1 + max(command.count("--weights"), 1) + command.count("--teacher")


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    kinds = (
        "make ",
        "python main_train_student.py",
        "swinlet evaluate ",
        "swinlet report ",
        "swinlet prepare ",
        "swinlet upscale ",
        "swinlet export ",
        "swinlet web",
    )
    assert not [c for c in SHELL if not c.startswith(kinds)]


@pytest.mark.parametrize("document", ["README.md", "docs/upscale.md"])
def test_python(document: str, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox)
    (code,) = blocks((ROOT / document).read_text(encoding="utf-8"), "python")
    names: dict[str, Any] = {}
    exec(compile(code, document, "exec"), names)  # the documentation's own code
    assert names["large"].size == (48, 36)
    assert "student" not in names or sum(p.numel() for p in names["student"].parameters()) == 988_959


def test_windows_commands_do_what_make_does() -> None:
    (block,) = blocks(README, "bat")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for part in ("main_train_student.py --opt options/train_demo.json", "-m pytest", *DEMO_COMMANDS):
        assert part in block
        assert part in makefile
    assert ".[dev]" in block
    assert ".[dev]" in makefile


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_files_exist(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / target).exists() or target.startswith("http"), f"{document} links to {target}"
    for name in re.findall(r"`((?:swinlet|options|demo|tests|docs|benchmarks|scripts)/[\w/.]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{document} names {name}"
