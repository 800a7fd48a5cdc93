"""The study file: a base option file, named variants of it, seeds, test sets."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, Strict

from swinlet.errors import OptionError
from swinlet.evaluation.results import RESERVED
from swinlet.hub import is_hub_word
from swinlet.options import Options, parse_options, parse_section, read_option_file
from swinlet.options.schema import Bool, Conflict, FilePath, Section, expand_path
from swinlet.utils.files import sha256_of

OWN_KEYS = ("train.manual_seed", "path.root", "task")
"""What the study itself sets for each run."""

PAIRED_KEYS = (
    *OWN_KEYS,
    "train.total_iter",
    *(
        f"datasets.train.{key}"
        for key in (
            "dataroot_H",
            "dataroot_L",
            "H_size",
            "dataloader_batch_size",
            "dataloader_shuffle",
            "on_bad_image",
        )
    ),
    "scale",
    "n_channels",
    "netG.upscale",
    "netG.in_chans",
)
"""What the runs of one seed have to share."""

MAX_NAME = 60  # characters of a variant's name, which becomes a folder's

Change = tuple[str, Any]
"""A key path of an option file, and its new value."""


def _teacher_word(word: str) -> str:
    return word if is_hub_word(word) else str(expand_path(word))


class VariantSection(Section):
    """One way to train."""

    options: dict[str, Any] = Field(default_factory=dict, description="Changes to the base: nested or dotted keys.")
    equal_time: str | None = Field(
        default=None, description="Train as many iterations as take the time that this variant's runs take."
    )
    untrained_teacher: Bool = Field(default=False, description="Learn from a teacher with random weights.")


class StudySection(Section):
    """A study file."""

    base: FilePath = Field(description="Option file that all runs have in common; relative to the study file.")
    out: FilePath = Field(description="Folder of the study; relative to the working directory, as path.root.")
    options: dict[str, Any] = Field(default_factory=dict, description="Changes to the base for all variants.")
    seeds: Annotated[tuple[Annotated[int, Strict(), Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = Field(
        description="train.manual_seed of the runs."
    )
    reference: str = Field(description="The variant that the others are compared with.")
    teacher: Annotated[str, AfterValidator(_teacher_word)] | None = Field(
        default=None, description="Weights whose score is the top of the gap, as of swinlet evaluate --teacher."
    )
    testsets: Annotated[tuple[FilePath, ...], Field(min_length=1)] = Field(
        description="Folders as of swinlet evaluate --testset; relative to the study file."
    )
    weights: Literal["E", "G"] = Field(
        default="E",
        description="Scored, of the last iteration: the moving averages (G where no variant has one), or the raw ones.",
    )
    variants: Annotated[dict[str, Any], Field(min_length=1)] = Field(description="By name.")

    def conflicts(self) -> Iterator[Conflict]:
        """A reference that is no variant; seeds or test sets given twice."""
        if self.reference not in self.variants:
            yield Conflict(("reference", "variants"), f"must be one of {', '.join(self.variants)}")
        twice = [str(seed) for seed, count in Counter(self.seeds).items() if count > 1]
        if twice:
            yield Conflict(("seeds",), f"{', '.join(twice)} given twice")
        folders = Counter(os.path.normpath(folder) for folder in self.testsets)
        if again := [folder for folder, count in folders.items() if count > 1]:
            yield Conflict(("testsets",), f"{', '.join(again)} given twice")


@dataclass(frozen=True)
class Variant:
    """One way to train, checked.

    Attributes:
        name: as in the study file.
        folder: name of the folder of its runs.
        changes: to the base and the changes for all.
        options: of its runs, but for what the study sets: seed, folder, and iterations where ``equal_time``.
        equal_time: the variant whose time it is to take.
        untrained_teacher: it is to learn from random weights.
    """

    name: str
    folder: str
    changes: tuple[Change, ...]
    options: Options
    equal_time: str | None = None
    untrained_teacher: bool = False


@dataclass(frozen=True)
class Study:
    """A study file, checked, its paths resolved.

    Attributes:
        path, sha256: of the study file.
        base, base_sha256: the option file.
        out: folder of everything that is written.
        seeds: in the order in which they are trained.
        reference: name of the variant that others are compared with.
        teacher: word for weights, as of ``find_weights``.
        testsets: folders, as of ``open_testset``.
        weights: label of what is scored.
        variants: in the order of the file, then those that are tried.
        tried: names of variants that are not in the file.
    """

    path: Path
    sha256: str
    base: Path
    base_sha256: str
    out: Path
    seeds: tuple[int, ...]
    reference: str
    teacher: str | None
    testsets: tuple[Path, ...]
    weights: Literal["E", "G"]
    variants: tuple[Variant, ...]
    tried: tuple[str, ...]

    @property
    def results(self) -> Path:
        """Folder of results.json; what is tried does not stand in the study's own."""
        return self.out / f"try_{'_'.join(self.tried)}" if self.tried else self.out

    def variant(self, name: str) -> Variant:
        """The variant of a name that is known to be there."""
        return next(variant for variant in self.variants if variant.name == name)

    @property
    def options(self) -> Options:
        """Of the reference: scale and channels, which all variants share."""
        return self.variant(self.reference).options


def load_study(path: Path, tried: Sequence[str] = ()) -> Study:
    """Read a study file (JSON with comments) and its base, and check the options of all variants.

    Args:
        path: the file.
        tried: distillation types that are variants as well, under their own names.

    Raises:
        OptionError: naming every fault by variant and key.
    """
    content = read_option_file(path)
    tried = tuple(dict.fromkeys(tried))
    if tried and isinstance(content.get("variants"), dict):
        given = cast("dict[str, Any]", content["variants"])
        if known := [name for name in tried if name in given]:
            raise OptionError(f"--try {known[0]}: {path} has a variant of this name: leave --try {known[0]} out")
        content["variants"] = given | {name: {"options": {"train.distillation_type": name}} for name in tried}
    section = parse_section(StudySection, content, str(path))
    base = path.parent / section.base
    try:
        tree = read_option_file(base)
    except OptionError as error:
        raise OptionError(f"{path}: base: {error}") from error
    tree.pop("$schema", None)  # relative to the base
    parse_options(tree, str(base))
    tree = _with_changes(tree, _checked_changes(section.options, OWN_KEYS, f"{path}: options"))
    if parse_options(tree, f"{path}: options, on {base}").datasets.train is None:
        raise OptionError(f"{base}: datasets.train: missing: there is nothing to train on")
    teacher = section.teacher
    variants = _variants(section, tree, path)
    return Study(
        path=path,
        sha256=_sha256(path),
        base=base,
        base_sha256=_sha256(base),
        out=section.out,
        seeds=section.seeds,
        reference=section.reference,
        teacher=teacher if teacher is None or is_hub_word(teacher) else str(path.parent / teacher),
        testsets=tuple(path.parent / folder for folder in section.testsets),
        weights=_scored_weights(section, variants, path),
        variants=variants,
        tried=tried,
    )


def _scored_weights(section: StudySection, variants: Sequence[Variant], path: Path) -> Literal["E", "G"]:
    """What all variants have: moving averages are not compared with raw weights."""
    without = [variant.name for variant in variants if variant.options.train.E_decay == 0]
    if section.weights == "G" or len(without) == len(variants):
        return "G"
    if without:
        raise OptionError(
            f'{path}: weights: "E", but {", ".join(without)} has no moving average (train.E_decay is 0): set weights '
            'to "G", which compares the raw weights of all'
        )
    return "E"


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror}") from error


def _variants(section: StudySection, tree: dict[str, Any], path: Path) -> tuple[Variant, ...]:
    variants: list[Variant] = []
    faults: list[str] = []
    folders: dict[str, str] = {}
    for name, content in section.variants.items():
        where = f"{path}: variants.{name}" if name.isprintable() else f"{path}: variants.{name!r}"
        try:
            folder = _folder_of(name, where)
            if folder.casefold() in folders:
                raise OptionError(f"{where}: its folder would be that of {folders[folder.casefold()]!r}: rename one")
            folders[folder.casefold()] = name
            variants.append(_variant(name, folder, content, tree, where))
        except OptionError as error:
            faults.append(str(error))
    faults += [fault for variant in variants for fault in _faults_of_time(variant, section, path)]
    if faults:
        raise OptionError("\n".join(faults))
    return tuple(variants)


def _folder_of(name: str, where: str) -> str:
    """A folder's name that says which variant's it is."""
    if not name.isprintable() or len(name) > MAX_NAME or name in RESERVED:
        why = f"{name!r} stands for something else in tables" if name in RESERVED else "cannot be a name"
        raise OptionError(f"{where}: {why}: choose another, printable, of at most {MAX_NAME} characters")
    folder = re.sub(r"[^\w.-]+", "_", name).strip("._-")
    if not folder:
        raise OptionError(f"{where}: cannot be a name: it needs a letter or digit")
    return folder


def _variant(name: str, folder: str, content: object, tree: dict[str, Any], where: str) -> Variant:
    if not isinstance(content, Mapping):
        raise OptionError(f'{where}: must be a section, e.g. {{"options": {{"train.distillation_type": "none"}}}}')
    section = parse_section(VariantSection, cast("Mapping[str, Any]", content), where)
    changes = _checked_changes(section.options, PAIRED_KEYS, f"{where}.options")
    options = parse_options(_with_changes(tree, changes), f"{where}.options, on the base")
    return Variant(name, folder, changes, options, section.equal_time, section.untrained_teacher)


def _faults_of_time(variant: Variant, section: StudySection, path: Path) -> Iterator[str]:
    """What is wrong with ``equal_time``."""
    other = variant.equal_time
    if other is None:
        return
    where = f"{path}: variants.{variant.name}.equal_time"
    if variant.name == section.reference:
        yield f"{where}: the reference has the base's iterations: give it to another variant"
    if other not in section.variants or other == variant.name:
        others = ", ".join(name for name in section.variants if name != variant.name)
        yield f"{where}: must be another variant ({others})"
    elif isinstance(target := section.variants[other], dict) and "equal_time" in target:
        yield f"{where}: {other} is such a control itself: name the variant whose time it has"
    if variant.options.train.G_scheduler_type != "cosine":
        kind = variant.options.train.G_scheduler_type
        yield (
            f"{where}: train.G_scheduler_type is {kind}, whose steps do not follow the number of iterations: "
            'set it to "cosine" in options, for all variants'
        )


def _checked_changes(changes: Mapping[str, Any], refused: Sequence[str], where: str) -> tuple[Change, ...]:
    """Changes by key path.

    Raises:
        OptionError: a key that may not be changed, or is given twice.
    """
    found = tuple(_flat(changes))
    paths = [path for path, _ in found]
    faults: list[str] = []
    for path in dict.fromkeys(paths):
        shared = next((key for key in refused if _overlap(path, key)), None)
        if not all(path.split(".")):
            faults.append(f"{path!r}: write key.path, e.g. train.distillation_type")
        elif shared in OWN_KEYS:
            faults.append(f"{path}: the study sets {shared} for each run: leave it out")
        elif shared is not None:
            faults.append(f"{path}: runs of one seed are compared, so {shared} must be the same in all variants")
    faults += [
        f"{paths[i]}: given twice" for i in range(1, len(paths)) if any(_overlap(paths[i], p) for p in paths[:i])
    ]
    if faults:
        raise OptionError("\n".join(f"{where}.{fault}" for fault in faults))
    return found


def _flat(changes: Mapping[str, Any], above: str = "") -> Iterator[Change]:
    for key, value in changes.items():
        if isinstance(value, dict) and value:
            yield from _flat(cast("dict[str, Any]", value), f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _overlap(one: str, other: str) -> bool:
    """Whether two key paths are the same, or one of them is a section that holds the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _with_changes(tree: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """A copy of an option tree with other values at some key paths."""
    result = deepcopy(dict(tree))
    for path, value in changes:
        *parents, last = path.split(".")
        node = result
        for parent in parents:
            if not isinstance(node.get(parent), dict):  # missing, or null
                node[parent] = {}
            node = cast("dict[str, Any]", node[parent])
        node[last] = value
    return result
