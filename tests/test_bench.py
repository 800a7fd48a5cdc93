"""The benchmark at its smallest size; what it refuses; its arithmetic."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import bench, engines, measure, memory, paths, scaling, training_memory
from benchmarks.contestants import NO_BF16, line_up
from benchmarks.measure import interleave
from benchmarks.ours import Way, forward_call
from benchmarks.peak import matmul_peak
from benchmarks.reference import reference_network
from benchmarks.sdpa import folded
from benchmarks.settings import Settings
from benchmarks.table import as_text
from benchmarks.targets import Target, reached
from benchmarks.workloads import Workload
from swinlet import kernels
from swinlet.errors import OptionError, TrainingError
from swinlet.models.network_swinir import SwinIR

STUDENT = Workload("student", 16, 1, tiny=True)
# In place of the official file, which is not ours to ship: the same interface, around our network.
REFERENCE = """
from timm.models.layers import DropPath, to_2tuple, trunc_normal_
from swinlet.models.network_swinir import SwinIR as Ours

class SwinIR(Ours):
    def __init__(self, **config):
        super().__init__(**config)
        self.embed_dim = config["embed_dim"]
"""
BRIGHTER = "\n    def forward(self, x):\n        return super().forward(x) + 0.1\n"


@pytest.fixture(autouse=True)
def level_of_the_log() -> Iterator[None]:
    """Benchmarks keep the package's log quiet, in processes of their own."""
    logger = logging.getLogger("swinlet")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    file = tmp_path / "network_swinir.py"
    file.write_text(REFERENCE)
    return file


def test_smallest_run(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found" / "bench.json"
    options = ["--sizes", "tiny", "--seconds", "0.01", "--repeats", "3", "--allocator", "keeping"]
    status = bench.main([*options, "--only", "s*", "memory", "--reference", str(reference), "--json", str(file)])
    output = capsys.readouterr().out
    assert status == 0
    found = json.loads(file.read_text())
    assert {"date", "revision", "cpu", "cpu_flags", "packages"} <= set(found["machine"])
    (run,) = found["runs"]
    assert run["environment"]["MALLOC_MMAP_MAX_"] == "0"
    assert "GOMP_SPINCOUNT" in run["environment"]
    assert run["peak_gflop_per_second"]["fp32"] > 0
    assert [entry["name"] for entry in run["measurements"]] == ["student-16", "step-8-batch2"]
    for entry in run["measurements"]:
        check_measurement(entry, run["peak_gflop_per_second"]["fp32"])
        assert entry["name"] in output
    assert "x reference fp32" in output
    (entry,) = run["memory"]
    if memory.measurable(Settings(scratch="")):
        assert [peak["label"] for peak in entry["peaks"]][:2] == ["reference fp32", "torch fp32"]
        assert all(25 < peak["mib"] < 500 for peak in entry["peaks"])
        assert "peak MiB" in output


def check_measurement(entry: dict, peak: float) -> None:
    rows = {row["label"]: row for row in entry["contestants"]}
    assert list(rows)[:2] == ["reference fp32", "torch fp32"]
    row = rows["torch fp32"]
    times = row["all_seconds"]
    assert len(times) == entry["rounds"] == 3
    assert row["seconds"]["median"] == sorted(times)[1]
    assert row["per_second"] == pytest.approx(entry["batch"] / sorted(times)[1])
    assert row["gflop_per_second"] == pytest.approx(entry["gflop"] / sorted(times)[1])
    assert row["share_of_peak"] == pytest.approx(row["gflop_per_second"] / peak)
    ratios = [a / b for a, b in zip(rows["reference fp32"]["all_seconds"], times, strict=True)]
    assert row["times_as_fast_as"]["reference fp32"]["median"] == sorted(ratios)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("class Other: pass", "defines no network SwinIR"),
        ("SwinIR = 3", "defines no network SwinIR"),
        ("import nothing_of_that_name", "cannot be run: ModuleNotFoundError"),
        ("def (", "cannot be run: SyntaxError"),
        ("from torch.nn import Identity as SwinIR", "is not the official one"),
        ("from swinlet.models.network_swinir import SwinIR", "it has no embed_dim"),
        (REFERENCE + BRIGHTER, "its picture differs from the torch path's by 0.1"),
    ],
)
def test_refused_references(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "network.py"
    if content is not None:
        file.write_text(content)
    assert bench.main(["--sizes", "tiny", "--reference", str(file), "--json", str(tmp_path / "bench.json")]) == 2
    error = capsys.readouterr().err
    assert f"--reference {file}" in error
    assert message in error


def test_reference_of_other_weights(tmp_path: Path) -> None:
    file = tmp_path / "network.py"
    file.write_text(REFERENCE.replace("super().__init__(**config)", "super().__init__(**config | {'mlp_ratio': 3})"))
    with pytest.raises(OptionError, match=r"is not the official one: Error.*; size mismatch.*$"):
        reference_network(str(file), STUDENT.network())


def test_unknown_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--sizes", "tiny", "--only", "student-64"]) == 2
    assert "--only student-64: there is no such measurement; there are student-16, " in capsys.readouterr().err


class ToldClock:
    """Says what it is told to."""

    warm_ups = 0

    def __init__(self, seconds: Iterator[float]) -> None:
        self.told = seconds

    def seconds(self, call: Callable[[], object]) -> float:
        call()
        return next(self.told)


def test_contestants_take_turns() -> None:
    turns: list[str] = []
    calls = {name: lambda name=name: turns.append(name) for name in "ab"}
    clock = ToldClock(iter([9.0, 9.0, 2.0, 1.0, 6.0, 1.0, 4.0, 4.0]))
    rounds = interleave(calls, clock, budget=1.0, most=20)
    assert turns == ["a", "b"] * 4
    assert rounds.warmed_up
    assert rounds.seconds == {"a": [2.0, 6.0, 4.0], "b": [1.0, 1.0, 4.0]}
    assert rounds.time("a") == measure.Spread(4.0, 3.0, 5.0)
    assert rounds.ratio("a", "b") == measure.Spread(2.0, 1.5, 4.0)  # of 2, 6, 1


def test_one_long_round_is_enough() -> None:
    rounds = interleave({"a": int, "b": int}, ToldClock(iter([20.0, 10.0])), budget=15.0, most=20)
    assert rounds.seconds == {"a": [20.0], "b": [10.0]}
    assert not rounds.warmed_up
    assert rounds.ratio("a", "b") == measure.Spread(2.0, 2.0, 2.0)


def test_slow_products_are_not_insisted_on() -> None:
    assert matmul_peak(torch.device("cpu"), torch.float32, ToldClock(iter([2.0]))) == pytest.approx(1024**3 * 1e-9)


def test_work_is_that_of_the_default_networks() -> None:
    assert Workload("student", 64, 1).gflop() == pytest.approx(12.7, abs=0.05)
    assert Workload("student", 8, 2, tiny=True).gflop() == pytest.approx(STUDENT.gflop() / 2)


def test_fused_attention_gives_the_same_picture() -> None:
    network = SwinIR(embed_dim=12, depths=[2], num_heads=[2], window_size=4).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias_table"):
            torch.nn.init.normal_(parameter)
    image = torch.rand(2, 3, 12, 16)
    with torch.no_grad(), kernels.using("torch"):
        expected = network(image)
        with folded():
            picture = network(image)
    assert not torch.equal(picture, expected)
    torch.testing.assert_close(picture, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("workload", [Workload("student", 8, 2, tiny=True), Workload("step", 8, 2, tiny=True)])
def test_line_up_of_a_gpu(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, but for what needs a GPU or minutes."""
    monkeypatch.setattr("benchmarks.contestants.has_bf16_instructions", lambda: False)
    entries = line_up(Settings(scratch="", line_up="cuda", sizes="tiny"), workload)
    missing = {entry.label: entry.missing for entry in entries}
    assert missing["reference fp32"] == "no --reference FILE was given"
    assert missing["torch bf16"] == NO_BF16
    assert missing["torch+sdpa+compile+graph fp32"] == "CUDA graphs need a GPU"
    assert missing["torch+compile fp32"] is None
    ready = [entry for entry in entries if entry.missing is None and not entry.optional]
    assert "torch+sdpa fp32" in [entry.label for entry in ready]
    for entry in ready:
        entry.prepare()()


def test_engines_must_give_the_same_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, answer = tmp_path / "model.onnx", tmp_path / "answer.pt"
    torch.save(torch.zeros(1, 3, 64, 64), answer)
    monkeypatch.setattr(engines, "_exported", lambda workload, scratch: (model, answer))

    def engine(value: float) -> engines.Engine:
        picture: Callable[[object], object] = lambda image: torch.full((1, 3, 64, 64), value).numpy()  # noqa: E731
        return engines.Engine("fake", ("no_such_package",), False, lambda model, bf16, threads: picture)

    assert engine(0.0).missing == "not installed (pip install no_such_package)"
    engine(0.0).prepare(STUDENT, "fp32", "")()
    with pytest.raises(RuntimeError, match=r"differs from the torch path's by 0\.01"):
        engine(0.01).prepare(STUDENT, "fp32", "")


@pytest.mark.parametrize("engine", engines._ENGINES, ids=lambda engine: engine.name)
def test_installed_engines(engine: engines.Engine, tmp_path: Path) -> None:
    if engine.missing:
        assert engine.name in engine.missing or "onnx" in engine.missing
        return
    engine.prepare(STUDENT, "fp32", str(tmp_path))()


def test_scaling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scaling.json"
    assert scaling.main(["--tiny", "--batch", "3", "--seconds", "0.01", "--json", str(file)]) == 0
    (found,) = json.loads(file.read_text())["measurements"]
    one, two = (found["all_seconds"][name] for name in ("1 process", "2 processes"))
    assert len(one) == len(two) == found["rounds"] == 3
    assert found["times_as_fast"]["median"] == sorted(a / b for a, b in zip(one, two, strict=True))[1]
    assert 0 < found["seconds"]["2 processes: messages"]["median"] < 1
    output = capsys.readouterr().out
    assert "step-8-batch3, 3 rounds" in output
    assert f"{3 / sorted(one)[1]:.3g}" in output


def test_a_member_that_fails_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scaling.sys.executable", shutil.which("false"))
    with pytest.raises(TrainingError, match="has ended"), scaling.Team(STUDENT, 1, 1) as team:
        team.wait()


def test_targets_and_table() -> None:
    spread = {"median": 2.0, "low": 1.9, "high": 2.1}
    row = {"label": "native fp32", "seconds": spread, "per_second": 0.5, "gflop_per_second": 25.0}
    row |= {"share_of_peak": None, "times_as_fast_as": {"reference fp32": spread}}
    absent = [{"label": "torch bf16", "reason": NO_BF16}, {"label": "native bf16", "reason": NO_BF16}]
    entry = {"name": "student-128", "batch": 1, "gflop": 50.0, "rounds": 1, "warmed_up": False}
    entry |= {"contestants": [row], "absent": absent}
    peaks = [
        {"label": name, "mib": mib, "process_mib": 2 * mib}
        for name, mib in (("reference fp32", 1000.0), ("native fp32", 400.0))
    ]
    loading = {"ms_per_sample": {"whole": 50.0, "prepared": 0.1}, "ratio_to_whole": {"whole": 1.0, "prepared": 500.0}}
    run = {"allocator": "default", "threads": 2, "peak_gflop_per_second": {"fp32": 180.0, "bf16": None}}
    run |= {"measurements": [entry], "memory": [{"name": "student-256", "peaks": peaks}], "loading": loading}
    assert reached(run, Target("student-128", "native fp32", "reference fp32", 3.5)) == 2.0
    assert reached(run, Target("student-64", "native fp32", "reference fp32", 3.5)) is None
    assert reached(run, Target("memory of student-256", "native fp32", "reference fp32", 2.0)) == 2.5
    text = as_text({"settings": {"line_up": "cpu", "sizes": "full"}, "runs": [run]})
    assert "2.00 (1.90 to 2.10)" in text
    assert f"not measured: torch bf16, native bf16: {NO_BF16}" in text
    targets = {line.split("  ")[0]: line.split()[-1] for line in text.partition("Targets")[2].splitlines() if line}
    assert targets["student-128: native fp32 against reference fp32"] == "(!)"
    assert targets["loading: prepared against whole"] == "500.00"
    assert targets["student-256: native bf16 against reference fp32"] == "-"


def test_the_torch_path_does_not_pass_for_native() -> None:
    with pytest.raises(RuntimeError, match="the torch path made it"):
        forward_call(STUDENT, Way("native", paths.torch_path(), own=True), "fp32", torch.device("cpu"))


def test_smallest_table_of_training_memory(capsys: pytest.CaptureFixture[str]) -> None:
    training_memory.main(["--tiny", "--patches", "32", "--batches", "2", "--precisions", "bf16"])
    machine, _, *table = capsys.readouterr().out.splitlines()
    assert f"torch {torch.__version__}" in machine
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert heading == list(training_memory.COLUMNS)
    assert [row[:4] for row in rows] == [["32", "2", "bf16", "no"], ["32", "2", "bf16", "yes"]]
    for row in rows:
        measured, counted, kept = row[4:]
        assert (measured != "-") is memory.MEASURABLE
        assert float(counted) > float(kept) > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_is_counted_without_computing(precision: str) -> None:
    kept: list[int] = []
    for checkpointed in (False, True):
        step = training_memory.Step(64, 2, precision, checkpointed, tiny=True)
        counted = training_memory.count(step)
        assert counted == training_memory.count(step, computing=True)
        kept.append(counted.kept)
    assert kept[1] < kept[0]


def test_living_bytes() -> None:
    with training_memory.LivingBytes() as living:
        x = torch.ones(100)
        view = x[:10]
        y = x + 1
        del x
        assert living.now == 800  # the view keeps the memory
        del view
        assert (living.now, living.peak) == (400, 800)
        y.add_(1)
        assert (living.now, living.peak) == (400, 800)
