"""Study files: what they mean, and what is refused, by variant and key."""

import json
from pathlib import Path
from typing import Any

import pytest

from swinlet.errors import OptionError
from swinlet.options import keys_without_effect
from swinlet.study.plan import parse_shard, plan_runs
from swinlet.study.spec import Study, load_study
from tests.small_run import tree


def study_tree(**keys: Any) -> dict[str, Any]:
    """A study of two variants, the base beside it."""
    return {
        "base": "base.json",
        "out": "studies/small",
        "seeds": [1, 2],
        "reference": "none",
        "testsets": ["sets/one"],
        "variants": {
            "none": {"options": {"train.distillation_type": "none"}},
            "response": {"options": {"train": {"distillation_type": "response"}}},
        },
        **keys,
    }


def load(folder: Path, content: dict[str, Any] | None = None, **keys: Any) -> Study:
    """The study of ``study_tree(**keys)`` on a base with this content."""
    (folder / "base.json").write_text(json.dumps(content or tree(Path("photos"), Path("root"), Path("T.pth"))))
    path = folder / "study.json"
    path.write_text(f"// a study\n{json.dumps(study_tree(**keys))}")
    return load_study(path)


def variants(**more: Any) -> dict[str, Any]:
    return {**study_tree()["variants"], **more}


def test_paths_and_changes(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        teacher="weights/T.pth",
        testsets=["sets/one", "/elsewhere/two"],
        options={"train": {"total_iter": 8}, "netG.depths": [1, 1]},
        variants=variants(other={"options": {"path.pretrained_netTeacher": "O.pth", "netTeacher": None}}),
    )
    assert found.base == tmp_path / "base.json"
    assert found.out == Path("studies/small")  # as path.root, from where the command is started
    assert found.teacher == str(tmp_path / "weights/T.pth")
    assert found.testsets == (tmp_path / "sets/one", Path("/elsewhere/two"))
    none, response, other = found.variants
    assert (none.options.train.distillation_type, response.options.train.distillation_type) == ("none", "response")
    assert other.options.path.teachers == (Path("O.pth"),)
    assert {variant.options.train.total_iter for variant in found.variants} == {8}
    assert {variant.options.netG.depths for variant in found.variants} == {(1, 1)}
    assert response.changes == (("train.distillation_type", "response"),)
    assert found.options is none.options


def test_a_teacher_of_the_hub_is_no_path(tmp_path: Path) -> None:
    assert load(tmp_path, teacher="hf://user/model").teacher == "hf://user/model"


def test_runs_come_seed_by_seed(tmp_path: Path) -> None:
    runs = plan_runs(load(tmp_path, variants=variants(**{"none, equal time": {}})))
    assert [run.name for run in runs] == [
        *["none, seed 1", "response, seed 1", "none, equal time, seed 1"],
        *["none, seed 2", "response, seed 2", "none, equal time, seed 2"],
    ]
    assert runs[2].folder == Path("studies/small/runs/none_equal_time/seed_1")
    assert runs[2].option_file == Path("studies/small/runs/none_equal_time/seed_1.json")
    for count in (1, 2, 4, 8):
        parts = [[run for run in runs if parse_shard(f"{i}/{count}").has(run)] for i in range(1, count + 1)]
        assert sorted((run for part in parts for run in part), key=lambda run: run.position) == list(runs)
    assert [run.position for run in runs if parse_shard("2/4").has(run)] == [1, 5]


def test_options_of_a_run(tmp_path: Path) -> None:
    run = plan_runs(load(tmp_path))[3]
    opt = run.options(7)
    assert (opt.train.manual_seed, opt.train.total_iter, opt.train.distillation_type) == (2, 7, "response")
    assert opt.run_dir == run.folder
    assert opt.path.teachers == (Path("T.pth"),)


def test_another_teacher_has_no_stored_answers(tmp_path: Path) -> None:
    stored = {"datasets.train.dataroot_T": "answers"}
    run = next(run for run in plan_runs(load(tmp_path, options=stored)) if run.variant.options.train.needs_teacher)
    opt = run.options(7, Path("W.safetensors"))
    assert opt.path.teachers == (Path("W.safetensors"),)
    assert opt.datasets.train is not None
    assert opt.datasets.train.dataroot_T is None
    own = run.options(7).datasets.train
    assert own is not None
    assert own.dataroot_T == Path("answers")


def test_keys_of_the_base_that_serve_other_variants_are_left_out(tmp_path: Path) -> None:
    base = tree(Path("photos"), Path("root"), Path("T.pth"), feature_pairs=[[0, 0], [1, 1]])
    own = {"options": {"train.distillation_type": "none", "train.start_feature_iter": 3}}
    runs = {run.variant.name: run.options(6) for run in plan_runs(load(tmp_path, base, variants=variants(own=own)))}
    assert keys_without_effect(runs["none"]) == []
    assert runs["none"].path.teachers == ()
    assert [text.partition(" ")[0] for text in keys_without_effect(runs["own"])] == ["train.start_feature_iter"]


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "1/0", "a/b", "-1/2", "1/2/3", ""])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match=r"--shard .*: write NUMBER/COUNT"):
        parse_shard(text)


PAIRED = [
    "train.total_iter",
    "scale",
    "n_channels",
    "netG.upscale",
    "datasets.train.H_size",
    "datasets.train.dataroot_H",
]
PAIRED += [
    f"datasets.train.{key}" for key in ("dataroot_L", "dataloader_batch_size", "dataloader_shuffle", "on_bad_image")
]


@pytest.mark.parametrize("key", PAIRED)
def test_what_pairs_need_cannot_differ(key: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as raised:
        load(tmp_path, variants=variants(bad={"options": {key: 4}}))
    assert f"variants.bad.options.{key}: runs of one seed are compared, so {key} must be the same" in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seed": [1]}, "seed: unknown key, did you mean seeds?"),
        ({"seeds": []}, "seeds: must have at least 1 item(s)"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 given twice"),
        ({"seeds": [1.5]}, "seeds.0: "),
        ({"seeds": [-1]}, "seeds.0: "),
        ({"reference": "nobody"}, "reference: must be one of none, response"),
        ({"testsets": []}, "testsets: must have at least 1 item(s)"),
        ({"testsets": ["sets/one", "two", "./sets/one/"]}, "testsets: sets/one given twice"),
        (
            {"variants": variants(bad={"options": {"train.E_decay": 0}})},
            'weights: "E", but bad has no moving average (train.E_decay is 0): set weights to "G"',
        ),
        ({"teacher": ""}, "teacher: must not be empty"),
        ({"weights": "best"}, "weights: input should be 'E' or 'G'"),
        ({"variants": {}}, "variants: "),
        ({"variants": [1]}, "variants: must be a section {...}"),
        ({"options": {"train.manual_seed": 3}}, "options.train.manual_seed: the study sets train.manual_seed"),
        ({"options": {"task": "x"}}, "options.task: the study sets task for each run: leave it out"),
        ({"options": {"path": {"root": "x"}}}, "options.path.root: the study sets path.root"),
        ({"options": {"train.total_iterations": 3}}, "train.total_iterations: unknown key, did you mean total_iter?"),
        ({"variants": variants(bad=3)}, "variants.bad: must be a section"),
        ({"variants": variants(bad={"option": {}})}, "variants.bad:\n  option: unknown key, did you mean options?"),
        ({"variants": variants(bad={"options": {"train": None}})}, "options.train: the study sets train.manual_seed"),
        ({"variants": variants(bad={"options": {"datasets": {}}})}, "options.datasets: runs of one seed are compared"),
        ({"variants": variants(bad={"options": {"train..x": 1}})}, "'train..x': write key.path"),
        (
            {"variants": variants(bad={"options": {"train.E_decay": 0.5, "train": {"E_decay": 0.6}}})},
            "options.train.E_decay: given twice",
        ),
        (
            {"variants": variants(bad={"options": {"train.E_decy": 0.5}})},
            "variants.bad.options, on the base:\n  train.E_decy: unknown key, did you mean E_decay?",
        ),
        ({"variants": variants(teacher={})}, "variants.teacher: 'teacher' stands for something else in tables"),
        ({"variants": variants(**{"..": {}})}, "variants...: cannot be a name: it needs a letter or digit"),
        ({"variants": variants(**{"a\nb": {}})}, "cannot be a name: choose another, printable"),
        ({"variants": variants(**{"x" * 61: {}})}, "of at most 60 characters"),
        ({"variants": variants(None_={})}, "variants.None_: its folder would be that of 'none': rename one"),
        ({"variants": variants(bad={"untrained_teacher": "yes"})}, "untrained_teacher: "),
        (
            {"variants": variants(bad={"equal_time": "nobody"})},
            "bad.equal_time: must be another variant (none, response)",
        ),
        ({"variants": variants(bad={"equal_time": "bad"})}, "bad.equal_time: must be another variant (none, response)"),
        (
            {"variants": variants(bad={"equal_time": "response"})},
            "train.G_scheduler_type is MultiStepLR, whose steps do",
        ),
        (
            {"variants": variants(one={"equal_time": "response"}, two={"equal_time": "one"})},
            "two.equal_time: one is such a control itself",
        ),
        (
            {"reference": "bad", "variants": variants(bad={"equal_time": "response"})},
            "bad.equal_time: the reference has the base's iterations",
        ),
    ],
)
def test_refusals(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as raised:
        load(tmp_path, **keys)
    assert message in str(raised.value)
    assert str(tmp_path / "study.json") in str(raised.value)


def test_types_that_are_tried(tmp_path: Path) -> None:
    load(tmp_path)
    found = load_study(tmp_path / "study.json", ["fakd", "response_tta"])
    assert [variant.name for variant in found.variants] == ["none", "response", "fakd", "response_tta"]
    assert found.variants[2].options.train.distillation_type == "fakd"
    assert found.results == Path("studies/small/try_fakd_response_tta")
    with pytest.raises(OptionError, match=r"(?s)variants\.fkad.*train\.distillation_type: must be one of none,"):
        load_study(tmp_path / "study.json", ["fkad"])
    with pytest.raises(OptionError, match=r"--try response: .*study\.json has a variant of this name: leave"):
        load_study(tmp_path / "study.json", ["fakd", "response"])


def test_raw_weights_where_nobody_has_a_moving_average(tmp_path: Path) -> None:
    assert load(tmp_path).weights == "E"
    assert load(tmp_path, options={"train.E_decay": 0}).weights == "G"
    raw = variants(bad={"options": {"train.E_decay": 0}})
    assert load(tmp_path, variants=raw, weights="G").weights == "G"


def test_faults_of_all_variants_are_told_at_once(tmp_path: Path) -> None:
    bad = {"options": {"scale": 2}}
    with pytest.raises(OptionError, match=r"(?s)variants\.one\.options\.scale.*variants\.two\.options\.scale"):
        load(tmp_path, variants=variants(one=bad, two=bad))


def test_faults_of_the_base_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"base\.json:\n  scale: "):
        load(tmp_path, content={"scale": 5})
    with pytest.raises(OptionError, match=r"base\.json: datasets\.train: missing"):
        load(tmp_path, content={"scale": 4})


def test_a_base_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"study\.json: base: .*nowhere\.json: cannot read"):
        load(tmp_path, base="nowhere.json")
