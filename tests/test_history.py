"""Curves from metrics.jsonl and train.log: values, restarts, damage."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swinlet.errors import DataError
from swinlet.report.history import METRICS, WEIGHTS, Curve, History, read_history
from swinlet.validation import NAMES

NOTHING = Curve((), ())


def jsonl(folder: Path, *records: Any) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def log(folder: Path, *lines: str) -> Path:
    (folder / "train.log").write_text("".join(f"25-01-31 12:00:00.000 : {line}\n" for line in lines))
    return folder


def train(step: Any, lr: Any = 2e-4, **losses: Any) -> dict[str, Any]:
    return {"type": "train", "step": step, "time": 1.5, "lr": lr, "losses": losses, "it_per_s": 3.0}


def scores(step: Any, weights: Any = "E", **more: Any) -> dict[str, Any]:
    return {"type": "test", "step": step, "weights": weights, "mean": {"psnr_rgb": 28.5}, "images": {}, **more}


def test_metrics_jsonl(tmp_path: Path) -> None:
    jsonl(
        tmp_path,
        {"type": "start", "step": 0, "version": "9", "options": {}},
        train(200, l_g_L1=0.5, l_g_distill=0.25, G_loss=0.75),
        train(400, lr=1e-4, l_g_L1=0.4, l_g_distill=0.2, G_loss=0.6),
        scores(400, mean={"psnr_rgb": 27, "psnr_y": 28.25, "ssim_rgb": 0.8, "ssim_y": 0.85, "lpips": "new"}),
        scores(400, "G", set="val"),
        {"type": "comparison", "step": 400, "weights": "bicubic", "mean": {"psnr_rgb": 20.0}},
    )
    history = read_history(tmp_path)
    assert history == History(
        losses={
            "l_g_L1": Curve((200, 400), (0.5, 0.4)),
            "l_g_distill": Curve((200, 400), (0.25, 0.2)),
            "G_loss": Curve((200, 400), (0.75, 0.6)),
        },
        learning_rate=Curve((200, 400), (2e-4, 1e-4)),
        scores={
            ("test", "E", "psnr_rgb"): Curve((400,), (27.0,)),
            ("test", "E", "psnr_y"): Curve((400,), (28.25,)),
            ("test", "E", "ssim_rgb"): Curve((400,), (0.8,)),
            ("test", "E", "ssim_y"): Curve((400,), (0.85,)),
            ("val", "G", "psnr_rgb"): Curve((400,), (28.5,)),
        },
        unread=0,
    )
    assert list(history.losses) == ["l_g_L1", "l_g_distill", "G_loss"]


def test_a_resumed_run_drops_what_was_lost(tmp_path: Path) -> None:
    start = {"type": "start", "step": 200}
    first = [train(100, G_loss=4.0), train(200, G_loss=3.0), train(300, G_loss=2.0, old=1.0), scores(300)]
    jsonl(tmp_path, *first, start, train(400, G_loss=1.0))
    history = read_history(tmp_path)
    assert history.losses == {"G_loss": Curve((100, 200, 400), (4.0, 3.0, 1.0))}
    assert history.learning_rate.steps == (100, 200, 400)
    assert history.scores == {}


def test_steps_are_sorted_and_the_later_value_counts(tmp_path: Path) -> None:
    jsonl(tmp_path, train(300, a=3), train(100, a=7), train(100, a=1))
    assert read_history(tmp_path).losses == {"a": Curve((100, 300), (1.0, 3.0))}


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    jsonl(tmp_path, train(1, lr=None, a=None, b=1), train(2, a=float("nan"), b=float("inf")), train(3, b=10**400))
    history = read_history(tmp_path)
    assert history.losses == {"b": Curve((1,), (1.0,))}
    assert history.learning_rate.steps == (2, 3)
    assert history.unread == 0


@pytest.mark.parametrize(
    "record",
    [
        5,
        {"step": 1},
        {"type": 1},
        {"type": "start", "step": None},
        train("9", a=1),
        train(9.0, a=1),
        train(True, a=1),
        train(-1, a=1),
        train(2**53, a=1),
        train(9, lr="fast", a=1),
        train(9, a="low"),
        train(9, a=True),
        train(9, **{"\ud800": 1}),
        {"type": "train", "step": 9, "lr": 1},
        scores(None),
        scores(9, weights=None),
        scores(9, set=1),
        scores(9, mean=[28.5]),
        scores(9, mean={"psnr_rgb": 28.5, "psnr_y": "29"}),
    ],
)
def test_a_wrong_record_is_counted_and_adds_nothing(tmp_path: Path, record: Any) -> None:
    jsonl(tmp_path, train(10, lr=1, a=2), record)
    assert read_history(tmp_path) == History({"a": Curve((10,), (2.0,))}, Curve((10,), (1.0,)), {}, unread=1)


@pytest.mark.parametrize("record", [{"type": "new"}, scores(9, set="train"), scores(9, weights="Teacher")])
def test_what_newer_versions_may_add_is_ignored(tmp_path: Path, record: Any) -> None:
    jsonl(tmp_path, train(10, lr=1, a=2), record)
    assert read_history(tmp_path) == History({"a": Curve((10,), (2.0,))}, Curve((10,), (1.0,)), {}, unread=0)


def test_damaged_lines(tmp_path: Path) -> None:
    whole = json.dumps(train(1, a=1)).encode()
    damage = [b"\xff\xfe{}", b"[" * 100_000, b"\0\0\0\0", whole[:-1]]
    path = tmp_path / "any.JSONL"
    path.write_bytes(b"\n".join([whole, b"", b" \r", *damage]))
    history = read_history(path)
    assert history.losses == {"a": Curve((1,), (1.0,))}
    assert history.unread == len(damage)


def test_kair_log(tmp_path: Path) -> None:
    log(
        tmp_path,
        "  start_feature_iter: 4000",
        "<epoch:  7, iter:     200, lr:2.000e-04> l_g_L1: 4.500e-02 l_g_distill: 1.5e-02 G_loss: 6.000e-02 ",
        "<epoch:1071, iter:   2,000, lr:1.000e-04> l_g_L1: 2.500e-02 l_g_distill: nan G_loss: 3.000e-02 ",
        "---1--> a.png | 31.00dB",
        "<epoch:1071, iter:   2,000, Average PSNR : 26.50dB",
        "",
    )
    assert read_history(tmp_path) == History(
        losses={
            "l_g_L1": Curve((200, 2000), (0.045, 0.025)),
            "l_g_distill": Curve((200,), (0.015,)),
            "G_loss": Curve((200, 2000), (0.06, 0.03)),
        },
        learning_rate=Curve((200, 2000), (2e-4, 1e-4)),
        scores={("test", "", "psnr_rgb"): Curve((2000,), (26.5,))},
        unread=0,
    )


def test_our_log(tmp_path: Path) -> None:
    log(
        tmp_path,
        "<epoch:  0, iter:     400, lr:2.000e-04> l_g_L1: 4.500e-02 G_loss: 4.500e-02 (0.52 it/s)",
        "<epoch:  0, iter:     400, Average PSNR : 28.25dB (RGB), 29.50dB (Y), student (EMA)",
        "<epoch:  0, iter:     400, Average PSNR : infdB (RGB), 29.00dB (Y), SSIM 0.8000 (RGB), 0.8250 (Y), student",
        "<epoch:  0, iter:     400, Average PSNR on val : 27.00dB (RGB), 28.00dB (Y), SSIM 0.7000 (RGB), 0.7500 (Y)",
        "<epoch:  0, iter:     400, Average PSNR on train : 40.00dB (RGB), student",
    )
    history = read_history(tmp_path)
    assert {key: curve.values for key, curve in history.scores.items()} == {
        ("test", "E", "psnr_rgb"): (28.25,),
        ("test", "E", "psnr_y"): (29.5,),
        ("test", "G", "psnr_y"): (29.0,),
        ("test", "G", "ssim_rgb"): (0.8,),
        ("test", "G", "ssim_y"): (0.825,),
        ("val", "", "psnr_rgb"): (27.0,),
        ("val", "", "psnr_y"): (28.0,),
        ("val", "", "ssim_rgb"): (0.7,),
        ("val", "", "ssim_y"): (0.75,),
    }
    assert history.losses == {"l_g_L1": Curve((400,), (0.045,)), "G_loss": Curve((400,), (0.045,))}
    assert history.unread == 0


def test_names_of_weights_are_those_of_the_log() -> None:
    assert {NAMES[weights]: weights for weights in ("E", "G")} == WEIGHTS


def test_an_iteration_that_goes_back_is_a_new_start(tmp_path: Path) -> None:
    line = "<epoch:  1, iter:{:8,d}, lr:1.000e+00> a: {:.3e} "
    steps = [(1000, 5), (2000, 4), (3000, 3), (2000, 2), (2500, 1)]
    lines = [line.format(*pair) for pair in steps]
    lines.insert(3, "<epoch:  1, iter:   3,000, Average PSNR : 26.50dB")
    history = read_history(log(tmp_path, *lines))
    assert history.losses == {"a": Curve((1000, 2000, 2500), (5.0, 2.0, 1.0))}
    assert history.learning_rate.steps == (1000, 2000, 2500)
    assert history.scores == {}


@pytest.mark.parametrize(
    "line",
    [
        b"<epoch:  7, iter:     2\n",
        b"<epoch:  7, iter:     ,, lr:2.000e-04> a: 1.0\n",
        b"<epoch:  7, iter:     200, Aver\n",
        b"<epoch:  7, iter:     200, lr:fast> a: 1.0\n",
        b"<epoch:  7, iter:     200, lr:2.000e-04> a: 4.3925-12-12 13:00 : <epoch:  8, iter: 400, lr:1> a: 1.0\n",
        b"<epoch:  7, iter:     200, lr:2.000e-04> a: 1.000e-0",
        b"<epoch:  7, iter:     200, Average PSNR : 2\xff.00dB\n",
    ],
)
def test_torn_lines_of_a_log(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(b"<epoch:  1, iter:     100, lr:1.000e+00> a: 2.0\n\xff\xfe\n" + line)
    assert read_history(path) == History({"a": Curve((100,), (2.0,))}, Curve((100,), (1.0,)), {}, unread=1)


def test_metrics_jsonl_is_preferred(tmp_path: Path) -> None:
    log(tmp_path, "<epoch:  1, iter:     100, lr:1.000e+00> a: 2.0")
    assert read_history(tmp_path).losses["a"].steps == (100,)
    jsonl(tmp_path, train(7, a=1))
    assert read_history(tmp_path).losses["a"].steps == (7,)
    assert read_history(tmp_path / "train.log").losses["a"].steps == (100,)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither metrics.jsonl nor train.log in this folder"):
        read_history(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
        read_history(tmp_path / "nowhere")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    jsonl(tmp_path, train(7, a=1))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
        read_history(tmp_path)


def test_files_without_curves(tmp_path: Path) -> None:
    jsonl(tmp_path, {"type": "start", "step": 0}, train(1, lr=None, a=None), 5)
    with pytest.raises(DataError, match=r'metrics.jsonl: no losses.*type "train" or "test".* 1 lines unreadable'):
        read_history(tmp_path)
    path = tmp_path / "notes.txt"
    path.write_bytes(b"\x80 nothing here")
    with pytest.raises(DataError, match=r"notes.txt: no losses.*<epoch:  7, iter:     200, lr:.* 0 lines unreadable"):
        read_history(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*METRICS, "a", ""]), inner),
    max_leaves=5,
)
RECORDS = st.fixed_dictionaries(
    {"type": st.sampled_from(["start", "train", "test"]) | JSON},
    optional=dict.fromkeys(("step", "lr", "losses", "mean", "weights", "set"), JSON),
)
PIECES = st.sampled_from(
    ["<epoch:", " 7", ", iter:", "   2,000", ", lr:", "2e-4", "> ", "a: ", "nan", " (0.5 it/s)", "\n", "\r", "\0", "٣"]
) | st.sampled_from(
    [", Average PSNR", " on val", " : ", "dB", "dB (RGB)", ", 28.00dB (Y)", ", SSIM ", " (RGB)", ", student"],
)


def check_curves(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        history = read_history(path)
    except DataError:
        return
    curves = [*history.losses.values(), *history.scores.values()]
    assert all(curve.steps for curve in curves)
    for curve in [*curves, history.learning_rate]:
        assert len(curve.steps) == len(curve.values)
        assert list(curve.steps) == sorted(set(curve.steps))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("history")


@given(content=st.binary())
@pytest.mark.parametrize("name", ["any.jsonl", "any.log"])
def test_any_bytes(scratch: Path, name: str, content: bytes) -> None:
    check_curves(scratch / name, content)


@given(records=st.lists(RECORDS | JSON, max_size=6))
def test_any_records(scratch: Path, records: list[Any]) -> None:
    check_curves(scratch / "any.jsonl", "\n".join(map(json.dumps, records)).encode())


@given(pieces=st.lists(PIECES, max_size=40))
def test_any_log_lines(scratch: Path, pieces: list[str]) -> None:
    check_curves(scratch / "any.log", "".join(pieces).encode())
