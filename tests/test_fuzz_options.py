"""Damaged and hostile option files: options with which a run could begin, or one error that names file or key."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from swinlet.errors import OptionError
from swinlet.models.network_swinir import SwinIR
from swinlet.models.select_network import define_G
from swinlet.options import NetworkOptions, Options, keys_without_effect, load_options, parse_options, parse_section
from swinlet.options.load import _section_of  # pyright: ignore[reportPrivateUsage]
from swinlet.schedules import learning_rate
from tests.fuzz import attempt, fuzz, mutated

ROOT = Path(__file__).resolve().parents[1]
FILES = [path.read_bytes() for path in sorted((ROOT / "options").glob("train_*.json"))]

SMALL: dict[str, Any] = {
    "task": "run",
    "gpu_ids": [0],
    "path": {"root": "out"},
    "datasets": {
        "train": {"dataroot_H": "a"},
        "unlabelled": {"dataroot": "d"},
        "test": {"dataroot_H": "b"},
        "val": {"dataroot_H": "c"},
    },
    "netG": {"embed_dim": 4, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "img_size": 4},
    "netTeacher": {"net_type": "swinir"},
}


def leaves(kind: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key that is no section."""
    for name, field in kind.model_fields.items():
        path, section = (*above, field.alias or name), _section_of(field)
        if section is None:
            yield path
        else:
            yield from leaves(section, path)


LEAVES = [*leaves(Options), ("train", "F_x")]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 4, 8, 7, 2**31, 2**62, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1.5, 1e-300),
    *(1e99, 1e101, 1e308, math.inf, -math.inf, math.nan, "", " ", "a", "l1", "x" * 300, "x/" * 3000, "\0", "\ud800"),
    *(
        "../..",
        "~",
        "${HOME}",
        "${" * 50,
        "\x1b[2J",
        "é" * 200,
        [],
        [1],
        [0],
        [-1],
        [2**62],
        [2**63],
        [10**400],
        [1e99],
    ),
    *([1.5], ["a"], [None], [[0, 0]], [[0, 2**62]], [[0]], [1] * 2000, [2**62] * 300, [[[[]]]], {}, {"a": 1}, [{}]),
]


def changed(path: tuple[str, ...], value: Any, tree: dict[str, Any] | None = None) -> dict[str, Any]:
    tree = json.loads(json.dumps(SMALL)) if tree is None else tree
    node = tree
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return tree


def begin(opt: Options) -> None:
    """What a run does with its options before it needs files: everything here is cheap."""
    keys_without_effect(opt)
    saved = opt.model_dump(mode="json", by_alias=True)
    assert parse_options(json.loads(json.dumps(saved))).model_dump(mode="json", by_alias=True) == saved
    assert len(str(opt.run_dir)) < 5000
    for step in {1, 2, 1000, opt.train.total_iter}:
        assert math.isfinite(learning_rate(opt.train, step))
    started = time.monotonic()
    net = define_G(opt)
    assert isinstance(net, SwinIR)
    assert time.monotonic() - started < 10


def is_small(opt: Options) -> bool:
    """Whether the network is built in no time, or refused."""
    net = opt.netG
    return (net.embed_dim or 60) <= 8 or (net.embed_dim or 60) > 2**16


def try_tree(what: str, tree: dict[str, Any]) -> str | None:
    def go() -> None:
        opt = parse_options(tree)
        if is_small(opt):
            begin(opt)

    return attempt(what, go, OptionError)


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_every_key_with_every_kind_of_value(path: tuple[str, ...]) -> None:
    for value in VALUES:
        message = try_tree("option keys, by list", changed(path, value))
        if message is not None and message.startswith("options:"):
            assert path[-1] in message, message
            assert len(message) < 10_000


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@fuzz(200)
@given(st.dictionaries(st.sampled_from(LEAVES), ANY, min_size=1, max_size=3))
def test_several_keys_at_once(changes: dict[tuple[str, ...], Any]) -> None:
    tree = changed(("task",), "run")
    for path, value in changes.items():
        tree = changed(path, value, tree)
    try_tree("option keys, several", tree)


@fuzz(200)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "embed_dim": st.integers(1, 8) | st.integers(2**16),
            "depths": st.lists(st.integers(1, 3), min_size=1, max_size=3) | st.lists(st.integers(1), min_size=1),
            "num_heads": st.lists(st.integers(1, 4), min_size=1, max_size=3),
            "window_size": st.integers(1, 12) | st.integers(1),
            "img_size": st.integers(1, 100) | st.integers(1),
            "mlp_ratio": st.floats(0, 4, exclude_min=True) | st.floats(0, exclude_min=True, allow_infinity=False),
            "img_range": st.floats(0, exclude_min=True, allow_infinity=False),
            "upsampler": st.sampled_from(["pixelshuffle", "pixelshuffledirect", "nearest+conv", ""]),
            "resi_connection": st.sampled_from(["1conv", "3conv"]),
            "upscale": st.sampled_from([1, 2, 3, 4, 8]),
            "ape": st.booleans(),
            "init_type": st.sampled_from(["default", "interpolation", "orthogonal", "xavier_normal"]),
            "init_gain": st.floats(0, exclude_min=True, allow_infinity=False),
        },
    )
)
def test_networks_of_any_size_are_small_or_refused(section: dict[str, Any]) -> None:
    def go() -> None:
        opt = parse_section(NetworkOptions, SMALL["netG"] | {"upscale": 2, "in_chans": 3} | section, "netG")
        define_G(opt)

    attempt("networks", go, OptionError)


TOKENS = [
    *"{}[]:,\"'/*\n\\",
    "//",
    "/*",
    "*/",
    "null",
    "NaN",
    "Infinity",
    "1e999",
    "-",
    "0x",
    "\ufeff",
    "\0",
    '"task":',
]
TEXTS = st.lists(st.sampled_from(TOKENS) | st.text(max_size=3), max_size=40).map("".join)
ENCODINGS = st.sampled_from(["utf-8", "utf-16", "utf-32", "latin-1", "utf-8-sig"])


@fuzz(200)
@given(
    mutated(*FILES, json.dumps(SMALL).encode())
    | st.builds(lambda text, encoding: text.encode(encoding, "replace"), TEXTS, ENCODINGS)
    | st.binary(max_size=200)
)
def test_whole_files(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "options.json"
    path.write_bytes(content)

    def go() -> None:
        opt = load_options(path)
        if is_small(opt):
            begin(opt)

    message = attempt("option files", go, OptionError)
    assert message is None or message.startswith((str(path), "netG."))


# Found by fuzzing, or by thought


def refused(tree: dict[str, Any]) -> str:
    message = try_tree("option files, by hand", tree)
    assert message is not None
    return message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("embed_dim", 10**9, "netG.embed_dim: 1000000000 is more than 65536"),
        ("embed_dim", 60_000, "netG.embed_dim: 60000 makes a network of"),
        ("img_size", 10**9, "netG.img_size: 1000000000 is more than 65536"),
        ("img_size", 60_000, "netG.img_size: 60000 makes a network of"),
        ("window_size", 10**6, "netG.window_size: 1000000 is more than 256"),
        ("window_size", 200, "netG.window_size: 200 makes a network of"),
        ("mlp_ratio", 1e99, "netG.mlp_ratio: 1e+99 is more than 1024"),
        ("depths", [10**9, 1], "netG.depths: 1000000001 blocks are more than 1000"),
        ("depths", [1] * 2000, "netG.depths: 2000 blocks are more than 1000"),
    ],
)
def test_a_network_of_terabytes_is_refused_by_its_key(key: str, value: object, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        define_G(parse_options(changed(("netG", key), value)))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_network_too_narrow_for_its_first_weights_is_refused_by_its_key() -> None:
    with pytest.raises(OptionError, match=r"^netG\.embed_dim: init_type 'interpolation' needs at least 3$"):
        define_G({"embed_dim": 2, "depths": [1], "num_heads": [1], "init_type": "interpolation"})


def test_batches_of_terabytes_are_refused() -> None:
    message = refused(changed(("datasets", "train", "dataloader_batch_size"), 10**9))
    assert (
        "datasets.train.dataloader_batch_size: with H_size 96, a batch has 2.76e+04 GB of pixels, more than 4"
        in message
    )


def test_learning_rates_beyond_all_numbers_are_refused() -> None:
    tree = changed(("train",), {"G_scheduler_gamma": 1e60, "G_scheduler_milestones": [1, 2], "total_iter": 10})
    assert "train.G_scheduler_gamma: 1e+60 makes the learning rate larger than 1e+100" in refused(tree)


def test_numbers_that_python_refuses_to_write(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"train": {"total_iter": 0x%s}}' % ("f" * 5000))  # 6,000 digits
    with pytest.raises(OptionError, match=r"train\.total_iter: must have at most 64 bits \(got a huge int\)$"):
        load_options(path)


@pytest.mark.parametrize("key", ["F_\n", "F_\x1b[2J", "F_" + "x" * 200])
def test_keys_that_no_log_can_show_are_refused(key: str) -> None:
    """Keys that begin with F_ are accepted, and named in a warning."""
    assert "unknown key" in refused(changed(("train", key), 1))


def test_huge_files_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(OptionError, match=r"an option file has at most 100,000 bytes: this is another file$"):
        load_options(path)


def test_thousands_of_faults_are_counted(tmp_path: Path) -> None:
    message = refused({f"k{i}": 1 for i in range(1000)} | {"k" * 10**5: 1})
    assert message.endswith("\n  and 901 more")
    assert len(message) < 50_000


@pytest.mark.parametrize("name", ["\x1b[2J", "\ud800", "a\nb", "x" * 300])
def test_names_that_no_log_can_show_are_refused(name: str) -> None:
    assert "datasets.train.name: must be printable" in refused(changed(("datasets", "train", "name"), name))


@pytest.mark.parametrize("path", [("task",), ("path", "root"), ("datasets", "test", "dataroot_H")])
def test_names_that_no_disk_can_hold_are_refused(path: tuple[str, ...]) -> None:
    assert f"{'.'.join(path)}: is too long" in refused(changed(path, "x" * 256))
