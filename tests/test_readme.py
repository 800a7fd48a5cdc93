"""The documents' commands work, and what they name exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/interpolation.md",
    "docs/options.md",
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


SHELL = [line for name in DOCUMENTS for line in commands((ROOT / name).read_text(encoding="utf-8"))]


def test_the_two_commands_come_first() -> None:
    assert commands(README)[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", [c for c in SHELL if c.startswith("make ")])
def test_make_targets(command: str) -> None:
    """Their recipes run in continuous integration; here it is enough that make knows them."""
    subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("command", [c for c in SHELL if c.startswith("python ")])
def test_training_commands(command: str, tmp_path: Path) -> None:
    arguments = [sys.executable, *shlex.split(command)[1:], *SMALL, f"path.root={tmp_path}"]
    done = subprocess.run(arguments, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("2_E.pth"))


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    assert not [c for c in SHELL if not c.startswith(("make ", "python main_train_student.py"))]


@pytest.mark.parametrize("code", blocks(README, "python"))
def test_python(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # the documentation's own code
    assert sum(p.numel() for p in names["student"].parameters()) == 988_959


def test_windows_commands_do_what_make_does() -> None:
    (block,) = blocks(README, "bat")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for part in ("main_train_student.py --opt options/train_demo.json", "-m pytest"):
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
    for name in re.findall(r"`((?:swinlet|options|demo|tests|docs)/[\w/.]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{document} names {name}"
