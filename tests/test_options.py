"""Option files: what is accepted, how faults are named, overrides, keys without effect, the JSON Schema."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import json5
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swinlet.errors import OptionError
from swinlet.options import (
    DatasetOptions,
    KeepOptions,
    NetworkOptions,
    Options,
    PathOptions,
    TrainOptions,
    changed_keys,
    json_schema,
    keys_without_effect,
    load_options,
    markdown_reference,
    parse_options,
    parse_section,
)

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = [path for path in sorted((ROOT / "options").glob("*.json")) if not path.stem.startswith(("schema", "study"))]

# Every key of the reference project, with the values and nulls that its files hold.
REFERENCE = """
{
  "task": "swinir_student_x4"  // results go to root/task_name
  , "model": "plain" /* the only one */
  , "gpu_ids": [0, 1]
  , "dist": true
  , "scale": 4
  , "n_channels": 3
  , "merge_bn": false
  , "merge_bn_startpoint": 400000
  , "find_unused_parameters": true
  , "use_static_graph": false

  , "path": {
    "root": "superresolution"
    , "pretrained_netG": null
    , "pretrained_netE": null
    , "pretrained_netP": null
    , "pretrained_netTeacher": "https://example.org//x.pth"
    , "pretrained_optimizerG": null
  }
  , "datasets": {
    "train": {
      "name": "train_dataset", "dataset_type": "sr", "dataroot_H": "trainsets/trainH", "dataroot_L": null
      , "H_size": 96, "dataloader_shuffle": true, "dataloader_num_workers": 16, "dataloader_batch_size": 32
    }
    , "test": {
      "name": "test_dataset", "dataset_type": "sr", "dataroot_H": "testsets/Set5/HR", "dataroot_L": "testsets/Set5/LR",
    }
  }
  , "netG": {
    "net_type": "swinir_student", "upscale": 4, "in_chans": 3, "img_size": 64, "window_size": 8, "img_range": 1.0
    , "depths": [4, 4, 4, 4], "embed_dim": 60, "num_heads": [6, 6, 6, 6], "mlp_ratio": 2
    , "upsampler": "pixelshuffle", "resi_connection": "1conv"
    , "drop_path_rate": 0.1, "qkv_bias": true, "patch_norm": true, "ape": false
    , "init_type": "default", "init_bn_type": "uniform", "init_gain": 0.2
  }
  , "train": {
    "G_lossfn_type": "l1", "G_lossfn_weight": 1.0, "G_charbonnier_eps": 1e-9
    , "distillation_type": "feature", "distill_lossfn_type": "l1", "distill_lossfn_weight": 1.0
    , "feature_lossfn_type": "l1", "feature_lossfn_weight": 0.01, "start_feature_iter": 4000
    , "E_decay": 0.999
    , "G_optimizer_type": "adam", "G_optimizer_lr": 2e-4, "G_optimizer_betas": [0.9, 0.999], "G_optimizer_wd": 0
    , "G_optimizer_clipgrad": null, "G_optimizer_reuse": true
    , "G_scheduler_type": "MultiStepLR", "G_scheduler_milestones": [10000, 16000], "G_scheduler_gamma": 0.5
    , "G_scheduler_periods": null, "G_scheduler_restart_weights": null, "G_scheduler_eta_min": null
    , "G_regularizer_orthstep": null, "G_regularizer_clipstep": null
    , "G_param_strict": true, "E_param_strict": true
    , "checkpoint_test": 2000, "checkpoint_save": 2000, "checkpoint_print": 200, "manual_seed": 1
    , "F_feature_layer": [2, 7, 16], "F_weights": 1.0, "F_lossfn_type": "l1", "F_use_input_norm": true
  }
}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "train.json"
    path.write_text(text, encoding="utf-8")
    return path


def faults(data: Any) -> list[str]:
    """The lines of the error, without the first, which names the file."""
    with pytest.raises(OptionError) as caught:
        parse_options(data)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


# What is accepted


def test_every_key_of_the_reference_is_accepted(tmp_path: Path) -> None:
    opt = load_options(write(tmp_path, REFERENCE))
    assert opt.gpu_ids == (0, 1)
    assert opt.merge_bn_startpoint == 400000
    assert opt.path.pretrained_netTeacher == Path("https://example.org//x.pth")
    assert opt.datasets.train is not None
    assert opt.datasets.train.dataloader_num_workers == 16
    assert opt.netG.depths == (4, 4, 4, 4)
    assert opt.netG.mlp_ratio == 2.0
    assert opt.train.G_optimizer_betas == (0.9, 0.999)
    assert opt.train.perceptual_keys == ("F_feature_layer", "F_weights", "F_lossfn_type", "F_use_input_norm")
    assert opt.run_dir == Path("superresolution/swinir_student_x4")


def test_null_means_not_set_for_every_key_and_section(tmp_path: Path) -> None:
    tree = json5.loads(REFERENCE)
    sections = ("path", "netG", "train")
    nulls: dict[str, Any] = {key: None for key in tree if key not in (*sections, "datasets")}
    nulls |= {name: dict.fromkeys(tree[name]) for name in sections}
    nulls["datasets"] = {"train": None, "test": None}
    opt = load_options(write(tmp_path, json.dumps(nulls)))
    assert opt == parse_options(nulls | {"gpu_ids": None})
    assert opt.gpu_ids is None
    default = Options()
    for name in (*sections, "task", "scale"):
        assert getattr(opt, name).__repr__() == getattr(default, name).__repr__()


@pytest.mark.parametrize(
    ("data", "expected"),
    [({}, "auto"), ({"gpu_ids": None}, None), ({"gpu_ids": [0]}, (0,)), ({"gpu_ids": []}, ())],
)
def test_gpu_ids(data: dict[str, Any], expected: object) -> None:
    assert parse_options(data).gpu_ids == expected


def test_comments_commas_and_slashes_inside_strings(tmp_path: Path) -> None:
    text = '{\n// "task": "no",\n"task": "a #1", /* // */ "path": {"root": "x//y/*z*/", "pretrained_netG": "b",},\n}'
    opt = load_options(write(tmp_path, text))
    assert (opt.task, opt.path.root, opt.path.pretrained_netG) == ("a #1", Path("x//y/*z*/"), Path("b"))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert load_options(write(tmp_path, '\ufeff{"task": "a"}')).task == "a"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_valid(path: Path) -> None:
    opt = load_options(path)
    tree = json5.loads(path.read_text(encoding="utf-8"))
    assert opt.schema_url == "./schema.json"
    check_schema(json_schema(), tree)
    assert keys_without_effect(opt) == []


def test_a_saved_option_file_is_a_valid_option_file(tmp_path: Path) -> None:
    opt = load_options(write(tmp_path, REFERENCE.replace(', "F_', ', // "F_')))
    saved = json.dumps(opt.model_dump(mode="json", by_alias=True))
    assert load_options(write(tmp_path, saved)) == opt


def test_mappings_tuples_paths_and_lists_are_the_same_to_a_caller() -> None:
    from_json = parse_options({"path": {"root": "a"}, "netG": {"depths": [2, 2]}, "train": {"feature_pairs": [[0, 1]]}})
    by_hand = MappingProxyType(
        {
            "path": MappingProxyType({"root": Path("a")}),
            "netG": {"depths": (2, 2)},
            "train": {"feature_pairs": ((0, 1),)},
        }
    )
    assert parse_options(by_hand) == from_json
    assert parse_options(from_json) is from_json


def test_options_are_frozen_all_the_way() -> None:
    opt = parse_options({"netG": {"depths": [2]}, "train": {"F_x": 1}})
    for section, name in ((opt, "task"), (opt.train, "total_iter"), (opt.netG, "depths"), (opt.path, "root")):
        with pytest.raises(pydantic.ValidationError, match="frozen"):
            setattr(section, name, None)
    assert isinstance(opt.netG.depths, tuple)


# How faults are named


def test_the_exact_form_for_a_misspelt_key() -> None:
    assert faults({"train": {"G_optimzer_lr": 1e-4}}) == [
        "train.G_optimzer_lr: unknown key, did you mean G_optimizer_lr?"
    ]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"trian": {}}, "trian: unknown key, did you mean train?"),
        ({"NETG": {}}, "NETG: unknown key, did you mean netG?"),
        (
            {"datasets": {"test": {"dataroot_H": "x", "dataroot": 1}}},
            "datasets.test.dataroot: unknown key, did you mean",
        ),
        ({"manual_seed": 1}, "manual_seed: unknown key here, did you mean train.manual_seed?"),
        ({"path": {"zzz": 1}}, "path.zzz: unknown key (known: pretrained_netE, pretrained_netG,"),
        ({"train": {"": 1}}, "train.\"\": unknown key ('swinlet schema' lists the known ones)"),
        ({"train": {"perceptual_keys": []}}, "train.perceptual_keys: unknown key"),
        ({"schema_url": "x"}, "schema_url: unknown key, did you mean $schema?"),
        ({7: 1}, "7: unknown key"),
    ],
)
def test_unknown_keys(data: Any, line: str) -> None:
    assert len(faults(data)) == 1
    assert faults(data)[0].startswith(line)


def test_all_faults_of_all_sections_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """{
          "task": "a/b", "sclae": 4, "n_channels": 1,
          "path": {"root": 5},
          "datasets": {"train": {"H_size": 94}, "test": {"dataroot_H": "x", "H_size": 0}},
          "netG": {"upscale": 3, "in_chans": 3, "depths": [2, "x"]},
          "train": {"G_optimzer_lr": 1, "G_scheduler_milestones": [2, 1],
                    "G_scheduler_type": "CosineAnnealingWarmRestarts"}
        }""",
    )
    with pytest.raises(OptionError) as caught:
        load_options(path, ["train.total_iter", "train.E_decay=2"])
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path} with the command line's changes:"
    assert {line.strip() for line in lines} == {
        "override 'train.total_iter': write key.path=value, e.g. train.total_iter=100",
        'task: cannot be a folder name (got "a/b")',
        "sclae: unknown key, did you mean scale?",
        "path.root: must be a path (got 5)",
        "datasets.train.dataroot_H: missing",
        "datasets.test.H_size: input should be greater than 0 (got 0)",
        'netG.depths.1: input should be a valid integer (got "x")',
        "train.G_optimzer_lr: unknown key, did you mean G_optimizer_lr?",
        "train.E_decay: input should be less than 1 (got 2)",
        "train.G_scheduler_milestones: must rise",
        "train.G_scheduler_periods: CosineAnnealingWarmRestarts needs it",
        "netG.in_chans: 3, but n_channels is 1",
    }


def test_a_conflict_with_a_faulty_key_is_not_reported() -> None:
    """With scale unreadable nobody knows whether upscale fits."""
    assert faults({"scale": "3", "netG": {"upscale": 3}}) == ['scale: must be a whole number (got "3")']


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"scale": 3, "netTeacher": {"upscale": 4}}, "netTeacher.upscale: 4, but scale is 3"),
        (
            {"scale": 3, "datasets": {"train": {"dataroot_H": "x", "H_size": 64}}},
            "datasets.train.H_size: 64 is not a multiple of scale 3",
        ),
        (
            {"train": {"G_scheduler_periods": 5, "G_scheduler_restart_weights": [1.0]}},
            "train.G_scheduler_restart_weights: a list needs a list of G_scheduler_periods",
        ),
        (
            {"train": {"G_scheduler_periods": [5], "G_scheduler_restart_weights": 2}},
            "train.G_scheduler_restart_weights: must be a list, as G_scheduler_periods is one",
        ),
        (
            {"train": {"G_scheduler_periods": [5], "G_scheduler_restart_weights": [1, 1]}},
            "train.G_scheduler_restart_weights: needs one entry for each G_scheduler_periods",
        ),
    ],
)
def test_conflicts(data: dict[str, Any], line: str) -> None:
    if "train" in data:
        data = {"train": {"G_scheduler_type": "CosineAnnealingWarmRestarts", **data["train"]}}
    assert faults(data) == [line]


@pytest.mark.parametrize("value", ["5", True, 5.0, 5.5, [5], {}, float("nan")])
@pytest.mark.parametrize("key", ["total_iter", "manual_seed", "start_feature_iter"])
def test_nothing_but_an_int_is_an_int(key: str, value: object) -> None:
    assert faults({"train": {key: value}})[0].startswith(f"train.{key}: ")


@pytest.mark.parametrize("value", ["0.1", True, float("nan"), float("inf"), [], "NaN"])
@pytest.mark.parametrize("key", ["E_decay", "G_optimizer_lr", "G_optimizer_clipgrad"])
def test_nothing_but_a_finite_number_is_a_float(key: str, value: object) -> None:
    assert faults({"train": {key: value}})[0].startswith(f"train.{key}: ")


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", "no", []])
def test_nothing_but_a_bool_is_a_bool(value: object) -> None:
    assert len(faults({"dist": value, "train": {"G_param_strict": value}})) == 2


@pytest.mark.parametrize("value", [True, 1.0, "1", 5, None, [1]])
def test_scale_and_channels_are_numbers_of_their_lists(value: object) -> None:
    """Literal compares with ==, so that True and 1.0 would pass for 1."""
    if value is None:
        assert parse_options({"scale": None}).scale == 4
        return
    assert [line.partition(":")[0] for line in faults({"scale": value, "n_channels": value})] == ["scale", "n_channels"]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"gpu_ids": 0}, 'gpu_ids: must be a list of GPU numbers, null for the CPU, or "auto" (got 0)'),
        ({"gpu_ids": [-1]}, "gpu_ids.0: input should be greater than or equal to 0 (got -1)"),
        ({"netG": [1]}, "netG: must be a section {...} (got [1])"),
        ({"netG": {"depths": 4}}, "netG.depths: must be a list (got 4)"),
        ({"netG": {"depths": []}}, "netG.depths: must have at least 1 item(s) (got [])"),
        (
            {"train": {"feature_pairs": [[0, 1, 2]]}},
            "train.feature_pairs.0: must have at most 2 item(s) (got [0, 1, 2])",
        ),
        ({"train": {"G_scheduler_periods": []}}, "train.G_scheduler_periods: must have at least 1 item(s) (got [])"),
        ({"train": {"manual_seed": 2**63}}, "train.manual_seed: input should be less than 9223372036854775808"),
        ({"datasets": {"test": {"dataroot_H": ""}}}, 'datasets.test.dataroot_H: must not be empty (got "")'),
        ({"task": "café\ud800"}, 'task: cannot be a folder name (got "café\\ud800")'),
    ],
)
def test_one_fault_is_one_line(data: dict[str, Any], line: str) -> None:
    assert len(faults(data)) == 1
    assert faults(data)[0].startswith(line)


@pytest.mark.parametrize("task", ["", " ", ".", "..", "../x", "a/b", "a\\b", "/tmp", "C:", "a\n", "a\0", "a.", "a "])
def test_a_task_is_one_folder_below_the_root(task: str) -> None:
    assert faults({"task": task})[0].startswith("task: cannot be a folder name")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{\n  "task": "a",\n  "scale": @}', ":3:12: not valid JSON: unexpected"),
        ('{"task": "a"\n "scale": 4}', ":2:2: not valid JSON: unexpected '\"'"),
        ('{"task": "a"', ":1:13: not valid JSON: unexpected end"),
        ('{"train": {"E_decay": 0, "E_decay": 1}}', ': not valid JSON: Duplicate key "E_decay"'),
        ("  \n", ": the file is empty"),
        ("[1]", ": the file must hold one object {...}"),
        ("[" * 5000, ": not valid JSON: nested too deeply"),
    ],
)
def test_syntax_errors_name_file_line_and_column(tmp_path: Path, text: str, where: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(OptionError, match=re.escape(f"{path}{where}")):
        load_options(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"missing\.json: cannot read the option file: No such file or directory$"):
        load_options(tmp_path / "missing.json")
    with pytest.raises(OptionError, match=r"cannot read the option file: Is a directory$"):
        load_options(tmp_path)
    (tmp_path / "latin.json").write_bytes('{"task": "é"}'.encode("latin-1"))
    with pytest.raises(OptionError, match="can't decode byte 0xe9"):
        load_options(tmp_path / "latin.json")


# Paths


WEIGHT_FILES = ("netG", "netE", "netP", "netTeacher", "optimizerG")
PATH_KEYS = [
    ("path", "root"),
    *(("path", f"pretrained_{name}") for name in WEIGHT_FILES),
    *(("datasets", phase, name) for phase in ("train", "test") for name in ("dataroot_H", "dataroot_L")),
]


def nested(keys: tuple[str, ...], value: object) -> dict[str, Any]:
    data: Any = value
    for key in reversed(keys):
        data = {key: data}
    if keys[0] == "datasets" and keys[-1] == "dataroot_L":
        data["datasets"][keys[1]]["dataroot_H"] = "x"
    return data


@pytest.mark.parametrize("keys", PATH_KEYS, ids=".".join)
def test_variables_and_home_in_every_path(keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("A_B1", "${HOME}/data")  # what a variable holds is taken as it is
    monkeypatch.delenv("NOT_SET", raising=False)
    opt = parse_options(nested(keys, "${A_B1}/x${A_B1}"))
    for key in keys:
        opt = getattr(opt, key)
    assert str(opt) == "${HOME}/data/x${HOME}/data"
    home: Any = parse_options(nested(keys, "~/x"))
    for key in keys:
        home = getattr(home, key)
    assert home == Path("/home/me/x")
    name = ".".join(keys)
    assert faults(nested(keys, "${NOT_SET}/x")) == [
        f'{name}: environment variable NOT_SET is not set (got "${{NOT_SET}}/x")'
    ]
    assert faults(nested(keys, "~nobody_of_that_name/x"))[0].startswith(f"{name}: there is no such user")
    assert faults(nested(keys, "a\0b"))[0].startswith(f"{name}: holds characters")
    assert faults(nested(keys, 5)) == [f"{name}: must be a path (got 5)"]


# Overrides


def test_overrides(tmp_path: Path) -> None:
    opt = load_options(
        write(tmp_path, '{"task": "a", "train": {"E_decay": 0.5}, "datasets": {"test": null}}'),
        [
            "train.total_iter=100",
            "netG.embed_dim=36",
            "netG.depths=[2,2]",
            "path.root=/tmp/x",
            "datasets.test.dataroot_H=../x",
            "gpu_ids=null",
            "task=abc",
            "netG.upsampler=nearest+conv",
            "train.G_optimizer_lr=1e-3",
            "train.total_iter=200",
        ],
    )
    assert opt.train.total_iter == 200  # the last one counts
    assert opt.train.E_decay == 0.5
    assert (opt.netG.embed_dim, opt.netG.depths, opt.netG.upsampler) == (36, (2, 2), "nearest+conv")
    assert opt.path.root == Path("/tmp/x")
    assert opt.datasets.test is not None
    assert opt.datasets.test.dataroot_H == Path("../x")
    assert (opt.gpu_ids, opt.task, opt.train.G_optimizer_lr) == (None, "abc", 1e-3)


@pytest.mark.parametrize("text", ["123", "1e3", "true", "Infinity", "0x10", "[a]", "a=b", "'quoted'", '"quoted"'])
def test_a_key_that_takes_text_takes_any_text(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "{}")
    opt = load_options(path, [f"task={text}", f"path.root={text}", f"path.pretrained_netG={text}"])
    expected = text.strip("'\"")
    assert (opt.task, opt.path.root, opt.path.pretrained_netG) == (expected, Path(expected), Path(expected))


def test_null_overrides_a_path(tmp_path: Path) -> None:
    path = write(tmp_path, '{"path": {"pretrained_netG": "x.pth"}}')
    assert load_options(path, ["path.pretrained_netG=null"]).path.pretrained_netG is None


def test_text_is_not_converted_where_no_text_belongs(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r'train\.total_iter: input should be a valid integer \(got "5"\)'):
        load_options(write(tmp_path, "{}"), ['train.total_iter="5"'])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.total_iter", "override 'train.total_iter': write key.path=value"),
        ("=5", "override '=5': write key.path=value"),
        ("train..x=5", "override 'train..x=5': write key.path=value"),
        ("task.x=1", "override 'task.x=1': task is not a section"),
        ("netG.depths.0=2", "override 'netG.depths.0=2': netG.depths is not a section"),
        ("path.root=1", "override 'path.root=1': path is not a section of the option file"),
        ("train.total_itr=5", "train.total_itr: unknown key, did you mean total_iter?"),
        ("trian.total_iter=5", "trian: unknown key, did you mean train?"),
        ("train=5", "train: must be a section {...} (got 5)"),
        ("train.total_iter=", 'train.total_iter: input should be a valid integer (got "")'),
        ('train={"E_decay": 0, "E_decay": 1}', "train: must be a section"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        load_options(write(tmp_path, '{"path": 3}' if override.startswith("path") else "{}"), [override])


# Keys without effect


def test_keys_without_effect_of_a_reference_file(tmp_path: Path) -> None:
    opt = load_options(write(tmp_path, REFERENCE))
    assert [line.partition(" (")[0] for line in keys_without_effect(opt)] == [
        "merge_bn_startpoint",
        "dist",
        "find_unused_parameters",
        "gpu_ids[1:]",
        "netG.init_bn_type",
        "netG.init_gain",
        "train.F_feature_layer",
        "train.F_weights",
        "train.F_lossfn_type",
        "train.F_use_input_norm",
        "train.G_charbonnier_eps",
    ]


RESPONSE = {"train": {"distillation_type": "response"}}
COSINE = {"G_scheduler_type": "cosine"}
RESTARTS = {"G_scheduler_type": "CosineAnnealingWarmRestarts", "G_scheduler_periods": 5}
TEST = {"datasets": {"test": {"dataroot_H": "x"}}}


def with_test(**keys: Any) -> dict[str, Any]:
    return {"datasets": {"test": {"dataroot_H": "x", **keys}}}


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"merge_bn": True}, "merge_bn"),
        ({"use_static_graph": True}, "use_static_graph"),
        (with_test(H_size=96), "datasets.test.H_size"),
        (with_test(dataloader_shuffle=True), "datasets.test.dataloader_shuffle"),
        (with_test(dataloader_batch_size=1), "datasets.test.dataloader_batch_size"),
        (with_test(dataloader_num_workers=1), "datasets.test.dataloader_num_workers"),
        ({"netG": {"init_type": "interpolation", "init_gain": 0.2}}, "netG.init_gain"),
        ({"netG": {"init_type": "orthogonal"}, "path": {"pretrained_netG": "x"}}, "netG.init_type"),
        (
            {"netTeacher": {"init_type": "orthogonal"}, "train": {"distillation_type": "response"}},
            "netTeacher.init_type",
        ),
        (
            {"netTeacher": {"drop_path_rate": 0.1}, "train": {"distillation_type": "response"}},
            "netTeacher.drop_path_rate",
        ),
        ({"netTeacher": {}}, "netTeacher"),
        ({"path": {"pretrained_netTeacher": "x"}}, "path.pretrained_netTeacher"),
        ({"path": {"pretrained_netP": "x"}}, "path.pretrained_netP"),
        ({"path": {"pretrained_netE": "x"}, "train": {"E_decay": 0}}, "path.pretrained_netE"),
        ({"path": {"pretrained_optimizerG": "x"}}, "path.pretrained_optimizerG"),
        ({"train": {"distill_lossfn_type": "l2"}}, "train.distill_lossfn_type"),
        ({"train": {"teacher_precision": "bf16"}}, "train.teacher_precision"),
        ({"train": {"distill_lossfn_weight": 2.0}}, "train.distill_lossfn_weight"),
        ({"train": {"feature_lossfn_type": "l1"}}, "train.feature_lossfn_type"),
        ({"train": {"feature_lossfn_weight": 1.0}}, "train.feature_lossfn_weight"),
        ({"train": {"start_feature_iter": 5}}, "train.start_feature_iter"),
        ({"train": {"feature_pairs": [[0, 0]], "distillation_type": "response"}}, "train.feature_pairs"),
        (
            {"train": {"distillation_type": "feature", "start_feature_iter": 6, "total_iter": 5}},
            "train.start_feature_iter",
        ),
        ({"train": {"G_charbonnier_eps": 1e-6}}, "train.G_charbonnier_eps"),
        ({"train": {"G_scheduler_eta_min": 1e-7}}, "train.G_scheduler_eta_min"),
        ({"train": {"G_scheduler_periods": 5}}, "train.G_scheduler_periods"),
        ({"train": {**COSINE, "G_scheduler_periods": 5}}, "train.G_scheduler_periods"),
        ({"train": {**COSINE, "G_scheduler_gamma": 0.5}}, "train.G_scheduler_gamma"),
        ({"train": {**RESTARTS, "G_scheduler_milestones": [5]}}, "train.G_scheduler_milestones"),
        ({"train": {"checkpoint_test": 5}}, "train.checkpoint_test"),
        ({"train": {"keep_checkpoints": {"best": True}}}, "train.keep_checkpoints.best"),
    ],
)
def test_each_key_without_effect(data: dict[str, Any], key: str) -> None:
    assert [line.partition(" (")[0] for line in keys_without_effect(parse_options(data))] == [key]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"train": {**COSINE, "G_scheduler_eta_min": 1e-7}},
        {"train": {**RESTARTS, "G_scheduler_restart_weights": 2, "G_scheduler_eta_min": 1e-7}},
        {"train": {"G_lossfn_type": "charbonnier", "G_charbonnier_eps": 1e-6}},
        {
            "train": {"distillation_type": "response", "distill_lossfn_type": "l2"},
            "path": {"pretrained_netTeacher": "x"},
        },
        {
            "train": {"distillation_type": "response", "teacher_precision": "bf16"},
            "path": {"pretrained_netTeacher": "x"},
        },
        {"netG": {"init_type": "normal", "init_gain": 0.1}},
        {"path": {"pretrained_optimizerG": "x"}, "train": {"G_optimizer_reuse": True}},
        {**TEST, "train": {"checkpoint_test": 5, "keep_checkpoints": {"best": True}}},
        {"train": {"keep_checkpoints": {"newest": 1}}},
        {"merge_bn": False, "dist": False, "gpu_ids": [1]},
    ],
)
def test_no_false_alarm(data: dict[str, Any]) -> None:
    assert keys_without_effect(parse_options(data)) == []


def test_changed_keys() -> None:
    old = parse_options({"train": {"E_decay": 0.5}}).model_dump(mode="json")
    new = parse_options({"train": {"E_decay": 0.6}, "netTeacher": {}, "gpu_ids": [0]}).model_dump(mode="json")
    assert list(changed_keys(old, old)) == []
    first, second, third = changed_keys(old, new)
    assert first == 'gpu_ids: "auto" -> [0]'
    assert second.startswith('netTeacher: null -> {"net_type": "swinir_student"')
    assert third == "train.E_decay: 0.5 -> 0.6"


# The JSON Schema


def check_schema(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None, path: str = "") -> None:
    """The part of JSON Schema that pydantic writes. Raises ValueError."""
    root = root or schema
    if "$ref" in schema:
        check_schema(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root, path)
    for word in ("anyOf", "oneOf"):
        if word in schema and not any(accepts(option, value, root) for option in schema[word]):
            raise ValueError(f"{path}: {value!r} fits nothing of {schema[word]}")
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    types["null"] = type(None)
    if "type" in schema:
        is_lookalike = isinstance(value, bool) and schema["type"] != "boolean"
        if not isinstance(value, types[schema["type"]]) or is_lookalike:
            raise ValueError(f"{path}: {value!r} is no {schema['type']}")
    if not is_inside(schema, value):
        raise ValueError(f"{path}: {value!r} is outside of {schema}")
    if isinstance(value, list):
        places = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        for place, item in zip(places, value, strict=True):
            check_schema(place, item, root, path)
    if isinstance(value, dict) and "properties" in schema:
        assert schema["additionalProperties"] is False
        for key, item in value.items():
            known = schema["properties"].get(key)
            if known is None and not any(re.search(p, key) for p in schema.get("patternProperties", {})):
                raise ValueError(f"{path}.{key} is unknown")
            check_schema(known or {}, item, root, f"{path}.{key}")
        if not set(schema.get("required", ())) <= value.keys():
            raise ValueError(f"{path}: not all of {schema['required']}")


def is_inside(schema: dict[str, Any], value: Any) -> bool:
    if isinstance(value, list):
        return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
    if isinstance(value, int | float):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        above, below = schema.get("exclusiveMinimum", value - 1), schema.get("exclusiveMaximum", value + 1)
        if not (low <= value <= high and above < value < below):
            return False
    return value in schema.get("enum", [value]) and value == schema.get("const", value)


def accepts(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None) -> bool:
    try:
        check_schema(schema, value, root)
    except ValueError:
        return False
    return True


def test_schema_describes_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    sections = [schema, *schema["$defs"].values()]
    assert len(sections) == 11
    for section in sections:
        assert section["additionalProperties"] is False
        for name, key in section["properties"].items():
            assert key.get("description"), name


def test_schema_accepts_and_refuses_what_the_loader_does() -> None:
    schema = json_schema()
    assert accepts(schema, json5.loads(REFERENCE))
    for good in ({"gpu_ids": None}, {"gpu_ids": []}, {"gpu_ids": "auto"}, {"train": {"F_x": [{}]}}, TEST):
        assert accepts(schema, good), good
        parse_options(good)
    for bad in (
        {"x": 1},
        {"perceptual_keys": []},
        {"train": {"G_optimzer_lr": 1}},
        {"train": {"perceptual_keys": []}},
        {"train": {"total_iter": "5"}},
        {"train": {"total_iter": True}},
        {"train": {"E_decay": 1}},
        {"train": {"G_optimizer_betas": [0.9]}},
        {"train": {"G_scheduler_periods": []}},
        {"netG": {"F_x": 1}},
        {"scale": 5},
        {"gpu_ids": 0},
        {"datasets": {"train": {}}},
    ):
        assert not accepts(schema, bad), bad
        with pytest.raises(OptionError):
            parse_options(bad)


def test_the_shipped_schema_is_the_current_one() -> None:
    path = ROOT / "options/schema.json"
    assert path.is_file(), "write it: swinlet schema > options/schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json_schema(), (
        "renew it: swinlet schema > options/schema.json"
    )


# Whatever comes


def test_options_need_no_torch() -> None:
    code = "import sys, swinlet.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def known_keys() -> list[str]:
    schema = json_schema()
    return sorted({key for section in (schema, *schema["$defs"].values()) for key in section["properties"]})


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["l1", "cosine"])
)
KEYS = st.sampled_from(known_keys()) | st.text(max_size=5)
TREES = st.recursive(SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=5), max_leaves=25)


def error_of(call: Callable[[], object]) -> str | None:
    """The message of the one error allowed."""
    try:
        call()
    except OptionError as error:
        return str(error)
    return None


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_any_tree_is_options_or_an_error_with_paths(tree: dict[str, Any]) -> None:
    message = error_of(lambda: parse_options(tree))
    if message is not None:
        first, *lines = message.splitlines()
        assert first == "options:"
        assert lines
        assert all(re.match(r'  [\w$"].*?: .', line) for line in lines), lines
        message.encode()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(NetworkOptions.model_fields)), TREES, max_size=6))
def test_any_network_section_is_one_or_an_error(tree: dict[str, Any]) -> None:
    message = error_of(lambda: parse_section(NetworkOptions, tree, "netG"))
    assert message is None or message.startswith("netG:\n  ")


@settings(max_examples=100, deadline=None)
@given(st.text() | st.lists(st.sampled_from([*'{}[]":,/*\n', "1", "task", "null", "//"]), max_size=30).map("".join))
def test_any_text_is_options_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    message = error_of(lambda: load_options(path))
    assert message is None or message.startswith(str(path))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=20) | st.builds("{}={}".format, KEYS, st.text(max_size=8)), max_size=4))
def test_any_override_is_options_or_an_error(tmp_path_factory: pytest.TempPathFactory, overrides: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "override.json"
    path.write_text("{}")
    message = error_of(lambda: load_options(path, overrides))
    if message is not None:
        assert message.startswith(str(path))
        message.encode()


def test_scale_and_channels_given_for_the_network_alone() -> None:
    opt = parse_options({"netG": {"upscale": 2, "in_chans": 1}})
    assert (opt.scale, opt.n_channels) == (2, 1)
    assert parse_options({"scale": 3}).completed(NetworkOptions()).upscale == 3


def test_milestones_that_are_never_reached() -> None:
    opt = parse_options({"train": {"total_iter": 100, "G_scheduler_milestones": [50, 200]}})
    assert any("G_scheduler_milestones [200] (never reached" in text for text in keys_without_effect(opt))
    assert not any("milestones" in text for text in keys_without_effect(parse_options({"train": {"total_iter": 9}})))


def test_the_page_of_keys_is_fresh_and_complete() -> None:
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert page.rstrip() == markdown_reference().rstrip(), "docs/options.md is stale: make schema"
    sections = {"path", "datasets", "unlabelled", "netG", "netTeacher", "train", "distillation", "keep_checkpoints"}
    for section in (Options, PathOptions, DatasetOptions, NetworkOptions, TrainOptions, KeepOptions):
        for name, field in section.model_fields.items():
            assert name in sections or f"| `{field.alias or name}` |" in page


@pytest.mark.parametrize("template", ["x4", "{}{}", "{0}x4", "sub/{}", "{", "", "{}\n", "{} {name}"])
def test_templates_of_file_names(template: str) -> None:
    tree = {"datasets": {"train": {"dataroot_H": "x", "filename_tmpl": template}}}
    message = error_of(lambda: parse_options(tree))
    assert message is not None
    assert "datasets.train.filename_tmpl: must be a file name with one {}" in message
    tree["datasets"]["train"]["filename_tmpl"] = "{}x4"
    assert parse_options(tree).datasets.train.filename_tmpl == "{}x4"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"train": {"distillation_type": "respons"}},
            "train.distillation_type: must be one of * did you mean response?",
        ),
        (
            {"train": {"distillation_type": ["fakd", "featur"]}},
            "distillation_type.1: must be one of * did you mean feature?",
        ),
        (
            {"train": {"distillation": {"respons": {}}}},
            "train.distillation.respons: unknown key, did you mean response?",
        ),
        ({"netG": {"net_type": "SwinIR_studnet"}}, "netG.net_type: must be one of * did you mean swinir_student?"),
        (
            {"datasets": {"train": {"dataroot_H": "x", "dataset_type": "sr2"}}},
            "dataset_type: must be one of sr, did you mean sr?",
        ),
        ({"model": "plane"}, "model: must be one of plain, did you mean plain?"),
    ],
)
def test_mistyped_names_get_the_nearest(tree: dict[str, Any], message: str) -> None:
    text = error_of(lambda: parse_options(tree))
    assert text is not None
    start, _, end = message.partition("*")
    assert start in text
    assert end in text


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"scale": 3, "datasets": {"train": {"dataroot_H": "x", "H_size": 64}}},
            "H_size: 64 is not a multiple of scale 3 (",
        ),
        (
            {"datasets": {"train": {"dataroot_H": "x", "H_size": 98}}},
            "98 is not a multiple of scale 4 (scale is 4 by default)",
        ),
        (
            {"datasets": {"train": {"dataroot_H": "x"}}, "train": {"gradient_accumulation_steps": 33}},
            "33 parts of 32 patches (datasets.train.dataloader_batch_size is 32 by default)",
        ),
    ],
)
def test_conflicts_with_defaults_say_so(tree: dict[str, Any], message: str) -> None:
    text = error_of(lambda: parse_options(tree))
    assert text is not None
    assert message.removesuffix(" (") in text
    assert ("by default" in text) == ("by default" in message)
