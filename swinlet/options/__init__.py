"""Option files: JSON with comments into typed, frozen objects. Imports no torch."""

from swinlet.options.effects import keys_without_effect
from swinlet.options.load import changed_keys, load_options, parse_options, parse_section, read_option_file
from swinlet.options.reference import json_schema, markdown_reference
from swinlet.options.schema import (
    Backend,
    DatasetOptions,
    DatasetsOptions,
    KeepOptions,
    NetworkOptions,
    Options,
    PathOptions,
    Precision,
    TrainOptions,
    UnlabelledOptions,
)

__all__ = [
    "Backend",
    "DatasetOptions",
    "DatasetsOptions",
    "KeepOptions",
    "NetworkOptions",
    "Options",
    "PathOptions",
    "Precision",
    "TrainOptions",
    "UnlabelledOptions",
    "changed_keys",
    "json_schema",
    "keys_without_effect",
    "load_options",
    "markdown_reference",
    "parse_options",
    "parse_section",
    "read_option_file",
]
