"""The option files that ship: valid, complete, and able to train."""

from pathlib import Path

import pytest

from swinlet.options import load_options
from swinlet.study.plan import Shard
from swinlet.study.run import StudyRunner
from swinlet.study.scores import Scorer
from swinlet.study.spec import load_study
from swinlet.train import train

ROOT = Path(__file__).resolve().parents[1]
STUDENTS = ["none", "response", "feature", "feature_v2"]
FILES = [
    *[
        "train_demo",
        "train_teacher",
        "train_student_x4",
        "finetune_student_x4",
        "distil_student_x4",
        "train_student_x2",
    ],
    *[f"train_student_{name}" for name in STUDENTS],
]
STUDIES = ["study_demo"]


def test_no_file_is_forgotten() -> None:
    assert sorted(path.stem for path in (ROOT / "options").glob("*_*.json")) == sorted([*FILES, *STUDIES])


@pytest.mark.parametrize("name", STUDENTS)
def test_students_follow_the_seeds_protocol(name: str) -> None:
    opt = load_options(ROOT / "options" / f"train_student_{name}.json")
    assert opt.datasets.train is not None
    assert (opt.datasets.train.dataloader_batch_size, opt.datasets.train.H_size) == (32, 96)
    assert opt.train.total_iter == 20000
    assert opt.train.checkpoint_test == opt.train.checkpoint_save == 2000
    assert opt.train.G_scheduler_milestones == (10000, 16000, 18000, 19000)
    assert opt.netG.init_type == "default"
    assert opt.netG.drop_path_rate is None  # the reference's 0.1
    assert opt.netG.net_type == ("swinir_student_v2" if name == "feature_v2" else "swinir_student")
    assert opt.train.distillation_type == name.removesuffix("_v2")


@pytest.mark.parametrize("name", FILES)
def test_it_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations on real photographs with the file's own networks; the demo's teacher stands for the large one."""
    monkeypatch.chdir(ROOT)
    overrides = [
        f"path.root={tmp_path}",
        "datasets.train.dataroot_H=demo/images/train",
        "datasets.train.H_size=32",
        "datasets.train.dataloader_batch_size=2",
        "datasets.train.dataloader_num_workers=0",
        "datasets.test=null",
        "datasets.val=null",
        "train.total_iter=2",
    ]
    opt = load_options(ROOT / "options" / f"{name}.json", overrides)
    if opt.path.pretrained_netG is not None:
        overrides.append("path.pretrained_netG=swinlet/assets/student_x4.safetensors")
    if opt.datasets.train is not None and opt.datasets.train.dataroot_T is not None:
        overrides.append("datasets.train.dataroot_T=null")
    if opt.train.distillation_type != "none":
        overrides.append("path.pretrained_netTeacher=demo/teacher_x4.safetensors")
    opt = load_options(ROOT / "options" / f"{name}.json", overrides)
    assert train(opt)
    assert (opt.run_dir / "models" / "2_E.pth").exists()


@pytest.mark.parametrize("name", STUDIES)
def test_studies_find_what_they_need(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = load_study(Path("options") / f"{name}.json")
    runs = StudyRunner(study, Shard()).plan()
    assert len(runs) == len(study.seeds) * len(study.variants)
    assert Scorer(study).problems == []
