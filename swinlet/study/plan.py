"""The runs of a study: where each is, what trains it, how far it is."""

import json
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swinlet.checkpoint import SealedSet, newest_sealed
from swinlet.errors import OptionError
from swinlet.options import Options, changed_keys, keys_without_effect, load_options, parse_options
from swinlet.study.spec import Study, Variant
from swinlet.utils.files import write_text
from swinlet.utils.run_lock import LOCK_FILE


@dataclass(frozen=True)
class Run:
    """One variant with one seed: an ordinary training run.

    Attributes:
        variant: what is trained.
        seed: its train.manual_seed.
        position: in the order of the study, from 0.
        root: folder of the variant's runs.
    """

    variant: Variant
    seed: int
    position: int
    root: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.variant.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """What the training writes."""
        return self.root / f"seed_{self.seed}"

    @property
    def option_file(self) -> Path:
        """What the training reads."""
        return self.root / f"seed_{self.seed}.json"

    @property
    def command(self) -> list[str]:
        """What trains it."""
        return [sys.executable, "-m", "swinlet", "train", "--opt", str(self.option_file)]

    @property
    def shown_command(self) -> str:
        """What a person would type."""
        return shlex.join(["swinlet", *self.command[3:]])

    def options(self, total_iter: int, teacher: Path | None = None) -> Options:
        """Of the run, all paths as in the base.

        Args:
            total_iter: its iterations.
            teacher: instead of the variant's own teacher, and of its stored answers.
        """
        tree = self.variant.options.model_dump(mode="json", by_alias=True, exclude_unset=True)
        train = {**tree.get("train", {}), "manual_seed": self.seed, "total_iter": total_iter}
        paths = {**tree.get("path", {}), "root": str(self.root)}
        tree |= {"task": self.folder.name, "train": train, "path": paths}
        if teacher is not None:
            paths["pretrained_netTeacher"] = str(teacher)
            tree.get("datasets", {}).get("train", {}).pop("dataroot_T", None)
        return _without_idle_keys(parse_options(tree, self.name), keep=[key for key, _ in self.variant.changes])


def plan_runs(study: Study) -> tuple[Run, ...]:
    """All runs, all variants of the first seed first: whatever is done when the study is stopped can be compared."""
    pairs = [(variant, seed) for seed in study.seeds for variant in study.variants]
    return tuple(
        Run(variant, seed, position, study.out / "runs" / variant.folder)
        for position, (variant, seed) in enumerate(pairs)
    )


@dataclass(frozen=True)
class Shard:
    """A part of the runs: the ``number``-th of ``count``, from 1."""

    number: int = 1
    count: int = 1

    def has(self, run: Run) -> bool:
        """Whether a run belongs to it."""
        return run.position % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """``2/8``.

    Raises:
        OptionError: it is something else.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise OptionError(f"--shard {text}: write NUMBER/COUNT, the number from 1 to the count, e.g. --shard 2/8")
    return Shard(int(found[1]), int(found[2]))


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        sealed: its newest whole checkpoint.
        total_iter: iterations it is to have; None: not known yet.
        is_locked: somebody is at work there, or ended without giving back the lock.
    """

    sealed: SealedSet | None
    total_iter: int | None
    is_locked: bool

    @property
    def step(self) -> int:
        """Iterations done and saved."""
        return 0 if self.sealed is None else self.sealed.step

    @property
    def is_finished(self) -> bool:
        """Nothing is left to train."""
        return self.total_iter is not None and self.step >= self.total_iter

    @property
    def state(self) -> str:
        """For people."""
        if self.is_finished:
            return "finished"
        total = "? (not decided yet)" if self.total_iter is None else str(self.total_iter)
        at_work = ", at work or ended without a word" if self.is_locked else ""
        return f"{'new' if self.step == 0 else f'stopped at {self.step}'} of {total}{at_work}"


@dataclass(frozen=True)
class PlannedRun:
    """A row of the plan.

    Attributes:
        run: the run.
        progress: how far it is.
        waits_for: runs that have to be finished before its iterations can be decided.
        is_here: it belongs to the shard.
    """

    run: Run
    progress: Progress
    waits_for: tuple[Run, ...]
    is_here: bool

    @property
    def state(self) -> str:
        """For people."""
        if self.waits_for:
            return f"waits for {' and '.join(run.name for run in self.waits_for)}"
        return self.progress.state


def progress_of(run: Run, total_iter: int | None) -> Progress:
    """Look at a run's folder. Checkpoints that are not whole count for nothing; the training tells of them."""
    sealed = newest_sealed(run.folder / "models", tell=lambda _: None)
    return Progress(sealed, total_iter, (run.folder / LOCK_FILE).exists())


def write_options(run: Run, options: Options) -> None:
    """Write the run's option file, unless it is there.

    Raises:
        OptionError: see ``refuse_changed_options``.
    """
    refuse_changed_options([(run, options)])
    tree = options.model_dump(mode="json", by_alias=True, exclude_unset=True)
    text = json.dumps(tree, indent=2) + "\n"
    if not run.option_file.exists() or run.option_file.read_text(encoding="utf-8", errors="replace") != text:
        write_text(run.option_file, text, shared=True)


def refuse_changed_options(runs: Sequence[tuple[Run, Options]]) -> None:
    """What was trained with other options stays; one run of each variant is named.

    Raises:
        OptionError: the study file, or its base, has changed since.
    """
    faults: dict[str, str] = {}
    for run, options in runs:
        changes = _changes_since(run, options)
        if changes:
            shown = "; ".join(changes[:4]) + ("; ..." if len(changes) > 4 else "")
            faults[run.variant.name] = (
                f"{run.name}: its options have changed since {run.folder} was begun ({shown}): name another folder in "
                f"out, or move {run.root} away to train this variant anew"
            )
    if faults:
        raise OptionError("\n".join(faults.values()))


def _changes_since(run: Run, options: Options) -> list[str]:
    """Keys that differ from those of what is in the run's folder, but for where that is: a study may be moved."""
    if not run.folder.exists():
        return []
    saved = [load_options(run.option_file)] if run.option_file.exists() else []
    sealed = newest_sealed(run.folder / "models", tell=lambda _: None)
    if sealed is not None and sealed.options:
        saved.append(_parsed(sealed.options, run))
    new = _without_idle_keys(options).model_dump(mode="json")
    olds = [_without_idle_keys(old).model_dump(mode="json") for old in saved]
    changes = [text for old in olds for text in changed_keys(old, new)]
    return list(dict.fromkeys(text for text in changes if not text.startswith("path.root:")))


def _without_idle_keys(options: Options, keep: Collection[str] = ()) -> Options:
    """Without keys that have no effect in this run: a base has some for other variants, and nobody need be warned.

    Args:
        options: of the run.
        keep: keys that were written for this variant alone.
    """
    tree = options.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for text in keys_without_effect(options):
        path = text.partition(" ")[0]
        *above, last = path.split(".")
        node: Any = tree
        for key in above:
            node = node.get(key, {})
        if path not in keep:
            node.pop(last, None)
    return parse_options(tree)


def _parsed(options: dict[str, Any], run: Run) -> Options:
    """Options of a checkpoint, which keys that came later lack."""
    tree = {key: value for key, value in options.items() if key != "schema_url"}
    return parse_options(tree, f"checkpoint in {run.folder / 'models'}")
