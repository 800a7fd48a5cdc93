"""Curves of a run, read from what it leaves behind: metrics.jsonl, or a train.log in the form that KAIR writes."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from swinlet.errors import DataError
from swinlet.utils.run_log import METRICS_FILE

LOG_FILE = "train.log"
METRICS = ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y")
SETS = ("test", "val")
WEIGHTS = {"student (EMA)": "E", "student": "G"}  # by their names in train.log

_MAX_STEP = 2**53  # drawings place steps as float64

_LINE = re.compile(r"<epoch: *[0-9]+, iter: *([0-9,]{1,24}), (.+)")
_LOSSES = re.compile(r"lr:(\S+)>((?: +[^\s:]+: \S+)*) *(?:\([^()]*\))?")
_SCORES = re.compile(
    r"Average PSNR(?: on (\w+))? ?: *(\S+)dB(?: \(RGB\))?(?:, (\S+)dB \(Y\))?"
    r"(?:, SSIM (\S+) \(RGB\))?(?:, ([^\s,]+) \(Y\))?(?:, (.+))?"
)


@dataclass(frozen=True)
class Curve:
    """Finite values over iterations: sorted by step, one value a step, both of one length."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class History:
    """What a run has recorded.

    Attributes:
        losses: by name ("l_g_L1", "l_g_distill", "l_g_feature", "G_loss", ...), in order of appearance; none is empty.
        learning_rate: empty where the file tells none.
        scores: by set ("test" or "val"), weights ("E", "G", or "" where the file does not say) and metric
            ("psnr_rgb", "psnr_y" in dB; "ssim_rgb", "ssim_y"); none is empty.
        unread: number of lines that should hold values but could not be read: a torn last line, damage.
    """

    losses: dict[str, Curve]
    learning_rate: Curve
    scores: dict[tuple[str, str, str], Curve]
    unread: int


def read_history(path: Path) -> History:
    """Read the curves of a run.

    Values that are no finite numbers are left out. Where a run was stopped and went on from an earlier step, what was
    recorded after that step is dropped.

    Args:
        path: the folder of a run (metrics.jsonl is read, or train.log where there is none), or one such file by any
            name: ``*.jsonl`` is read as metrics.jsonl, all else as train.log.

    Raises:
        DataError: there is no such file, it cannot be read, or holds no values.
    """
    try:
        file = _find(path)
        is_json = file.suffix.lower() == ".jsonl"
        with file.open("rb") as lines:
            found = _read_json(lines) if is_json else _read_text(lines)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    history = found.history()
    if not (history.losses or history.scores or history.learning_rate.steps):
        sought = 'records of type "train" or "test"' if is_json else 'lines like "<epoch:  7, iter:     200, lr:..."'
        raise DataError(
            f"{file}: no losses and no scores in it ({sought} were looked for, {history.unread} lines unreadable): "
            "if the run has just begun, wait until it logs (train.checkpoint_print); otherwise name another file"
        )
    return history


def _find(path: Path) -> Path:
    if path.is_dir():
        for name in (METRICS_FILE, LOG_FILE):
            if (path / name).is_file():
                return path / name
        raise DataError(f"{path}: neither {METRICS_FILE} nor {LOG_FILE} in this folder; name the folder of a run")
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder; name the folder of a run, its {METRICS_FILE} or {LOG_FILE}")
    return path


class _Gathered:
    """Values by kind and step, while a file is read; a later value of a step replaces an earlier one."""

    def __init__(self) -> None:
        self.losses: dict[str, dict[int, float]] = {}
        self.rates: dict[int, float] = {}
        self.scores: dict[tuple[str, str, str], dict[int, float]] = {}
        self.unread = 0

    def add_losses(self, step: int, rate: float, losses: dict[str, float]) -> None:
        self.rates[step] = rate
        for name, value in losses.items():
            self.losses.setdefault(name, {})[step] = value

    def add_scores(self, step: int, subset: str, weights: str, means: dict[str, float]) -> None:
        for metric, value in means.items():
            self.scores.setdefault((subset, weights, metric), {})[step] = value

    def drop_after(self, last: int) -> None:
        for values in (self.rates, *self.losses.values(), *self.scores.values()):
            for step in [step for step in values if step > last]:
                del values[step]

    def history(self) -> History:
        losses = {name: _curve(values) for name, values in self.losses.items()}
        scores = {key: _curve(values) for key, values in self.scores.items()}
        return History(
            losses={name: curve for name, curve in losses.items() if curve.steps},
            learning_rate=_curve(self.rates),
            scores={key: curve for key, curve in scores.items() if curve.steps},
            unread=self.unread,
        )


def _curve(values: dict[int, float]) -> Curve:
    finite = sorted((step, value) for step, value in values.items() if math.isfinite(value))
    return Curve(tuple(step for step, _ in finite), tuple(value for _, value in finite))


def _read_json(lines: Iterable[bytes]) -> _Gathered:
    found = _Gathered()
    for line in lines:
        if line.strip():
            try:
                _add_record(found, json.loads(line.decode("utf-8")))
            except (ValueError, RecursionError):  # counted; RecursionError: thousands of brackets
                found.unread += 1
    return found


def _add_record(found: _Gathered, record: Any) -> None:
    """Add one record of metrics.jsonl, whole or not at all.

    Raises:
        ValueError: it is not what its type promises.
    """
    record = _dict(record)
    kind = _text(record.get("type"))
    if kind == "start":
        found.drop_after(_step(record.get("step")))
    elif kind == "train":
        losses = {_name(name): _number(value) for name, value in _dict(record.get("losses")).items()}
        found.add_losses(_step(record.get("step")), _number(record.get("lr")), losses)
    elif kind == "test":
        subset, weights = _text(record.get("set", "test")), _text(record.get("weights", ""))
        means = {name: _number(value) for name, value in _dict(record.get("mean")).items() if name in METRICS}
        step = _step(record.get("step"))
        if subset in SETS and weights in ("", *WEIGHTS.values()):
            found.add_scores(step, subset, weights, means)


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    return cast("dict[str, Any]", value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _name(value: str) -> str:
    """A name that can be shown and encoded: JSON allows control characters and halves of surrogate pairs."""
    if not value or not value.isprintable():
        raise ValueError("no name")
    return value


def _step(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_STEP:
        raise ValueError("no step")
    return value


def _number(value: Any) -> float:
    """A JSON number; null stands for one that is not finite."""
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError("no number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _read_text(lines: Iterable[bytes]) -> _Gathered:
    found = _Gathered()
    newest = -1
    for line in lines:
        if b"<epoch:" in line:
            try:
                newest = _add_line(found, line, newest)
            except ValueError:
                found.unread += 1
    return found


def _add_line(found: _Gathered, line: bytes, newest: int) -> int:
    """Add one line of train.log, whole or not at all.

    Args:
        newest: step of the line before, -1 at first.

    Returns:
        The step of this line.

    Raises:
        ValueError: it is torn or damaged.
    """
    match = _LINE.search(line.decode("utf-8", errors="replace").rstrip())
    if match is None or not line.endswith(b"\n"):  # without its end, a last number may lack digits
        raise ValueError("torn")
    step = _step(int(match[1].replace(",", "")))
    losses, scores = _LOSSES.fullmatch(match[2]), _SCORES.fullmatch(match[2])
    if losses is not None:
        rate = float(losses[1])
        pairs = re.findall(r"(\S+): (\S+)", losses[2])
        values = {_name(name): float(value) for name, value in pairs}
        _drop_repeated(found, step, newest)
        found.add_losses(step, rate, values)
    elif scores is not None:
        subset, *numbers, name = scores.groups()
        means = {metric: float(text) for metric, text in zip(METRICS, numbers, strict=True) if text is not None}
        _drop_repeated(found, step, newest)
        if subset is None or subset in SETS:
            found.add_scores(step, subset or "test", WEIGHTS.get(name or "", ""), means)
    else:
        raise ValueError("neither losses nor scores")
    return step


def _drop_repeated(found: _Gathered, step: int, newest: int) -> None:
    if step < newest:  # the run was started again before this step, and trains it anew
        found.drop_after(step - 1)
