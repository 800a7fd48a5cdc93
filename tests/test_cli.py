"""The command line: what a user sees, and which exit code a script gets."""

import json
import logging
import subprocess
import sys
import time
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import swinlet.train
import swinlet.utils.console as console
from swinlet.cli import app
from swinlet.errors import DataError
from swinlet.options import Options, json_schema

ROOT = Path(__file__).resolve().parents[1]
LONG = "a" * 60


@pytest.fixture(autouse=True)
def _logger_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the command line does to the package's logger."""
    logger = logging.getLogger("swinlet")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    monkeypatch.setattr(logger, "level", logger.level)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options that reach the training, which is not run."""
    seen: list[Options] = []
    monkeypatch.setattr(swinlet.train, "train", seen.append)
    return seen


def option_file(folder: Path, **keys: Any) -> str:
    path = folder / "train.json"
    path.write_text(json.dumps(keys))
    return str(path)


def swinlet_run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout + result.stderr


def train_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "main_train_student.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--opt", "missing.json"], "error: missing.json: cannot read the option file: No such file or directory\n"),
        (
            ["--opt", "options/train_teacher.json", "train.G_optimzer_lr=1"],
            "error: options/train_teacher.json with the command line's changes:\n"
            "  train.G_optimzer_lr: unknown key, did you mean G_optimizer_lr?\n",
        ),
        (
            ["--opt", "options/train_teacher.json", "--dist", "maybe"],
            "error: options/train_teacher.json with the command line's changes:\n"
            '  dist: input should be a valid boolean (got "maybe")\n',
        ),
    ],
)
def test_wrong_options_are_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = train_script(*arguments)
    assert (result.returncode, result.stderr, result.stdout) == (2, message, "")


@pytest.mark.parametrize(
    ("value", "dist"), [("False", False), ("false", False), ("FALSE", False), ("true", True), ("True", True)]
)
def test_dist_is_read_as_a_boolean(tmp_path: Path, trained: list[Options], value: str, dist: bool) -> None:
    """In the reference any text was true."""
    assert swinlet_run("train", "--opt", option_file(tmp_path, dist=not dist), "--dist", value) == (0, "")
    assert trained[0].dist is dist


def test_overrides_reach_the_training(tmp_path: Path, trained: list[Options]) -> None:
    path = option_file(tmp_path, train={"E_decay": 0.5})
    assert swinlet_run("train", "train.total_iter=100", "--opt", path, "netG.depths=[2,2]", "task=7") == (0, "")
    assert trained[0].train.total_iter == 100
    assert trained[0].train.E_decay == 0.5
    assert (trained[0].netG.depths, trained[0].task) == ((2, 2), "7")


def test_help_and_usage() -> None:
    code, text = swinlet_run("--help")
    assert code == 0
    assert "train" in text
    assert "schema" in text
    code, text = swinlet_run("train", "--help")
    assert code == 0
    assert "KEY.PATH=VALUE" in text
    assert "--opt" in text
    assert swinlet_run("train")[0] == 2
    assert swinlet_run("nonsense")[0] == 2
    assert train_script("--help").returncode == 0


def test_schema_goes_to_standard_output() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schema()


def test_help_schema_and_wrong_options_need_no_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom swinlet.cli import app\n"
        "for line in (['--help'], ['schema'], ['train', '--opt', 'missing.json']):\n"
        "    CliRunner().invoke(app, line)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def failing_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> tuple[int, str]:
    def fail(_: Options) -> bool:
        raise error

    monkeypatch.setattr(swinlet.train, "train", fail)
    return swinlet_run("train", "--opt", option_file(tmp_path))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("a.png: unreadable\nb.png: too small"), 2, "error: a.png: unreadable\nb.png: too small\n"),
        (
            PermissionError(13, "Permission denied", "/x/train.log"),
            1,
            "error: /x/train.log: Permission denied: see that this user may write there, then start the same command "
            "again\n",
        ),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (MemoryError(), 1, "error: out of memory: lower datasets.train.dataloader_batch_size or H_size ()\n"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"),
            1,
            "error: out of memory: lower datasets.train.dataloader_batch_size or H_size "
            "(CUDA out of memory. Tried 2 GiB)\n",
        ),
    ],
)
def test_what_a_user_can_mend_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, message: str
) -> None:
    assert failing_train(tmp_path, monkeypatch, error) == (code, message)


def test_memory_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    code, text = failing_train(tmp_path, monkeypatch, caught.value)
    assert code == 1
    assert text.startswith("error: out of memory: lower ")


def test_a_fault_of_the_program_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Options) -> bool:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(swinlet.train, "train", fail)
    result = CliRunner().invoke(app, ["train", "--opt", option_file(tmp_path)])
    assert isinstance(result.exception, RuntimeError)
    assert result.exit_code == 1


# The console


def test_long_lines_stay_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapped path cannot be copied, a wrapped table not read."""
    monkeypatch.setattr(console.CONSOLE, "_width", 40)
    console.log_to_console()
    console.LOGGER.info("%s %s", LONG, LONG)
    console.LOGGER.warning("%-14s %12s", "[bold]not markup[/bold]", ":smile: 'quoted' 12")
    console.LOGGER.error("two\n  lines")
    assert capsys.readouterr().err.splitlines() == [
        f"{LONG} {LONG}",
        "warning: [bold]not markup[/bold] :smile: 'quoted' 12",
        "error: two",
        "  lines",
    ]


def test_logging_twice_shows_lines_once(capsys: pytest.CaptureFixture[str]) -> None:
    console.log_to_console()
    console.log_to_console()
    console.LOGGER.info("once")
    assert capsys.readouterr().err == "once\n"


def test_no_text_breaks_the_log_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = MemoryHandler(9)
    console.LOGGER.addHandler(early)
    console.LOGGER.warning("half a pair: \ud800")
    with console.log_to_file(tmp_path / "train.log", early):
        console.LOGGER.warning("café")
    first, second = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    assert first.endswith(" WARNING: half a pair: \\ud800")
    assert second.endswith(" WARNING: café")
    assert capsys.readouterr().err == ""


def test_the_bar_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    with console.TrainingBar(10, 4) as bar:
        with bar.pause():
            time.sleep(0.2)
        bar.advance(lambda: "G_loss 1")
        bar.show_score("PSNR 2 dB")
        assert bar.speed() > 10  # the pause does not count
    assert capsys.readouterr() == ("", "")


LOADED = """
import sys
from swinlet.cli import run
try:
    run()
except SystemExit as end:
    print(end.code, *[name for name in sys.argv.pop().split(",") if name in sys.modules], file=sys.stderr)
"""


def loaded(code: int, words: list[object], modules: str) -> list[str]:
    """Which of these modules a command has imported in a process of its own; checks its exit code."""
    program = LOADED.replace("sys.argv.pop()", repr(modules))
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    found, *names = done.stderr.splitlines()[-1].split()
    assert int(found) == code, done.stderr
    return names


HEAVY = "torch,accelerate,huggingface_hub,safetensors,imagecodecs,tifffile,matplotlib,gradio,spandrel,onnxruntime"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ["--help"]),
        (0, ["upscale", "--help"]),
        (2, ["train", "--opt", "none.json"]),
        (2, ["upscale", "none.png", "--out", "x"]),
        (2, ["upscale", "README.md", "--out", "x", "--precision", "fp8"]),
        (2, ["upscale", "README.md", "--out", "x", "--tile", "3"]),
        (2, ["upscale", "docs/studies/results", "--out", "x"]),
        (2, ["evaluate"]),
        (2, ["evaluate", "--testset", "x", "--scale", "5"]),
        (2, ["evaluate", "--testset", "x", "--precision", "fp8"]),
    ],
)
def test_what_is_wrong_is_told_before_torch_is_imported(code: int, words: list[object]) -> None:
    assert loaded(code, words, HEAVY) == []


def test_a_picture_is_enlarged_with_no_more_than_that_takes(tmp_path: Path) -> None:
    """torch's compiler took a second of every start, accelerate half a second."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    others = (
        "torch._dynamo,torch.fx.experimental.symbolic_shapes,accelerate,huggingface_hub,tifffile,imagecodecs,matplotlib"
    )
    words = ["upscale", tmp_path / "a.png", "--out", tmp_path / "b.png", "--scale", 2]
    assert loaded(0, words, f"torch,{others}") == ["torch"]


def test_the_end_goes_through_no_objects_once_more() -> None:
    """``swinlet web`` took eight seconds to end after it had said so."""
    program = (
        "import atexit, gc, sys; sys.argv = ['swinlet', '--help']\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000, gc.get_count()[0] < 1000, file=sys.stderr))\n"
        "from swinlet.cli import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.splitlines()[-1] == "True True"
