"""The house rules that a reader relies on: imports point downwards, nothing prints, no file is a stranger."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "swinlet"

# From top to bottom. A module may import from its own group and from those below it.
LAYERS = [
    ["swinlet.cli"],
    ["swinlet.train"],
    ["swinlet.validation", "swinlet.utils.run_log"],
    ["swinlet.models.select_model"],
    ["swinlet.models.model_plain"],
    ["swinlet.distillation"],
    ["swinlet.models.select_teacher"],
    ["swinlet.models.select_network"],
    ["swinlet.models", "swinlet.data"],
    ["swinlet.checkpoint", "swinlet.metrics", "swinlet.schedules"],
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
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


ALL = [(name, tree) for name, tree in modules() if name != PUBLIC]


@pytest.mark.parametrize(("name", "tree"), ALL, ids=[name for name, _ in ALL])
def test_imports_point_downwards(name: str, tree: ast.Module) -> None:
    for target in imports(tree):
        if not target.startswith("swinlet.") or target == name:
            continue
        assert layer(target) >= layer(name), f"{name} imports {target}, which lies above it"
        for one, other in STRANGERS:
            assert not (name.startswith(one) and target.startswith(other)), f"{name} imports {target}"


def test_options_and_errors_need_no_torch() -> None:
    for name, tree in ALL:
        if name.startswith(("swinlet.options", "swinlet.errors", "swinlet.cli")):
            assert not {"torch", "accelerate"} & {target.partition(".")[0] for target in imports(tree)}, name


@pytest.mark.parametrize(("name", "tree"), ALL, ids=[name for name, _ in ALL])
def test_nothing_prints(name: str, tree: ast.Module) -> None:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], name


def test_the_rule_can_fail() -> None:
    assert layer("swinlet.train") < layer("swinlet.models.model_plain") < layer("swinlet.data.dataset_sr")
    assert layer("swinlet.models.network_swinir") > layer("swinlet.distillation.task")
