"""Weight files of every make, hostile and broken ones, and sets that are complete or not at all."""

import errno
import io
import json
import logging
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from swinlet.checkpoint import SealedSet, newest_sealed, prune, unsealed_steps, write_best, write_file, write_set
from swinlet.errors import CheckpointError
from swinlet.options import KeepOptions
from swinlet.utils.files import write_atomic
from swinlet.weights import load_into, read_pth, read_weights

A = {"a.weight": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
OTHER = {"a.weight": torch.tensor([9.0, 9.0]), "b": torch.tensor(9.0)}


@pytest.fixture(autouse=True)
def _log_reaches_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("swinlet"), "propagate", True)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Reading weights


@pytest.mark.parametrize(
    "content",
    [
        A,
        OrderedDict(A),
        {"params": A},
        {"params": OTHER, "params_ema": A},
        {"params_ema": None, "params": A},
        {"params_ema": {}, "params": A, "iter": 5},
        {"state_dict": A, "epoch": 3, "optimizer": {"state": {}}},
        {"model": {"state_dict": A}},
        {f"module.{name}": tensor for name, tensor in A.items()},
        {"params": {f"module.{name}": tensor for name, tensor in A.items()}},
    ],
)
def test_pth_of_every_make(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert same(read_weights(tmp_path / "x.pth", "key"), A)


def test_pth_of_the_old_format(tmp_path: Path) -> None:
    torch.save(A, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert same(read_weights(tmp_path / "x.pth", "key"), A)


@pytest.mark.parametrize("name", ["x.safetensors", "X.SAFETENSORS"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors(tmp_path: Path, name: str, prefix: str) -> None:
    save_file({f"{prefix}{key}": tensor for key, tensor in A.items()}, tmp_path / name)
    assert same(read_weights(tmp_path / name, "key"), A)


def cyclic() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["params"] = content
    return content


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (5, "int"),
        ([A], "list"),
        ({}, "nothing"),
        ({0: torch.zeros(1)}, "0"),
        ({"params": 3, "iter": 4}, "params, iter"),
        ({"a": torch.zeros(1), "b": 1}, "a, b"),
        (cyclic(), "params"),
    ],
)
def test_files_without_weights_say_what_they_hold(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"^key: .*x\.pth holds no network weights \(found: {found}\)$"):
        read_weights(tmp_path / "x.pth", "key")


def truncated() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer)
    return buffer.getvalue()[:2000]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pth", b"", "is not a readable weight file: it is empty, damaged or of another format"),
        ("x.pth", b"hello world, this is text", "is not a readable weight file: it is"),
        ("x.pth", b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a readable weight file: it is"),
        ("x.pth", truncated(), "is not a readable weight file: it is truncated or damaged"),
        ("x.safetensors", b"", "is not a readable safetensors file"),
        ("x.safetensors", b"hello world, this is text", "is not a readable safetensors file"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"^path\.x: .*{name} {message}") as caught:
        read_weights(tmp_path / name, "path.x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_missing_files_and_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^path\.x: .*{name} does not exist$"):
        read_weights(tmp_path / name, "path.x")
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=rf"^path\.x: .*{name} is a folder, not a weight file$"):
        read_weights(tmp_path / name, "path.x")


class Payload:
    """Unpickling this would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_the_payload_would_work(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "pwned")))
    assert (tmp_path / "pwned").is_dir()


@pytest.mark.parametrize("form", ["zip", "old", "pickle2", "pickle4"])
def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path, form: str) -> None:
    path, payload = tmp_path / "x.pth", {"params": Payload(tmp_path / "pwned")}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(payload, protocol=int(form[-1])))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match="which is refused for safety") as caught:
        read_weights(path, "key")
    assert "weights_only" not in str(caught.value)  # torch's advice to try without
    assert not (tmp_path / "pwned").exists()


def test_a_whole_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"more than tensors \(torch\.nn\.modules\.linear\.Linear\)"):
        read_pth(tmp_path / "x.pth", "key")


# Into a network


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: torch.full_like(tensor, 0.5, dtype=dtype) for name, tensor in network().state_dict().items()}
    torch.save(state, tmp_path / "x.pth")
    net = network()
    load_into(net, read_weights(tmp_path / "x.pth", "key"), strict=True, source="key: x.pth")
    for parameter in net.parameters():
        assert parameter.dtype == torch.float32
        assert (parameter == 0.5).all()
    state["0.weight"].zero_()
    assert (net.state_dict()["0.weight"] == 0.5).all()  # a copy


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_whole_numbers_are_no_weights(dtype: torch.dtype) -> None:
    state = network().state_dict()
    state["0.bias"] = torch.ones(3, dtype=dtype)
    with pytest.raises(CheckpointError, match=rf"0\.bias is {dtype}, not torch\.float32"):
        load_into(network(), state, strict=True, source="x")


def test_strict_names_what_does_not_fit() -> None:
    state = network().state_dict()
    del state["0.bias"]
    state["1.weight"] = torch.zeros(1, 4)
    state["2.extra"] = torch.zeros(1)
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_into(net, state, strict=True, source="path.x: f.pth")
    assert str(caught.value) == (
        "path.x: f.pth does not fit the network: 0.bias missing; 2.extra unknown; 1.weight is (1, 4), not (1, 3)"
    )
    assert same(net.state_dict(), before)


def test_strict_names_the_first_of_many() -> None:
    state = {f"x{i}": torch.zeros(1) for i in range(10)}
    with pytest.raises(CheckpointError, match=r"0\.weight missing; .*; 1\.bias missing; and 10 more$"):
        load_into(network(), state, strict=True, source="x")


def test_not_strict_loads_by_name_and_shape_and_names_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    """The reference matched tensors by order: here the file's order is turned round."""
    values = {"1.bias": torch.tensor([7.0]), "0.bias": torch.ones(3), "0.weight": torch.zeros(3, 3), "z": torch.ones(1)}
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    load_into(net, values, strict=False, source="key: f.pth")
    after = net.state_dict()
    assert torch.equal(after["1.bias"], values["1.bias"])
    assert torch.equal(after["0.bias"], values["0.bias"])
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["1.weight"], before["1.weight"])
    assert [record.getMessage() for record in caplog.records] == [
        "key: f.pth: 2 of 4 tensors loaded; left out: 1.weight missing; z unknown; 0.weight is (3, 3), not (3, 2)"
    ]


def test_not_strict_says_nothing_where_all_fits(caplog: pytest.LogCaptureFixture) -> None:
    load_into(network(), network().state_dict(), strict=False, source="x")
    assert not caplog.records


def test_not_strict_refuses_a_file_with_nothing_in_common() -> None:
    with pytest.raises(CheckpointError, match="has no tensor in common with the network"):
        load_into(network(), {"z": torch.zeros(1)}, strict=False, source="x")


# Writing


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"old")

    def disk_full(file: Any) -> None:
        file.write(b"half of the new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, disk_full)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, TypeError])
def test_an_interrupted_write_leaves_no_temporary_file(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted(file: Any) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomic(tmp_path / "x.pth", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"x\.pth: cannot be written: "):
        write_file(tmp_path / "file" / "x.pth", b"x")


def test_a_folder_that_cannot_be_synced_does_not_spoil_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")  # network drives
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "x", lambda file: file.write(b"new"))
    assert (tmp_path / "x").read_bytes() == b"new"


# Sealed sets


def save(folder: Path, step: int) -> None:
    write_set(folder, step, {"G": A, "optimizerG": {"state": {}, "step": step}}, {"scaler": None})


def test_a_set_comes_back_as_it_was_written(tmp_path: Path) -> None:
    extra = {"options": {"task": "a"}, "step": "x", "files": []}  # the manifest's own keys cannot be overwritten
    write_set(tmp_path, 5, {"G": A, "optimizerG": {"state": {}}}, extra)
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 5
    assert sealed.extra == {"options": {"task": "a"}}
    assert sealed.files == {"G": tmp_path / "5_G.pth", "optimizerG": tmp_path / "5_optimizerG.pth"}
    assert same(read_weights(sealed.files["G"], "key"), A)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5.json", "5_G.pth", "5_optimizerG.pth"]


def test_the_newest_is_the_largest_number(tmp_path: Path) -> None:
    for step in (900, 1000, 20):
        save(tmp_path, step)
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 1000


def test_no_folder_no_set(tmp_path: Path) -> None:
    assert newest_sealed(tmp_path / "none") is None
    assert unsealed_steps(tmp_path / "none") == []


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "2_G.pth").unlink(), "2_G.pth: missing"),
        (
            lambda folder: flip_a_byte(folder / "2_optimizerG.pth"),
            "2_optimizerG.pth: its content is not what was saved",
        ),
        (lambda folder: (folder / "2_G.pth").write_bytes(b""), "2_G.pth: its content is not what was saved"),
        (lambda folder: (folder / "2.json").write_bytes(b""), "2.json: not a readable manifest"),
        (lambda folder: (folder / "2.json").write_bytes(b"\xff"), "2.json: not a readable manifest"),
        (lambda folder: (folder / "2.json").write_text("[" * 10**5), "2.json: not a readable manifest"),
        (lambda folder: (folder / "2.json").write_text("[1]"), "2.json: not a readable manifest"),
        (lambda folder: (folder / "2.json").write_text('{"step": 2}'), "2.json: not a readable manifest"),
        (lambda folder: (folder / "2.json").write_text('{"step": 2, "files": [1]}'), "2.json: not a readable manifest"),
        (lambda folder: (folder / "2.json").write_text('{"step": 2, "files": {"G": 1}}'), "2.json: not a readable"),
        (
            lambda folder: (folder / "2.json").rename(folder / "3.json"),
            "3.json: names files that are not of iteration 3",
        ),
        (lambda folder: (folder / "3.json").mkdir(), "3.json: not a readable manifest"),
    ],
)
def test_a_torn_set_is_named_and_passed_over(
    tmp_path: Path, damage: Any, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    damage(tmp_path)
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == (2 if named.startswith("3.json: not") else 1)
    assert f"checkpoint passed over: {tmp_path / named}" in caplog.records[0].getMessage()


def test_a_set_without_manifest_is_known_by_its_step(tmp_path: Path) -> None:
    for step in (1, 20):
        save(tmp_path, step)
    (tmp_path / "20.json").unlink()
    torch.save(A, tmp_path / "300_G.pth")
    torch.save(A, tmp_path / "best_G.pth")
    torch.save(A, tmp_path / "²_G.pth")
    (tmp_path / "².json").touch()  # str.isdigit says yes
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 1
    assert unsealed_steps(tmp_path) == [20, 300]


def test_a_write_that_fails_half_way_seals_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    calls: list[int] = []

    def full_at_the_second_file(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 3:  # after the first file and its folder
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_at_the_second_file)
        with pytest.raises(CheckpointError, match=r"2_optimizerG\.pth: cannot be written: No space left on device"):
            save(tmp_path, 2)
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 1
    assert unsealed_steps(tmp_path) == [2]
    assert not list(tmp_path.glob(".*"))


def test_files_left_by_a_killed_process_do_no_harm(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for name in ("2_G.pth", "2.json", "1_G.pth"):
        (tmp_path / f".{name}.4242.tmp").write_bytes(b"half")
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 1
    assert unsealed_steps(tmp_path) == []
    save(tmp_path, 2)
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 2


@pytest.mark.parametrize("name", ["../secret.pth", "{tmp}/secret.pth", "sub/../../secret.pth", "1_G.pth", 5, None])
@pytest.mark.parametrize("label", ["G", "../../secret"])
def test_a_manifest_leads_nowhere_else(tmp_path: Path, name: Any, label: str) -> None:
    """A file that exists, with the right checksum, but not one that write_set would have named."""
    secret, folder = tmp_path / "secret.pth", tmp_path / "models"
    write_set(folder, 2, {"G": A}, {})
    torch.save(A, secret)
    manifest = json.loads((folder / "2.json").read_text())
    entry = manifest["files"].pop("G")
    entry["name"] = name.format(tmp=tmp_path) if isinstance(name, str) else name
    (folder / "1_G.pth").write_bytes((folder / "2_G.pth").read_bytes())
    manifest["files"][label] = entry
    (folder / "2.json").write_text(json.dumps(manifest))
    assert newest_sealed(folder) is None


def test_a_label_with_a_path_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models" / "2_").mkdir(parents=True)
    write_set(tmp_path, 2, {"G": A}, {})
    manifest = json.loads((tmp_path / "2.json").read_text())
    manifest["files"] = {"/../../2_G": {**manifest["files"]["G"], "name": "2_/../../2_G.pth"}}
    (tmp_path / "models" / "2.json").write_text(json.dumps(manifest))
    assert (tmp_path / "models" / "2_/../../2_G.pth").is_file()
    assert newest_sealed(tmp_path / "models") is None


# Pruning


def saved(folder: Path, *steps: int) -> SealedSet:
    sealed = [write_set(folder, step, {"G": A, "optimizerG": {"step": step}}, {}) for step in steps]
    return sealed[-1]


def whole_sets(folder: Path) -> list[int]:
    """Steps that could be resumed; no file of another step may be left."""
    sets = sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))
    names = sorted(f"{step}{tail}" for step in sets for tail in (".json", "_G.pth", "_optimizerG.pth"))
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("best")) == names
    return sets


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        ({"newest": 1}, None, [60]),
        ({"newest": 2}, None, [50, 60]),
        ({"newest": 9}, None, [10, 20, 30, 40, 50, 60]),
        ({"newest": 1, "every": 20}, None, [20, 40, 60]),
        ({"newest": 1}, 30, [30, 60]),
        ({"newest": 1, "best": False}, 30, [60]),
        ({"newest": 1}, 35, [60]),  # no checkpoint was saved at the best test
        ({"newest": 2, "every": 30}, 10, [10, 30, 50, 60]),
    ],
)
def test_what_pruning_keeps(tmp_path: Path, keep: dict[str, Any], best: int | None, left: list[int]) -> None:
    newest = saved(tmp_path, 10, 20, 30, 40, 50, 60)
    if best is not None:
        write_best(tmp_path, "E", A, {"step": best, "psnr_y": 1.0})
    prune(newest, KeepOptions(**keep))
    assert whole_sets(tmp_path) == left
    assert (tmp_path / "best_E.pth").exists() is (best is not None)
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 60


def test_pruning_leaves_alone_what_is_not_its_own(tmp_path: Path) -> None:
    newest = saved(tmp_path, 1, 2, 5, 4)  # 5: of an attempt that was given up
    foreign = ["3_G.pth", "0_G.pth", "1_X.pth", "G.pth", "notes.json", "x.pruned", "02.pruned"]
    for name in foreign:
        (tmp_path / name).write_bytes(b"precious")
    (tmp_path / "2.json").write_text("{")  # tells of no file
    prune(newest, KeepOptions(newest=1))
    left = {path.name for path in tmp_path.iterdir()}
    own = {f"{step}{tail}" for step in (2, 4, 5) for tail in (".json", "_G.pth", "_optimizerG.pth")}
    assert left == own | set(foreign)


def test_nothing_is_pruned_where_the_newest_is_not_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    newest = saved(tmp_path, 1, 2, 3)
    flip_a_byte(tmp_path / "3_G.pth")
    prune(newest, KeepOptions(newest=1))
    assert whole_sets(tmp_path) == [1, 2, 3]
    assert "no checkpoint is removed" in caplog.text
    sealed = newest_sealed(tmp_path)
    assert sealed is not None
    assert sealed.step == 2


@pytest.mark.parametrize("instant", range(8))
def test_a_crash_while_pruning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instant: int) -> None:
    """Before each change of the folder: whatever has a manifest is whole, and the next pruning completes this one."""
    newest = saved(tmp_path, 1, 2, 3)
    calls: list[Path] = []

    def crashing(name: str) -> Any:
        real = getattr(Path, name)

        def change(path: Path, *arguments: Any, **keys: Any) -> Any:
            calls.append(path)
            if len(calls) > instant:
                raise KeyboardInterrupt
            return real(path, *arguments, **keys)

        return change

    with monkeypatch.context() as patch:
        for name in ("unlink", "replace"):
            patch.setattr(Path, name, crashing(name))
        with pytest.raises(KeyboardInterrupt):
            prune(newest, KeepOptions(newest=1))
    assert len(calls) == instant + 1
    for manifest in tmp_path.glob("[0-9]*.json"):
        assert (tmp_path / f"{manifest.stem}_G.pth").exists()
        assert (tmp_path / f"{manifest.stem}_optimizerG.pth").exists()
    prune(newest, KeepOptions(newest=1))
    assert whole_sets(tmp_path) == [3]


def test_a_set_written_again_after_a_crash_while_pruning_stays(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "1.json").rename(tmp_path / "1.pruned")
    prune(saved(tmp_path, 1, 2), KeepOptions(newest=2))
    assert whole_sets(tmp_path) == [1, 2]


def test_what_cannot_be_removed_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    newest = saved(tmp_path, 1, 2)

    def refuse(path: Path, **_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        prune(newest, KeepOptions(newest=1))
    assert "checkpoints to prune cannot be removed" in caplog.text
    prune(newest, KeepOptions(newest=1))
    assert whole_sets(tmp_path) == [2]


def test_the_checksum_is_that_of_what_was_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a disk that returns something else would seal that."""
    with monkeypatch.context() as patch:
        patch.setattr("swinlet.checkpoint.write_file", lambda path, content: path.write_bytes(bytes(content)[:-1]))
        write_set(tmp_path, 1, {"G": A}, {})
    (tmp_path / "1.json").write_text((tmp_path / "1.json").read_text() + "}")
    assert newest_sealed(tmp_path) is None
