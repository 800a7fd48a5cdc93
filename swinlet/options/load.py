"""From an option file (and overrides) to an ``Options`` object, or one error that names every faulty key."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import json5
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from swinlet.errors import OptionError
from swinlet.options.schema import Options, Section

SectionT = TypeVar("SectionT", bound=Section)


def load_options(path: str | Path, overrides: Sequence[str] = ()) -> Options:
    """Read an option file: JSON with comments and trailing commas (JSON5).

    Args:
        path: the file.
        overrides: ``key.path=value`` strings; the value is JSON, or else a plain string.

    Raises:
        OptionError: the file cannot be read or parsed, or any of its keys is wrong; all faults are named at once.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: cannot read the option file: {error}") from error
    try:
        data = json5.loads(text, allow_duplicate_keys=False)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise OptionError(f"{path}: the file must hold one object {{...}}, not a {type(data).__name__}")
    tree = cast("dict[str, Any]", data)
    for override in overrides:
        _apply_override(tree, override)
    return parse_options(tree, source=str(path))


def parse_options(data: Mapping[str, Any] | Options, source: str = "options") -> Options:
    """Validate a mapping with the keys of an option file; an ``Options`` object passes through.

    Raises:
        OptionError: every faulty key with its path.
    """
    return data if isinstance(data, Options) else parse_section(Options, data, source)


def parse_section(kind: type[SectionT], data: Mapping[str, Any], source: str) -> SectionT:
    """Validate one section, e.g. ``netG``.

    Raises:
        OptionError: every faulty key with its path.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines: dict[str, None] = {}  # an ordered set: a union reports the same fault once for each member
        for detail in error.errors(include_url=False):
            lines.update(dict.fromkeys(_describe(kind, detail)))
        raise OptionError("\n  ".join([f"{source}:", *lines])) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of option files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Options.model_json_schema()}


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Paths of the keys in which two option trees (``Options.model_dump(mode="json")``) differ."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from changed_keys(
                cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after), f"{prefix}{key}."
            )
        elif before != after:
            yield f"{prefix}{key}: {json.dumps(before)} -> {json.dumps(after)}"


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key_path, separator, text = override.partition("=")
    if not separator or not all(key_path.split(".")):
        raise OptionError(f"override {override!r}: write key.path=value, e.g. train.total_iter=100")
    try:
        value = json5.loads(text)
    except ValueError:
        value = text
    *parents, last = key_path.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise OptionError(f"override {override!r}: {parent} is not a section of the option file")
        node = cast("dict[str, Any]", child)
    node[last] = value


def _describe(kind: type[BaseModel], detail: ErrorDetails) -> list[str]:
    keys = [str(part) for part in detail["loc"]]
    model, path = _resolve(kind, keys)
    where = ".".join(path)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _known_keys(model), n=1, cutoff=0.6)
        hint = f", did you mean {near[0]}?" if near else f" (known: {', '.join(sorted(_known_keys(model)))})"
        return [f"{where}: unknown key{hint}"]
    if detail["type"] == "missing":
        return [f"{where}: missing"]
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error" and model is not None and _is_model(kind, keys):
        # Raised by a section's own check, whose lines begin with the key's path below that section.
        prefix = f"{where}." if where else ""
        return [prefix + line for line in message.splitlines()]
    shown = json.dumps(detail["input"], default=str)
    return [f"{where}: {message[:1].lower()}{message[1:]} (got {shown[:60]})"]


def _known_keys(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items() if name != "perceptual_keys"]


def _resolve(kind: type[BaseModel], keys: list[str]) -> tuple[type[BaseModel] | None, list[str]]:
    """The section that holds the last key, and the path without the names of union members that pydantic adds."""
    model: type[BaseModel] | None = kind
    path: list[str] = []
    for i, key in enumerate(keys):
        field = None
        if model is not None:
            field = next((f for n, f in model.model_fields.items() if key in (n, f.alias)), None)
        if field is None:
            if model is not None or key.isdigit():
                path.append(key)
            continue
        path.append(key)
        if i < len(keys) - 1:
            candidates = (field.annotation, *get_args(field.annotation))
            model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return model, path


def _is_model(kind: type[BaseModel], keys: list[str]) -> bool:
    """Whether the path ends at a section rather than at a value."""
    model, _ = _resolve(kind, [*keys, ""])
    return model is not None
