"""From an option file (and overrides) to an ``Options`` object, or one error that names every faulty key."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, cast, get_args

import json5
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from swinlet.errors import OptionError
from swinlet.options.schema import ConflictError, Options, Section

SectionT = TypeVar("SectionT", bound=Section)
KeyPath = tuple[str, ...]

MAX_BYTES = 100_000
"""Of an option file; with all keys it has 5,000, and JSON with comments takes 40 seconds a megabyte to read."""

_LISTED = 100  # faults in a message

_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}  # as the reference's command line has them

_MESSAGES = {  # where pydantic speaks of Python rather than of option files
    "model_type": "must be a section {{...}}",
    "dict_type": "must be a section {{...}}",
    "tuple_type": "must be a list",
    "path_type": "must be a path",
    "int_parsing_size": "must have at most 64 bits",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} item(s)",
}


def load_options(path: str | Path, overrides: Sequence[str] = ()) -> Options:
    """Read an option file: JSON with comments and trailing commas (JSON5).

    Args:
        path: the file.
        overrides: ``key.path=value`` strings; the value is JSON, or else a plain string. A key that takes a string
            takes the value as it is written, so that ``task=123`` needs no quotes.

    Raises:
        OptionError: the file cannot be read or parsed, or any of its keys is wrong; all faults are named at once.
    """
    path = Path(path)
    tree = read_option_file(path)
    faults = [fault for override in overrides if (fault := _apply_override(tree, override))]
    options, more = _validate(Options, tree)
    if options is None or faults:
        raise _all_faults(f"{path} with the command line's changes" if overrides else str(path), [*faults, *more])
    return options


def read_option_file(path: Path) -> dict[str, Any]:
    """The object that a JSON file with comments holds, its keys unchecked.

    Raises:
        OptionError: it cannot be read or parsed.
    """
    try:
        with path.open("rb") as file:  # may be a pipe, as of a shell's <(...)
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise OptionError(f"{path}: cannot read the option file: {reason}") from error
    if len(content) > MAX_BYTES:
        raise OptionError(f"{path}: an option file has at most {MAX_BYTES:,} bytes: this is another file")
    if not text.strip():
        raise OptionError(f"{path}: the file is empty")
    try:
        data = json5.loads(text, allow_duplicate_keys=False)
    except ValueError as error:
        raise OptionError(_syntax_error(path, str(error))) from error
    except RecursionError as error:
        raise OptionError(f"{path}: not valid JSON: nested too deeply") from error
    if not isinstance(data, dict):
        raise OptionError(f"{path}: the file must hold one object {{...}}")
    return cast("dict[str, Any]", data)


def _syntax_error(path: Path, message: str) -> str:
    """``<string>:3 Unexpected ... at column 5`` in the form that editors and terminals make a link of."""
    found = re.fullmatch(r"<string>:(\d+) (.*) at column (\d+)", message, re.DOTALL)
    if found is None:
        return f"{path}: not valid JSON: {_printable(message)}"
    line, reason, column = found.groups()
    reason = _printable(reason.replace('"""', "'\"'"))
    return f"{path}:{line}:{column}: not valid JSON: {reason[:1].lower()}{reason[1:]}"


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
    section, faults = _validate(kind, data)
    if section is None:
        raise _all_faults(source, faults)
    return section


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


def _all_faults(source: str, faults: Sequence[str]) -> OptionError:
    more = [f"and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
    return OptionError("\n  ".join([f"{source}:", *faults[:_LISTED], *more]))


def _validate(kind: type[SectionT], data: object) -> tuple[SectionT | None, list[str]]:
    """The section, or every fault.

    pydantic leaves out the checks across keys where a key is faulty by itself. So faulty keys are taken out and what
    is left is validated again, until no fault is new; conflicts with a key that was taken out say nothing.
    """
    tree = _as_dicts(data)
    faults: dict[str, None] = {}  # an ordered set
    taken: list[KeyPath] = []
    while True:
        try:
            section = kind.model_validate(tree)
            return (None if faults else section), list(faults)
        except ValidationError as error:
            details = error.errors(include_url=False)
        taken_before = len(taken)
        for detail in details:
            conflicts = detail.get("ctx", {}).get("error")
            if isinstance(conflicts, ConflictError):
                _, section_path = _resolve(kind, detail)
                for conflict in conflicts.conflicts:
                    keys = [(*section_path, *key.split(".")) for key in conflict.keys]
                    if not any(key[: len(path)] == path for key in keys for path in taken):
                        faults[f"{_show(keys[0])}: {conflict.text}{_defaults_among(kind, tree, keys)}"] = None
                    taken += [key for key in keys if _take(tree, key) == key]
            else:
                path = _resolve(kind, detail)[1]
                if path not in taken and not _is_echo(detail):
                    faults[_describe(kind, detail)] = None
                gone = _take(tree, path)
                taken += [gone] if gone else []
        if len(taken) == taken_before:
            return None, list(faults)


def _defaults_among(kind: type[Section], tree: object, keys: Sequence[KeyPath]) -> str:
    """Which keys of a conflict nobody wrote: their defaults take part in it."""
    defaults: list[str] = []
    for path in keys:
        field, node = _field(kind, path), tree
        for key in path:
            node = cast("dict[str, Any]", node).get(key) if isinstance(node, dict) else None
        if node is None and field is not None and isinstance(field.default, int | float | str) and field.default != "":
            defaults.append(f"{_show(path)} is {json.dumps(field.default)} by default")
    return f" ({', '.join(defaults)})" if defaults else ""


def _is_echo(detail: ErrorDetails) -> bool:
    """A list whose items are faulty is also reported as too short, for pydantic counts only the good ones."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail.get("ctx", {})["min_length"]


def _as_dicts(data: object) -> Any:
    """A copy whose mappings are all dicts with string keys."""
    if isinstance(data, Mapping):
        return {str(key): _as_dicts(value) for key, value in cast("Mapping[object, object]", data).items()}
    return data


def _take(tree: object, path: KeyPath) -> KeyPath:
    """Delete the deepest key on a path, and return the path to it; () if there is none.

    What cannot be entered is deleted whole: the list around a faulty item, the section around a missing key.
    """
    parents: list[dict[str, Any]] = []
    node: object = tree
    for key in path:
        if not isinstance(node, dict) or key not in node:
            break
        parents.append(cast("dict[str, Any]", node))
        node = parents[-1][key]
    found = path[: len(parents)]
    if found:
        del parents[-1][found[-1]]
    return found


def _apply_override(tree: dict[str, Any], override: str) -> str | None:
    """Put one ``key.path=value`` into the tree; a text if that cannot be done."""
    key_path, separator, text = override.partition("=")
    *parents, last = path = key_path.split(".")
    if not separator or not all(path):
        return f"override {override!r}: write key.path=value, e.g. train.total_iter=100"
    for depth in range(1, len(path)):
        field = _field(Options, path[:depth])
        if field is not None and _section_of(field) is None:
            return f"override {override!r}: {'.'.join(path[:depth])} is not a section"
    node = tree
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        if not isinstance(node[parent], dict):
            return f"override {override!r}: {parent} is not a section of the option file"
        node = cast("dict[str, Any]", node[parent])
    node[last] = _override_value(_field(Options, path), text)
    return None


def _override_value(field: FieldInfo | None, text: str) -> object:
    try:
        value = json5.loads(_PYTHON_WORDS.get(text, text), allow_duplicate_keys=False)
    except (ValueError, RecursionError):
        return text
    # Only quotes and null are JSON for a key that takes a string: a folder may be called 2024 or true.
    kinds = {*get_args(field.annotation)} or {field.annotation} if field is not None else {None}
    takes_text = kinds <= {str, Path, NoneType}
    return text if takes_text and value is not None and not isinstance(value, str) else value


def _field(kind: type[BaseModel], path: Sequence[str]) -> FieldInfo | None:
    """The declaration of a key, if there is such a key."""
    model: type[BaseModel] | None = kind
    field = None
    for key in path:
        field = _fields(model).get(key)
        if field is None:
            return None
        model = _section_of(field)
    return field


def _fields(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    return {} if model is None else {field.alias or name: field for name, field in model.model_fields.items()}


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    candidates = (field.annotation, *get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _describe(kind: type[BaseModel], detail: ErrorDetails) -> str:
    model, path = _resolve(kind, detail)
    where = _show(path)
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key{_hint(kind, model, path[-1])}"
    if detail["type"] == "missing":
        return f"{where}: missing"
    message = _MESSAGES.get(detail["type"], "").format(**detail.get("ctx", {}))
    message = message or detail["msg"].removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]} (got {_given(detail['input'])})"


def _given(value: object) -> str:
    try:
        text = _printable(json.dumps(value, default=str, ensure_ascii=False))
    except (ValueError, RecursionError):  # Python refuses to write numbers of thousands of digits
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hint(kind: type[BaseModel], model: type[BaseModel] | None, key: str) -> str:
    """What may have been meant by an unknown key of a section."""
    known = {name.lower(): name for name in _fields(model)}
    near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.6)
    if near:
        return f", did you mean {known[near[0]]}?"
    elsewhere = [path for path in _all_keys(kind) if path[-1] == key]
    if elsewhere:
        return f" here, did you mean {' or '.join(map(_show, elsewhere))}?"
    if len(known) > 20:
        return " ('swinlet schema' lists the known ones)"
    return f" (known: {', '.join(sorted(known.values()))})"


def _all_keys(kind: type[BaseModel], above: KeyPath = ()) -> Iterator[KeyPath]:
    for name, field in _fields(kind).items():
        yield (*above, name)
        section = _section_of(field)
        if section is not None:
            yield from _all_keys(section, (*above, name))


def _resolve(kind: type[BaseModel], detail: ErrorDetails) -> tuple[type[BaseModel] | None, KeyPath]:
    """The section that holds the faulty key, and the key's path without the union members that pydantic adds."""
    model: type[BaseModel] | None = kind
    path: list[str] = []
    section = model
    for part in detail["loc"]:
        if isinstance(part, str) and model is None:
            continue  # the name of a union's member
        path.append(str(part))
        section = model
        field = _fields(model).get(str(part))
        model = None if field is None else _section_of(field)
    return section, tuple(path)


def _show(path: Sequence[str]) -> str:
    """A key path for people; keys that are no plain names are quoted."""
    path = [key if len(key) <= 100 else f"{key[:97]}..." for key in path]
    return ".".join(key if re.fullmatch(r"[\w$][\w-]*", key) else _printable(json.dumps(key)) for key in path)


def _printable(text: str) -> str:
    """One line that any terminal and log file takes: line ends, halves of surrogate pairs and the like as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
