"""The runs that a report is about: curves, options, weights."""

import json
import os
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from swinlet.checkpoint import newest_weights
from swinlet.errors import DataError, OptionError
from swinlet.evaluation.results import RESERVED
from swinlet.options import DatasetOptions, Options, load_options
from swinlet.report.history import History, read_history
from swinlet.utils.names import distinct, printable

LONGEST = 200  # characters of an option's value that are shown


@dataclass(frozen=True)
class Run:
    """One run, or what is left of it.

    Attributes:
        label: A, B, C, ... or as given.
        path: its folder, or the log file.
        history: its curves.
        options: None where there is no option file, or it cannot be read.
        weights: the newest to deploy; None where there are none.
        problems: what is wrong with it, for people.
    """

    label: str
    path: Path
    history: History
    options: Options | None
    weights: Path | None
    problems: list[str] = field(default_factory=list[str])

    @property
    def name(self) -> str:
        """Of its folder; of the file where only that was given."""
        return printable(Path(os.path.abspath(self.path)).name)

    @property
    def steps(self) -> int:
        """The last iteration that is recorded."""
        curves = [self.history.learning_rate, *self.history.losses.values(), *self.history.scores.values()]
        return max(curve.steps[-1] for curve in curves if curve.steps)

    @property
    def translator(self) -> Path | None:
        """Weights of ``netP``, saved with ``weights``."""
        if self.weights is None:
            return None
        path = self.weights.with_name(f"{self.weights.name.partition('_')[0]}_P.pth")
        return path if path.is_file() else None


def open_runs(words: Sequence[tuple[str | None, Path]]) -> tuple[list[Run], list[str]]:
    """Open runs; those without curves become problems.

    Args:
        words: label, where one was given, and path of each: the folder of a run, its metrics.jsonl, or a train.log.
    """
    runs: list[Run] = []
    problems: list[str] = []
    for label, (_, path) in zip(_labels([label for label, _ in words]), words, strict=True):
        try:
            runs.append(_open(label, path))
        except DataError as error:
            problems.append(str(error))
    return runs, problems


def _open(label: str, path: Path) -> Run:
    history = read_history(path)
    if not path.is_dir():
        return Run(label, path, history, None, None)
    problems: list[str] = []
    options = None
    file = _newest_options(path / "options")
    if file is not None:
        try:
            options = load_options(file)
        except OptionError as error:
            problems.append(str(error))
    return Run(label, path, history, options, newest_weights(path / "models", problems.append), problems)


def _newest_options(folder: Path) -> Path | None:
    files = sorted(folder.glob("*.json"), key=lambda file: (file.stat().st_mtime, file.name))
    return files[-1] if files else None


def _labels(given: Sequence[str | None]) -> Iterator[str]:
    """A, B, C, ... by place, but what was given where something was; all different, none reserved."""
    given = [None if label is None else printable(label) for label in given]
    wanted = {label for label in given if label is not None}
    letters = iter([letter for letter in string.ascii_uppercase if letter not in wanted])
    used = set(RESERVED)
    for place, asked in enumerate(given, start=1):
        label = asked or next(letters, f"run {place}")
        if label in used:
            label = distinct(label, used | wanted)
        used.add(label)
        yield label


def options_table(runs: Iterable[Run]) -> list[list[str]]:
    """How options differ from the defaults: a row for each key, then the default, then each run; headings first.

    Keys in which the runs differ come first. A run that has the default shows nothing. Where options are unknown, the
    run is left out.
    """
    known = [run for run in runs if run.options is not None]
    defaults = _defaults()
    trees = [_flat(cast("Options", run.options).model_dump(mode="json", by_alias=True)) for run in known]
    keys = dict.fromkeys(key for tree in trees for key in tree if key != "$schema")
    headings = ["key", "default", *(run.label for run in known)]
    differing: list[list[str]] = []
    common: list[list[str]] = []
    for key in keys:
        default = defaults.get(key)
        values = [tree.get(key, default) for tree in trees]
        if any(value != default for value in values):
            preset = default is None and key.startswith(("netG.", "netTeacher."))
            shown = "preset" if preset else _shown(default)
            row = [key, shown, *("" if value == default else _shown(value) for value in values)]
            (common if all(value == values[0] for value in values) else differing).append(row)
    return [headings, *differing, *common]


def _defaults() -> dict[str, Any]:
    """Defaults by key path, those of sections that are not there by default included."""
    tree = _flat(Options().model_dump(mode="json", by_alias=True))
    section = DatasetOptions(dataroot_H=Path()).model_dump(mode="json", exclude={"dataroot_H"})
    return tree | {
        f"datasets.{name}.{key}": value for name in ("train", "test", "val") for key, value in section.items()
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
