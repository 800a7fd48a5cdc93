"""The card of a published model: a README.md with the metadata that the Hugging Face hub reads."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ValidationError

from swinlet.errors import DataError
from swinlet.evaluation.results import BICUBIC, INPUT, PUBLISHED_BICUBIC, TEACHER
from swinlet.evaluation.tables import HEADINGS, cell, piped
from swinlet.hub import PREFIX
from swinlet.metrics import METRICS
from swinlet.utils.files import MAX_RECORD, read_regular
from swinlet.utils.names import printable

OWN = "this model"
_BASELINES = (PUBLISHED_BICUBIC, INPUT, BICUBIC)  # the best known first; one is shown


@dataclass(frozen=True)
class ScoreTable:
    """Mean scores on one test set.

    Attributes:
        testset: its name.
        images: how many it has.
        rows: label -> ``METRICS`` -> mean, None where there is none; PSNR in dB.
        own: label of the published model's row.
    """

    testset: str
    images: int
    rows: Mapping[str, Mapping[str, float | None]]
    own: str = OWN

    def cells(self) -> list[list[str]]:
        """The table, its first row being headings."""
        table = [["", *HEADINGS.values()]]
        for label, means in self.rows.items():
            values = [means[metric] for metric in METRICS]
            table.append(
                [label, *("-" if v is None else cell(metric, v) for metric, v in zip(METRICS, values, strict=True))]
            )
        return table


@dataclass(frozen=True)
class PublishedModel:
    """All that its card says of a model.

    Attributes:
        name: title, on the hub ``user/model``.
        net_type, config: the network's, see ``SwinIR.config``.
        parameters: number of trained values.
        file, size, sha256: of the weights; the size in bytes.
        scores: on test sets.
        scored_with: how, where it is not the usual way, e.g. "self-ensemble x8".
        shipped: it comes with the package, rather than from the hub.
        licence: the hub's identifier, e.g. "apache-2.0".
        licence_text: more about it, as Markdown.
        teacher, data, log: what it learned from and how that went, as Markdown.
        command: that trained it, for a shell.
    """

    name: str
    net_type: str
    config: Mapping[str, Any]
    parameters: int
    file: str
    size: int
    sha256: str
    scores: Sequence[ScoreTable] = ()
    scored_with: str = ""
    shipped: bool = False
    licence: str | None = None
    licence_text: str | None = None
    teacher: str | None = None
    data: str | None = None
    command: str | None = None
    log: str | None = None

    @property
    def scale(self) -> int:
        """By which images are enlarged; 1: not at all."""
        return self.config["upscale"]

    @property
    def task(self) -> str:
        """What it does, in two words."""
        return f"super-resolution x{self.scale}" if self.scale > 1 else "image restoration"

    @property
    def address(self) -> str:
        """What loads it from the hub."""
        return PREFIX + self.name

    def architecture(self) -> list[list[str]]:
        """The network's arguments as a table, its first row being headings."""
        rows = [[key, _plain(value)] for key, value in self.config.items() if key != "drop_path_rate"]
        return [["", self.net_type], *rows]


def render_card(model: PublishedModel) -> str:
    """The card, as Markdown with YAML in front."""
    environment = Environment(
        loader=PackageLoader("swinlet", "."),
        autoescape=False,  # it is no HTML; names go through `quoted` and `piped`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"quoted": _quoted, "identifier": _identifier, "piped": piped}
    return environment.get_template("model_card.md").render(model=model, headings=HEADINGS)


class _Row(BaseModel):
    label: str
    mean: dict[str, float | None]
    images: dict[str, Any]


class _TestSet(BaseModel):
    name: str
    rows: list[_Row]


class _Model(BaseModel):
    label: str
    sha256: str


class _Evaluation(BaseModel):
    """What is used of the file that ``swinlet evaluate --json`` writes."""

    models: list[_Model]
    testsets: list[_TestSet]
    provenance: dict[str, Any]


def read_scores(path: Path, sha256: str, key: str = "--scores") -> tuple[list[ScoreTable], str]:
    """The scores of a model, of bicubic interpolation and of the teacher, from ``swinlet evaluate --json``.

    Args:
        path: the file.
        sha256: of the weight file that was scored.
        key: what named the file, for messages.

    Returns:
        A table for each test set, and how they were scored: the ``scored_with`` of a card.

    Raises:
        DataError: not such a file, or these weights are not in it.
        OSError: it cannot be read.
    """
    try:
        found = _Evaluation.model_validate_json(read_regular(path, MAX_RECORD))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DataError(f"{key}: {path} was not written by swinlet evaluate --json: {where} {fault['msg']}") from error
    own = next((model.label for model in found.models if model.sha256 == sha256), None)
    if own is None:
        raise DataError(
            f"{key}: {path} has no scores of these weights (SHA-256 {sha256[:16]}...): "
            "score them with swinlet evaluate --weights FILE --json FILE"
        )
    return [_table(testset, own) for testset in found.testsets], _conditions(found.provenance)


def _table(testset: _TestSet, own: str) -> ScoreTable:
    by_label = {row.label: row for row in testset.rows}
    baseline = next((label for label in _BASELINES if label in by_label), None)
    shown = {label: label for label in (baseline, TEACHER) if label in by_label} | {own: OWN}
    rows = {
        name: {metric: by_label[label].mean.get(metric) for metric in METRICS}
        for label, name in shown.items()
        if label in by_label
    }
    return ScoreTable(testset.name, len(testset.rows[0].images) if testset.rows else 0, rows)


def _conditions(provenance: Mapping[str, Any]) -> str:
    ways = ["self-ensemble x8"] if provenance.get("self_ensemble") else []
    ways += [f"tiles of {provenance['tile']}"] if provenance.get("tile") else []
    ways += [str(provenance["precision"])] if provenance.get("precision") not in (None, "fp32") else []
    return ", ".join(ways)


def _plain(value: object) -> str:
    return str(value).strip("()[]")


def _quoted(text: str) -> str:
    """A YAML string: whatever JSON quotes, YAML reads alike."""
    return json.dumps(printable(text), ensure_ascii=False)


def _identifier(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"
