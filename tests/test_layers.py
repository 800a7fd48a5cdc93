"""The house rules that a reader relies on: imports point downwards, nothing prints, no file is a stranger."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import swinlet

PACKAGE = Path(__file__).resolve().parents[1] / "swinlet"

# From top to bottom. A module may import from its own group and from those below it.
LAYERS = [
    ["swinlet.__main__"],
    ["swinlet.cli"],
    ["swinlet.report", "swinlet.publish", "swinlet.study", "swinlet.teach", "swinlet.web"],
    ["swinlet.model_card"],
    ["swinlet.train", "swinlet.evaluation", "swinlet.export", "swinlet.upscale", "swinlet.installation"],
    ["swinlet.watch"],
    ["swinlet.validation", "swinlet.utils.run_log"],
    ["swinlet.models.select_model"],
    ["swinlet.models.model_plain"],
    ["swinlet.distillation"],
    ["swinlet.models.select_teacher"],
    ["swinlet.engines"],
    ["swinlet.models.open_network"],
    ["swinlet.models.select_network"],
    ["swinlet.models", "swinlet.data", "swinlet.inference"],
    ["swinlet.kernels", "swinlet.tiles"],
    ["swinlet.find_weights"],
    [
        "swinlet.checkpoint",
        "swinlet.hub",
        "swinlet.weights",
        "swinlet.archive",
        "swinlet.prefixes",
        "swinlet.metrics",
        "swinlet.statistics",
        "swinlet.schedules",
    ],
    ["swinlet.utils"],
    ["swinlet.options"],
    ["swinlet.errors"],
]
PUBLIC = "swinlet"  # its __init__ offers names of many layers, and its version to all
# Side by side in one layer, but strangers to each other.
STRANGERS = [("swinlet.models", "swinlet.data"), ("swinlet.data", "swinlet.models")]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def layer(module: str) -> int:
    """Index of the group with the longest name that the module lies in."""
    matches = [
        (len(entry), i)
        for i, group in enumerate(LAYERS)
        for entry in group
        if module == entry or module.startswith(entry + ".")
    ]
    assert matches, f"{module} is in no layer: add it to LAYERS and to docs/architecture.md"
    return max(matches)[1]


def imports(tree: ast.Module) -> Iterator[str]:
    """Full names of the modules that are imported, in whichever form."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (origin(node.module or "", alias.name) for alias in node.names)


def origin(module: str, name: str) -> str:
    """The module that ``from module import name`` reaches: a submodule, or the one behind a name of the package."""
    if f"{module}.{name}" in NAMES:
        return f"{module}.{name}"
    return swinlet._WHERE.get(name, module) if module == PUBLIC else module


ALL = [(name, tree) for name, tree in modules() if name != PUBLIC]
NAMES = {name for name, _ in ALL}


def check_directions(name: str, tree: ast.Module) -> None:
    for target in imports(tree):
        if not target.startswith("swinlet.") or target == name:
            continue
        assert layer(target) >= layer(name), f"{name} imports {target}, which lies above it"
        for one, other in STRANGERS:
            assert not (name.startswith(one) and target.startswith(other)), f"{name} imports {target}, a stranger"


def check_light(name: str, tree: ast.Module) -> None:
    if name.startswith(("swinlet.options", "swinlet.errors", "swinlet.cli")):
        heavy = {"torch", "accelerate"} & {target.partition(".")[0] for target in imports(tree)}
        assert not heavy, f"{name} has to do without {heavy}"


def check_silent(name: str, tree: ast.Module) -> None:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], f"{name} prints"


CHECKS = [check_directions, check_light, check_silent]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("name", "tree"), ALL, ids=[name for name, _ in ALL])
def test_house_rules(name: str, tree: ast.Module, check: Callable[[str, ast.Module], None]) -> None:
    check(name, tree)


def check_all(name: str, source: str) -> None:
    for check in CHECKS:
        check(name, ast.parse(source))


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("swinlet.checkpoint", "import swinlet.train", "imports swinlet.train, which lies above it"),
        ("swinlet.checkpoint", "from swinlet.train import train", "imports swinlet.train, which lies above it"),
        ("swinlet.checkpoint", "from swinlet import train", "imports swinlet.train, which lies above it"),
        ("swinlet.checkpoint", "from swinlet import __version__, define_Model", "select_model, which lies above it"),
        ("swinlet.models.model_plain", "from swinlet.models import select_model", "select_model, which lies above it"),
        ("swinlet.options.load", "def f():\n    from swinlet import utils", "swinlet.utils, which lies above it"),
        ("swinlet.models.init", "import swinlet.data.augment", "imports swinlet.data.augment, a stranger"),
        ("swinlet.models.init", "from swinlet.data import augment", "imports swinlet.data.augment, a stranger"),
        ("swinlet.data.augment", "from swinlet import models", "imports swinlet.models, a stranger"),
        ("swinlet.data.augment", "from . import dataset_sr", "imports are absolute"),
        ("swinlet.options.load", "from torch.nn import Module", "has to do without {'torch'}"),
        ("swinlet.data.augment", "def f():\n    print(1)", "prints"),
    ],
)
def test_violations_are_seen(name: str, source: str, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        check_all(name, source)


def test_harmless_sources_pass() -> None:
    source = "import torch\nfrom swinlet import __version__, errors\nfrom swinlet.models import init\nlog.print(1)"
    check_all("swinlet.models.model_plain", source)
