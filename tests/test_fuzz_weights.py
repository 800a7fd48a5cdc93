"""Damaged and hostile weight files, optimiser states and manifests: a network, or one clear error; never more."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

import swinlet
from swinlet import archive
from swinlet.checkpoint import newest_sealed, read_best, write_best, write_set
from swinlet.errors import CheckpointError, OptionError
from swinlet.evaluation.models import NamedFile, open_contenders
from swinlet.inference import RestoreOptions
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.models.open_network import open_any_network, open_network, open_weights
from swinlet.models.optimizer import define_optimizer, load_moments, take_moments
from swinlet.options import NetworkOptions, TrainOptions, parse_options
from swinlet.prefixes import without_prefix
from swinlet.weights import WeightFile, load_into, read_pth, read_weight_file, recorded_network
from tests.fuzz import attempt, fuzz, mutated

NET: dict[str, Any] = {"embed_dim": 4, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "upscale": 2}
STATE: dict[str, Tensor] = dict(SwinIR(**NET, upsampler="pixelshuffledirect").state_dict())
FC1 = "layers.0.residual_group.blocks.0.mlp.fc1.weight"


def saved(content: object, **words: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **words)
    return buffer.getvalue()


def entries(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {entry.filename: opened.read(entry) for entry in opened.infolist()}


def packed(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_pickle(content: bytes) -> bytes:
    """An archive as of torch.save whose pickle is this one; checksums are right."""
    return packed(entries(ZIP) | {PICKLE: content})


def with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + SAFE[8 + HEADER :]


ZIP = saved({"params": STATE})
OLD = saved({"params": STATE}, _use_new_zipfile_serialization=False)
SAFE = safetensors.torch.save(STATE, {"net_type": "swinir", "config": json.dumps({"img_range": 1.0})})
HEADER = struct.unpack("<Q", SAFE[:8])[0]
PICKLE = next(name for name in entries(ZIP) if name.endswith("data.pkl"))


def opened(path: Path) -> SwinIR:
    return open_network(read_weight_file(path, "key"), default_type="swinir")


def refused(folder: Path, content: bytes, name: str = "x.pth") -> str:
    (folder / name).write_bytes(content)
    message = attempt("weights, by hand", lambda: opened(folder / name), CheckpointError)
    assert message is not None
    assert message.startswith(f"key: {folder / name}")
    assert "\n" not in message
    return message


# Fuzzers


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("zip.pth", mutated(ZIP)),
        ("pickle.pth", mutated(entries(ZIP)[PICKLE]).map(with_pickle)),
        ("old.pth", mutated(OLD)),
        ("file.safetensors", mutated(SAFE)),
        ("header.safetensors", mutated(SAFE[8 : 8 + HEADER]).map(with_header)),
    ],
)
def test_any_damage_is_a_network_or_an_error(
    name: str, contents: st.SearchStrategy[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name

    @fuzz(100)
    @given(contents)
    def try_one(content: bytes) -> None:
        path.write_bytes(content)
        message = attempt(f"weights, damaged {name}", lambda: opened(path), CheckpointError)
        if message is not None:
            assert message.startswith(f"key: {path}")
            assert "\n" not in message

    try_one()


DTYPES = [*(torch.float32, torch.float64, torch.float16, torch.bool, torch.complex64, torch.int64, torch.float8_e5m2)]
SHAPES = st.lists(st.integers(0, 5), max_size=4) | st.sampled_from([tuple(tensor.shape) for tensor in STATE.values()])
VALUES = st.sampled_from([0.0, 1.0, float("nan"), 1e300])


def full(shape: Sequence[int], value: float, dtype: torch.dtype) -> Tensor:
    return torch.full(tuple(shape), value, dtype=torch.float64).to(dtype)


# For a tensor: none, one of its own shape, or another.
CHANGES = st.dictionaries(
    st.sampled_from(sorted(STATE)),
    st.none() | st.tuples(st.none() | SHAPES, VALUES, st.sampled_from(DTYPES)),
    min_size=1,
    max_size=3,
)
EMPTY = {FC1: ((0,), 0.0, torch.float32)}
PARTS = ["", "module", "_orig_mod", "net_g", "net_g_ema", "netE", "a", "conv_first", "conv_first.weight", "\ud800", "."]
NAMES = st.lists(st.sampled_from(PARTS) | st.text(max_size=2), max_size=4).map(".".join)
PREFIXES = st.sampled_from(["", "net_g.", "module._orig_mod."]) | NAMES


@fuzz(100)
@given(CHANGES, st.sampled_from([{}, {"net_type": "swinir", "upscale": 2, "mlp_ratio": 2.0}]), PREFIXES)
@example(EMPTY, {}, "")
@example(EMPTY, {"net_type": "swinir", "upscale": 2, "mlp_ratio": 2.0}, "net_g.")
def test_any_tensors_are_a_network_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], section: dict[str, Any], prefix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "tensors.pth"
    changed = {name: it and full(it[0] or STATE[name].shape, *it[1:]) for name, it in changes.items()}
    state = {prefix + name: tensor for name, tensor in (STATE | changed).items() if tensor is not None}
    torch.save(state, path)

    def read() -> None:
        with suppress(OptionError):  # the section contradicts the file
            open_network(
                read_weight_file(path, "key"),
                default_type="swinir",
                section=NetworkOptions(**section) if section else None,
            )

    attempt("weights, other tensors", read, CheckpointError)


@fuzz(100)
@given(st.lists(st.tuples(NAMES, st.sampled_from(sorted(STATE)) | NAMES), max_size=8), PREFIXES)
def test_any_names_are_a_network_or_an_error(others: list[tuple[str, str]], prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    state |= {f"{before}{name}": STATE["conv_first.bias"] for before, name in others}

    def read() -> None:
        file = WeightFile(Path("x"), "key: x", without_prefix(state, "key: x"), "")
        open_network(file, default_type="swinir")

    message = attempt("weights, other names", read, CheckpointError)
    assert message is None or message.startswith("key: x")


def optimizer() -> torch.optim.Optimizer:
    parameter = nn.Parameter(torch.ones(2, 3))
    made = define_optimizer(TrainOptions(), [parameter])
    parameter.grad = torch.ones(2, 3)
    made.step()
    return made


MOMENTS = saved(optimizer().state_dict())


@fuzz(100)
@given(mutated(entries(MOMENTS)[PICKLE]).map(lambda content: packed(entries(MOMENTS) | {PICKLE: content})))
def test_any_optimiser_state_is_taken_over_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "optimizer.pth"
    path.write_bytes(content)
    made = optimizer()
    if attempt("optimiser states", lambda: load_moments(made, path, "key"), CheckpointError) is None:
        made.step()


ODD: list[Any] = [
    *(None, True, "x", -1.0, 10**400, float("nan"), [], [1], {}, {"a": 1}, torch.zeros(()), torch.zeros(0)),
    *(torch.tensor([1, 2]), torch.tensor(1j), torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.complex64)),
]
PLACES = st.sampled_from(["state", "param_groups", 0, 1, "step", "exp_avg", "exp_avg_sq"])


@fuzz(100)
@given(st.lists(st.tuples(PLACES, st.sampled_from(ODD) | st.integers(-2, 2) | SHAPES.map(torch.ones)), max_size=4))
def test_any_content_of_an_optimiser_state_is_taken_over_or_an_error(changes: list[tuple[Any, Any]]) -> None:
    made = optimizer()
    state: Any = optimizer().state_dict()
    moments: dict[Any, Any] = dict(state["state"][0])
    entries: dict[Any, Any] = {0: moments}
    whole: dict[Any, Any] = {**state, "state": entries}
    for place, value in changes:
        level = entries if isinstance(place, int) else moments if place in moments else whole
        level[place] = moments if place == 1 else value
    if attempt("optimiser states, other content", lambda: take_moments(made, whole, "key"), CheckpointError) is None:
        made.step()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("GE") | st.text(max_size=3), inner),
    max_leaves=5,
)
EXTRA = ["distillation_weights", "distillation_shares", "skipped", "scaler", "options", "psnr_y", "file"]
MANIFEST = {"step": 2, "files": {"G": {"name": "2_G.pth", "sha256": "0"}}, "network": {"net_type": "swinir"}}


@fuzz(100)
@given(
    mutated(json.dumps(MANIFEST).encode())
    | st.tuples(st.sampled_from([*MANIFEST, *EXTRA]), JSON).map(
        lambda it: json.dumps(MANIFEST | {it[0]: it[1]}).encode()
    )
)
def test_any_manifest_is_a_set_or_passed_over(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "manifest"
    folder.mkdir(exist_ok=True)
    (folder / "2_G.pth").write_bytes(ZIP)
    for name in ("2.json", "best.json"):
        (folder / name).write_bytes(content)

    def read() -> None:
        newest_sealed(folder, str.encode)
        read_best(folder)
        recorded_network(folder / "2_G.pth")

    assert attempt("manifests", read, CheckpointError) is None


# Found by fuzzing, or by thought


def pth_of(program: bytes) -> bytes:
    return with_pickle(b"\x80\x02" + program + b".")


@pytest.mark.parametrize(
    ("program", "named"),
    [
        (b"ctorch\nFloatTensor\nM\xff\xff\x85\x81", "torch.FloatTensor"),
        (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R", "bytearray"),
        (b"ccollections\nCounter\n(tR", "collections.Counter"),
        (b"c_codecs\nencode\n(tR", "_codecs.encode"),
    ],
)
def test_constructors_of_any_size_are_refused_by_name(tmp_path: Path, program: bytes, named: str) -> None:
    assert named in refused(tmp_path, pth_of(program))


def test_a_tuple_that_takes_for_ever_to_compare_is_refused(tmp_path: Path) -> None:
    doubled = b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    assert "tuple of more than 10,000 values" in refused(tmp_path, pth_of(b"}K\1q\0" + doubled + b"K\1s"))
    deep = b"K\1" + b"\x85" * 20_000
    assert "tuple of more than 10,000 values" in refused(tmp_path, pth_of(b"}" + deep + b"K\1s"))


def test_a_million_keys_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = b"".join(b"X\6\0\0\0%06dK\1" % i for i in range(700_000))
    assert archive.MAX_OPERATIONS == 2_000_000
    monkeypatch.setattr(archive, "MAX_OPERATIONS", 20_000)  # to go through two million takes seconds
    assert "more than 20,000 objects" in refused(tmp_path, pth_of(b"}(" + names * 2 + b"u"))
    state = {f"layers.0.residual_group.blocks.{i}.x": torch.zeros(0) for i in range(20_001)}
    assert "more than 20,000" in refused(tmp_path, safetensors.torch.save(state), "x.safetensors")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    assert "no network weights (found: list)" in refused(tmp_path, pth_of(b"]" + b"]" * 10**5 + b"a" * 10**5))
    deep = b'{"__metadata__":' + b"[" * 10**5
    assert "not a readable safetensors file" in refused(tmp_path, with_header(deep), "x.safetensors")


def test_numbers_with_many_digits_are_no_names(tmp_path: Path) -> None:
    number = b"\x8a\xff" + b"\x7f" * 255
    assert "(found: int, 5)" in refused(tmp_path, pth_of(b"}" + number + b"K\1sK\5K\1s"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(entries(ZIP), zipfile.ZIP_DEFLATED), "compressed"),
        (packed({"a/data.pkl": bytes(10**8)}, zipfile.ZIP_DEFLATED), "compressed"),
        (packed({"a.txt": b"hello"}), "not in a subdirectory"),
        (ZIP[:-30], "truncated or damaged"),
    ],
)
def test_odd_archives_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refused(tmp_path, content)


def test_entries_that_overlap_are_refused(tmp_path: Path) -> None:
    """One stretch of the file under many names: a megabyte would become many."""
    content = bytearray(packed({f"archive/data/{i}": bytes(1000 * (i == 0)) for i in range(9)}))
    first = content.index(b"PK\1\2")
    head = content[first : first + 46]
    for at in range(first, len(content)):
        if content[at : at + 4] == b"PK\1\2":
            content[at + 16 : at + 28] = head[16:28]  # checksum and sizes
            content[at + 42 : at + 46] = head[42:46]
    assert "claim to be larger than the file" in refused(tmp_path, bytes(content))


@pytest.mark.parametrize("length", [2**64 - 1, 2**40, 10**8])
def test_headers_that_claim_much_are_refused(tmp_path: Path, length: int) -> None:
    assert "not a readable safetensors file" in refused(tmp_path, struct.pack("<Q", length) + SAFE[8:], "x.safetensors")


def test_shapes_of_a_huge_network_in_a_small_file_are_refused(tmp_path: Path) -> None:
    wide = STATE | {"conv_first.weight": torch.zeros(60_000, 3, 3, 3)}
    assert "values, more than 1,000,000,000" in refused(tmp_path, saved(wide))
    table = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"
    assert "window_size: 500 is more than 256" in refused(tmp_path, saved(STATE | {table: torch.zeros(999**2, 1)}))
    masked = STATE | {"layers.0.residual_group.blocks.1.attn_mask": torch.zeros(10**12, 0)}
    assert "attn_mask is empty: (1000000000000, 0)" in refused(tmp_path, saved(masked))
    names = {f"layers.0.residual_group.blocks.{i}.x": torch.zeros(1) for i in range(1, 999)}
    assert "the shapes do not fit" in refused(tmp_path, saved(STATE | names))
    medium = STATE | {"conv_first.weight": torch.zeros(2048, 3, 3, 3)}  # allowed, but nothing of it is there
    assert "does not fit the network" in refused(tmp_path, saved(medium))


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0, 3, 3)])
def test_an_empty_tensor_is_refused_by_name(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Found by the fuzzer, with ``mlp.fc1.weight``: KeyError."""
    for name in STATE:
        assert f"{name} is empty: {shape}" in refused(tmp_path, saved(STATE | {name: torch.zeros(shape)}))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 1), (2, 2, 2), (1, 1, 1, 1, 1), (7, 4, 3, 3)])
def test_tensors_of_another_rank_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Whatever an option file says of them: the file is at fault, and damaged sizes are not compared with options."""
    section = NetworkOptions(net_type="swinir", upscale=2, img_size=4, mlp_ratio=2.0)
    for name, tensor in STATE.items():
        if tensor.shape != shape and not name.startswith("layers.1."):
            file = WeightFile(tmp_path / "x.pth", "key: x", STATE | {name: torch.zeros(shape)}, "")
            with pytest.raises(CheckpointError, match="key: x"):
                open_network(file, section=section)


def test_damaged_tensors_wherever_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"params": STATE | {FC1: torch.zeros(0)}}, path)
    net = NET | {"net_type": "swinir", "upsampler": "pixelshuffledirect"}

    def start(**paths: Path) -> None:
        kind = "response" if "pretrained_netTeacher" in paths else "none"
        train = {"distillation_type": kind, "G_optimizer_reuse": True}
        tree = {"gpu_ids": None, "scale": 2, "path": paths, "netG": net, "train": train}
        swinlet.define_Model(parse_options(tree)).init_train()

    readers = {
        "path.pretrained_netG": lambda: start(pretrained_netG=path),
        "path.pretrained_netE": lambda: start(pretrained_netE=path),
        "path.pretrained_netTeacher": lambda: start(pretrained_netTeacher=path),
        "path.pretrained_optimizerG": lambda: start(pretrained_optimizerG=path),
        "weights": lambda: swinlet.load(path),
        "--weights": lambda: open_weights(path, "--weights"),
        "--teacher": lambda: open_any_network(read_weight_file(path, "--teacher")),
    }
    for key, read in readers.items():
        with pytest.raises(CheckpointError, match=rf"^{key}: {path}"):
            read()
    contenders, problems = open_contenders(
        [NamedFile(str(path))], None, scale=None, net_types={}, options=RestoreOptions(torch.device("cpu"))
    )
    assert not contenders
    assert problems[0].startswith(f"--weights: {path}")
    with pytest.raises(CheckpointError, match=r"0\.weight is \(0,\), not \(3, 2\)"):
        load_into(Translator([(2, 3)]), {"0.weight": torch.zeros(0), "0.bias": torch.zeros(3)}, strict=True, source="x")


def test_one_tensor_under_many_names_is_refused(tmp_path: Path) -> None:
    one = torch.zeros(max(tensor.numel() for tensor in STATE.values()))
    shared = {name: one[: tensor.numel()].view(tensor.shape) for name, tensor in STATE.items()}
    assert "its tensors share values" in refused(tmp_path, saved(shared))


def test_blocks_share_the_derived_buffers(tmp_path: Path) -> None:
    net = SwinIR(**NET, img_size=2)
    torch.save({"params": net.official_state_dict()}, tmp_path / "x.pth")
    assert opened(tmp_path / "x.pth").config["depths"] == (1, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float) -> None:
    state = {"weight": torch.full((1, 1), value, dtype=torch.float64), "bias": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"^x: weight holds values that are no numbers"):
        load_into(nn.Linear(1, 1), state, strict=False, source="x")


def odd_moments() -> Iterator[object]:
    """Something else in every place of a state."""
    good = optimizer().state_dict()
    moments = good["state"][0]
    for odd in ODD:
        yield from (odd, {"state": odd}, good | {"state": {0: odd}})
        yield from (good | {"state": {0: moments | {key: odd}}} for key in moments)
        if not isinstance(odd, list | dict):
            yield good | {"state": {odd: moments}}
    yield from (good | {"state": {0: {other: moments[other] for other in moments if other != key}}} for key in moments)


def test_anything_else_in_a_state_is_an_error_or_a_state() -> None:
    """IndexError of a tensor that is no dict, RuntimeError of one that is a key, before."""

    def take(state: object) -> None:
        made = optimizer()
        take_moments(made, state, "key: x")
        made.step()

    for state in odd_moments():
        message = attempt("optimiser states, by hand", partial(take, state), CheckpointError)
        assert message is None or message.startswith("key: x")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("distillation_weights", value) for value in (5, None, {"a": "x"}, {"a": float("nan")}, {"a": 10**400})),
        *(("skipped", value) for value in ([1], None, {"total": "many"}, {"in_a_row": -1})),
        *(("distillation_shares", {"a": []}), ("scaler", 7), ("scaler", {"scale": None})),
    ],
)
def test_manifests_from_which_no_run_can_go_on_are_passed_over(tmp_path: Path, key: str, value: object) -> None:
    write_set(tmp_path, 1, {"G": STATE}, {})
    write_set(tmp_path, 2, {"G": STATE}, {key: value})
    told: list[str] = []
    sealed = newest_sealed(tmp_path, told.append)
    assert sealed is not None
    assert sealed.step == 1
    assert f"2.json: {key}" in told[0]
    assert "\n" not in told[0]


@pytest.mark.parametrize("change", [{"exp_avg": float("nan")}, {"step": float("nan")}, {"step": -1.0}])
def test_moments_that_are_no_numbers_are_refused(tmp_path: Path, change: dict[str, float]) -> None:
    state = optimizer().state_dict()
    for name, value in change.items():
        state["state"][0][name] = torch.full_like(state["state"][0][name], value)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="no moments of Adam"):
        load_moments(optimizer(), tmp_path / "x.pth", "key")


def test_moments_saved_as_weights_to_be_trained_are_values(tmp_path: Path) -> None:
    """Found by the fuzzer: torch warns of a step that wants a gradient."""
    made = optimizer()
    state = made.state_dict()
    state["state"][0] = {name: value.clone().requires_grad_() for name, value in state["state"][0].items()}
    torch.save(state, tmp_path / "x.pth")
    again = optimizer()
    load_moments(again, tmp_path / "x.pth", "key")
    taken = again.state_dict()["state"][0]
    assert not any(value.requires_grad for value in taken.values())
    assert all(torch.equal(taken[name], value) for name, value in state["state"][0].items())


@pytest.mark.parametrize("img_range", [float("nan"), float("inf"), -1, 0, True, 10**400, "1", None, [1]])
def test_records_that_make_no_sense_are_passed_over(tmp_path: Path, img_range: object) -> None:
    record = {"network": {"net_type": "swinir", "img_range": img_range}}
    (tmp_path / "2.json").write_text(json.dumps(record))
    assert recorded_network(tmp_path / "2_G.pth").img_range is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_refused_and_waited_for_by_nobody(tmp_path: Path) -> None:
    for name in ("x.pth", "x.safetensors", "3.json", "3_G.pth", "best.json"):
        os.mkfifo(tmp_path / name)
    for name in ("x.pth", "x.safetensors"):
        with pytest.raises(CheckpointError, match="it is a pipe or a device, not an ordinary file"):
            read_weight_file(tmp_path / name, "key")
        assert recorded_network(tmp_path / name).net_type is None
    assert recorded_network(tmp_path / "3_G.pth").net_type is None
    told: list[str] = []
    assert newest_sealed(tmp_path, told.append) is None
    assert "3.json: not a readable manifest" in told[0]
    assert read_best(tmp_path) is None
    with pytest.raises(CheckpointError, match="it is a pipe or a device"):
        read_pth(Path("/dev/zero"), "key")


def test_files_over_the_limit_are_refused_whatever_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "x.pth").open("wb") as file:
        file.truncate(2_000_000)
    monkeypatch.setenv("SWINLET_MAX_WEIGHTS_GB", "0.001")
    with pytest.raises(
        CheckpointError, match=r"more than 1,000,000 bytes \(SWINLET_MAX_WEIGHTS_GB raises the limit\)$"
    ):
        read_pth(tmp_path / "x.pth", "key")
    for wrong in ("x", "-1", "nan", "1e99"):
        monkeypatch.setenv("SWINLET_MAX_WEIGHTS_GB", wrong)
        with pytest.raises(CheckpointError, match="SWINLET_MAX_WEIGHTS_GB: must be a number of gigabytes"):
            read_pth(tmp_path / "x.pth", "key")


def test_weights_stay_whole_when_their_file_is_cut_later(tmp_path: Path) -> None:
    """A mapped file would end the process with a bus error."""
    (tmp_path / "x.safetensors").write_bytes(SAFE)
    state = read_weight_file(tmp_path / "x.safetensors", "key").state
    (tmp_path / "x.safetensors").write_bytes(b"")
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_a_pickle_of_another_program(tmp_path: Path) -> None:
    assert "which is refused for safety" in refused(tmp_path, pickle.dumps({"a": {1, 2}, "b": b"x"}, protocol=2))


def test_sealed_sets_with_huge_manifests_are_passed_over(tmp_path: Path) -> None:
    write_set(tmp_path, 1, {"G": STATE}, {})
    write_best(tmp_path, "E", STATE, {"psnr_y": 1.0})
    for name in ("2.json", "best.json"):
        with (tmp_path / name).open("ab") as file:
            file.truncate(10**12)
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 1
    assert read_best(tmp_path) is None
