"""The option keys as documents: JSON Schema for editors, a page for people."""

import json
from typing import Any

from swinlet.options.names import PRESETS
from swinlet.options.schema import Options

_HEAD = """# Option keys

Written by `make schema` from `swinlet/options/schema.py`. An option file is JSON with comments and trailing commas.
`null` means the default, except where it is listed as a value. Paths may hold `~` and `${VAR}`, and are relative to the
folder in which the command runs. Any key can be changed on the command line: `train.total_iter=100`.
"""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of option files."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Options.model_json_schema()}


def markdown_reference() -> str:
    """A page with a table of keys for each section."""
    schema = json_schema()
    definitions = schema["$defs"]
    sections = [
        ("Top level", schema),
        ("path", definitions["PathOptions"]),
        ("datasets.train, datasets.test, datasets.val", definitions["DatasetOptions"]),
        ("datasets.unlabelled (see [distillation.md](distillation.md))", definitions["UnlabelledOptions"]),
        ("netG, netTeacher", definitions["NetworkOptions"]),
        ("train", definitions["TrainOptions"]),
        ("train.distillation.*type*, for each type", definitions["MethodOptions"]),
        ("train.distillation.dukd", definitions["UpcyclingOptions"]),
        ("train.keep_checkpoints (`null`, the default: all stay)", definitions["KeepOptions"]),
    ]
    return "\n".join([_HEAD, *(_table(title, section) for title, section in sections), _presets()])


def _presets() -> str:
    """What the keys of netG and netTeacher are where they are left out."""
    head = f"| key | {' | '.join(f'`{name}`' for name in PRESETS)} |"
    rows = [
        f"| `{key}` | {' | '.join(f'`{json.dumps(preset[key])}`' for preset in PRESETS.values())} |"
        for key in PRESETS["swinir"]
    ]
    text = (
        "Keys of `netG` and `netTeacher` that are left out; `upscale` and `in_chans` are the run's `scale` and "
        "`n_channels`. V2 differs in its blocks."
    )
    return "\n".join(["## Presets of `net_type`", "", text, "", head, "|---" * (len(PRESETS) + 1) + "|", *rows, ""])


def _table(title: str, section: dict[str, Any]) -> str:
    rows = [f"## {title}", "", "| key | value | default | meaning |", "|---|---|---|---|"]
    for key, field in section["properties"].items():
        if "$ref" in str(field):  # a section with a table of its own
            continue
        value = _value(field).replace("|", "\\|")
        default = f"`{json.dumps(field['default'])}`" if "default" in field else "required"
        rows.append(f"| `{key}` | {value} | {default} | {field['description']} |")
    return "\n".join([*rows, ""])


def _value(field: dict[str, Any]) -> str:
    """The values that a key takes, in words."""
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(dict.fromkeys(_value(member) for member in field[union]))
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if field.get("type") == "array":
        items = field.get("items") or field["prefixItems"][0]
        return f"list of {_value(items)}"
    kinds = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "`null`"}
    text = "path" if field.get("format") == "path" else kinds.get(field.get("type", ""), "anything")
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = " and ".join(f"{sign} {field[name]:g}" for name, sign in limits.items() if name in field)
    return f"{text} {bounds}".strip()
