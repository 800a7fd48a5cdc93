"""A teacher's answers stored once, and training without its network."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import swinlet
import swinlet.teach
from swinlet.cli import app
from swinlet.data.augment import augment
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.prepare import prepare, verify_prepared
from swinlet.data.prepare_image import Request
from swinlet.data.taught import TaughtIndex, read_taught
from swinlet.errors import CheckpointError, DataError, OptionError
from swinlet.inference import RestoreOptions, Restorer
from swinlet.models.open_network import open_network
from swinlet.options import keys_without_effect
from swinlet.teach import teach, teach_request
from swinlet.train import train
from swinlet.utils.console import ProgressBar
from swinlet.utils.resize import bicubic_downscale
from swinlet.weights import read_weight_file
from tests.small_run import NET, options


def taught(teacher: Path, data: Path, out: Path, low: Path | None = None, **changes: Any) -> TaughtIndex:
    words = {"scale": None, "on_bad_image": "error", "self_ensemble": False, "tile": 512, "precision": "fp32"}
    request = teach_request(str(teacher), data, low, out, **(words | changes), download=False, device="cpu")
    with ProgressBar() as bar:
        return teach(request, bar)


@pytest.fixture
def folder(photos: Path, tmp_path: Path, teacher_file: Path) -> Path:
    taught(teacher_file, photos / "train", tmp_path / "T")
    return tmp_path / "T"


def stored(photos: Path, root: Path, folder: Path, **keys: Any) -> Any:
    opt = options(photos, root, distillation_type="response", **keys).model_dump(mode="json", exclude_unset=True)
    opt["datasets"]["train"]["dataroot_T"] = str(folder)
    return swinlet.options.parse_options(opt)


def answer_of(folder: Path, name: str) -> np.ndarray:
    (answer,) = [answer for answer in read_taught(folder).images if answer.high.path == name]
    return np.load(folder / "arrays" / answer.T.file)


def test_answers_are_what_the_teacher_restores(photos: Path, folder: Path, teacher_file: Path) -> None:
    network = open_network(read_weight_file(teacher_file, "key"), default_type="swinir")
    restorer = Restorer(network, RestoreOptions(torch.device("cpu")))
    index = read_taught(folder)
    assert [answer.high.path for answer in index.images] == ["china.png", "coffee.png", "rocket.png"]
    for answer in index.images:
        image = np.asarray(Image.open(photos / "train" / answer.high.path))
        expected = restorer(bicubic_downscale(image, 4))
        assert np.array_equal(answer_of(folder, answer.high.path), expected)
    assert (index.scale, index.n_channels, index.teacher.kind) == (4, 3, "swinir")
    with ProgressBar() as bar:
        assert verify_prepared(folder, 1, bar) == []


@pytest.mark.parametrize("made_of", ["files", "prepared"])
def test_samples_have_the_answer_cut_and_turned_as_H(photos: Path, folder: Path, tmp_path: Path, made_of: str) -> None:
    data = photos / "train"
    if made_of == "prepared":
        data = tmp_path / "prepared"
        with ProgressBar() as bar:
            prepare(Request(photos / "train", scale=4), data, bar)
    dataset = DatasetSR(data, scale=4, phase="train", H_size=32, dataroot_T=folder)
    plain = DatasetSR(data, scale=4, phase="train", H_size=32)
    for position in range(6):
        sample = dataset[position]
        assert torch.equal(sample["H"], plain[position]["H"])
        name = Path(sample["H_path"]).name
        high, answer = np.asarray(Image.open(photos / "train" / name)), answer_of(folder, name)
        places = [
            (top, left, mode)
            for top in range(0, answer.shape[0] - 31, 4)
            for left in range(0, answer.shape[1] - 31, 4)
            for mode in range(8)
            if np.array_equal(augment(high[top : top + 32, left : left + 32], mode), sample["H"].permute(1, 2, 0))
        ]
        assert len(places) == 1
        top, left, mode = places[0]
        expected = augment(answer[top : top + 32, left : left + 32], mode)
        assert np.array_equal(sample["T"].permute(1, 2, 0), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_needs_no_teacher(photos: Path, folder: Path, tmp_path: Path, workers: int) -> None:
    """The loss is that against the stored answers; a run in two parts ends as one in one."""
    for root, ends in (("whole", [4]), ("parts", [2, 4])):
        for end in ends:
            opt = stored(photos, tmp_path / root, folder, total_iter=end, checkpoint_test=100)
            section = opt.datasets.train.model_copy(update={"dataloader_num_workers": workers})
            assert train(opt.model_copy(update={"datasets": opt.datasets.model_copy(update={"train": section})}))
    whole, parts = (torch.load(tmp_path / root / "run/models/4_G.pth") for root in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    log = (tmp_path / "whole/run/train.log").read_text()
    assert "teacher: stored answers of swinir " in log
    assert "no teacher network; distillation: response" in log
    if workers:
        return
    model = swinlet.define_Model(stored(photos, tmp_path, folder, manual_seed=3))
    model.init_train()
    batch = {key: torch.rand(2, 3, side, side) for key, side in (("L", 8), ("H", 32), ("T", 32))}
    model.feed_data(batch)
    expected = (model.netG.eval()(batch["L"]) - batch["T"]).abs().mean().item()
    model.optimize_parameters(1)
    assert model.netTeacher is None
    assert model.current_log()["l_g_distill"] == pytest.approx(expected, rel=1e-4)


def test_stopped_and_brought_up_to_date(
    photos: Path, teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "T"
    shutil.copytree(photos / "train", data)
    asked: list[str] = []
    answer = swinlet.teach._Asked._answer

    def spy(self: Any, index: int) -> Any:
        asked.append(self._dataset.names[index])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return answer(self, index)

    monkeypatch.setattr(swinlet.teach._Asked, "_answer", spy)
    with pytest.raises(KeyboardInterrupt):
        taught(teacher_file, data, out)
    with pytest.raises(DataError, match=r"(?s)dataroot_T: .*china\.png: no answer.*Bring it up to date"):
        DatasetSR(data, scale=4, phase="train", H_size=32, dataroot_T=out)
    with pytest.raises(DataError, match=r"(?s)which would be lost:\n  - the first ones; it was stopped"):
        taught(teacher_file, photos / "train", out)
    with ProgressBar() as bar:
        assert verify_prepared(out, 1, bar) == [f"{out} is not finished: run swinlet teach again as before"]
    first = taught(teacher_file, data, out)
    assert asked == ["china", "coffee", "coffee", "rocket"]
    Image.open(data / "rocket.png").rotate(180).save(data / "rocket.png")
    (data / "coffee.png").unlink()
    second = taught(teacher_file, data, out)
    assert asked[4:] == ["rocket"]
    assert second.images[0] == first.images[0]
    assert len(list((out / "arrays").iterdir())) == len(second.images) == 2


def test_tiles_and_self_ensemble(photos: Path, teacher_file: Path, folder: Path, tmp_path: Path) -> None:
    taught(teacher_file, photos / "train", tmp_path / "tiles", tile=16)
    taught(teacher_file, photos / "train", tmp_path / "views", self_ensemble=True)
    whole, tiles, views = (answer_of(tmp_path / name, "china.png") for name in ("T", "tiles", "views"))
    for other in (tiles, views):
        assert other.shape == whole.shape
        assert not np.array_equal(other, whole)


# What is refused


def test_answers_are_not_lost_to_other_images(
    photos: Path, teacher_file: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "arrays").iterdir()}
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(photos / "train" / "china.png", data)
    with pytest.raises(DataError, match=r"(?s)would be lost:\n  - coffee\.png\n  - rocket\.png\n"):
        taught(teacher_file, data, folder)
    for path in (photos / "train").iterdir():  # the same names
        Image.open(path).rotate(180).save(data / path.name)
    with pytest.raises(DataError, match=r"(?s)would be lost:\n  - china\.png\n  - coffee"):
        taught(teacher_file, data, folder)
    assert {path.name: path.read_bytes() for path in (folder / "arrays").iterdir()} == before
    shutil.copy(photos / "train" / "china.png", data)
    index = taught(teacher_file, data, folder)  # a copy with changes
    assert index.images[0].T.file in before
    assert "answers to images that were changed or removed since (2) go" in caplog.text


def test_answers_to_other_images(photos: Path, teacher_file: Path, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos / "train", data)
    DatasetSR(data, scale=4, phase="train", H_size=32, dataroot_T=folder)  # a copy is the same
    Image.open(data / "rocket.png").rotate(180).save(data / "rocket.png")
    shutil.copy(data / "china.png", data / "new.png")
    with pytest.raises(DataError) as caught:
        DatasetSR(data, scale=4, phase="train", H_size=32, dataroot_T=folder)
    text = str(caught.value)
    assert text.startswith(f"datasets.train.dataroot_T: {folder} does not belong to these images (2):")
    assert f"{data / 'new.png'}: no answer" in text
    assert f"{data / 'rocket.png'}: not the image that the teacher answered to" in text
    assert f"--data {data} --out {folder} --scale 4 --precision fp32 --tile 512" in text
    taught(teacher_file, data, folder)  # as it says
    DatasetSR(data, scale=4, phase="train", H_size=32, dataroot_T=folder)
    (photos_alone := tmp_path / "one").mkdir()
    shutil.copy(data / "new.png", photos_alone)
    Image.open(data / "rocket.png").rotate(180).save(photos_alone / "other.png")
    with pytest.raises(DataError, match=f"(?s)These are other images.*--data {photos_alone} --out {folder}_other "):
        DatasetSR(photos_alone, scale=4, phase="train", H_size=32, dataroot_T=folder)
    with pytest.raises(DataError, match="was made with scale 4, but scale is 2"):
        DatasetSR(photos / "train", scale=2, phase="train", H_size=32, dataroot_T=folder)
    with pytest.raises(DataError, match="was made with n_channels 3, but n_channels is 1"):
        DatasetSR(photos / "train", scale=4, n_channels=1, phase="train", H_size=32, dataroot_T=folder)
    with pytest.raises(DataError, match=r"dataroot_H: .* holds a teacher's answers: name it as dataroot_T"):
        DatasetSR(folder, scale=4, phase="train", H_size=32)


def test_low_resolution_files_count(photos: Path, teacher_file: Path, folder: Path, tmp_path: Path) -> None:
    low = tmp_path / "low"
    low.mkdir()
    for path in (photos / "train").iterdir():
        Image.fromarray(bicubic_downscale(np.asarray(Image.open(path)), 4)).save(low / path.name)
    with pytest.raises(DataError, match=r"china\.png: the teacher's low-resolution image was made from this image"):
        DatasetSR(photos / "train", low, scale=4, phase="train", H_size=32, dataroot_T=folder)
    taught(teacher_file, photos / "train", tmp_path / "T2", low)
    assert np.array_equal(answer_of(tmp_path / "T2", "china.png"), answer_of(folder, "china.png"))
    DatasetSR(photos / "train", low, scale=4, phase="train", H_size=32, dataroot_T=tmp_path / "T2")
    with pytest.raises(DataError, match="low-resolution image was another file"):
        DatasetSR(photos / "train", scale=4, phase="train", H_size=32, dataroot_T=tmp_path / "T2")


def test_damaged_answers(photos: Path, teacher_file: Path, folder: Path) -> None:
    path = next((folder / "arrays").iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with ProgressBar() as bar:
        found = verify_prepared(folder, 1, bar)
    assert found == [
        f"{path}: its content is not what was written",
        f"{folder}: remove these files, and run swinlet teach again as before",
    ]
    taught(teacher_file, photos / "train", folder)  # what is damaged is computed again, not taken for right
    assert path.read_bytes() == content
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"bytes instead of {len(content)}"):
        DatasetSR(photos / "train", scale=4, phase="train", H_size=32, dataroot_T=folder)


def test_folders_that_hold_something_else(photos: Path, teacher_file: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.manual_seed(1)
    state = torch.load(teacher_file)["params_ema"]
    torch.save({name: tensor + 0.01 for name, tensor in state.items()}, other)
    with pytest.raises(DataError, match=r"other answers \(sha256 \w+ there, \w+ now; self_ensemble False there, True"):
        taught(other, photos / "train", folder, self_ensemble=True)
    with pytest.raises(DataError, match="is neither empty nor a folder of swinlet teach"):
        taught(teacher_file, photos / "train", photos / "train")
    with pytest.raises(CheckpointError, match=r"--teacher: .*enlarge x4, but --scale is 2"):
        taught(teacher_file, photos / "train", tmp_path / "new", scale=2)
    with pytest.raises(
        OptionError, match=r"(?s)--scale 5: must be one of.*--tile 4: .*--on-bad-image x.*--precision x"
    ):
        taught(teacher_file, photos, tmp_path, scale=5, tile=4, on_bad_image="x", precision="x")
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError, match=r"^--data: folder .*nowhere"):
        taught(teacher_file, tmp_path / "nowhere", tmp_path / "new")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text.png").write_text("no")
    with pytest.raises(DataError, match=r"(?s)^swinlet teach: problems with its images.*--on-bad-image skip"):
        taught(teacher_file, tmp_path / "data", tmp_path / "new")
    with pytest.raises(OSError, match="Not a directory") as caught:
        taught(teacher_file, photos / "train", tmp_path / "data" / "text.png" / "T")
    assert "what is done" not in str(caught.value)


def test_another_teacher_than_the_stored_one_is_refused(photos: Path, folder: Path, tmp_path: Path) -> None:
    opt = stored(photos, tmp_path, folder, total_iter=2)
    other = tmp_path / "other.pth"
    torch.save(swinlet.define_G({"net_type": "swinir"} | NET).state_dict(), other)
    paths = opt.path.model_copy(update={"pretrained_netTeacher": other})
    with pytest.raises(
        OptionError, match=r"pretrained_netTeacher: .*other\.pth is not .*teacher\.pth \(swinir\), whose"
    ):
        train(opt.model_copy(update={"path": paths}))
    teacher = Path(read_taught(folder).teacher.file)
    assert train(opt.model_copy(update={"path": opt.path.model_copy(update={"pretrained_netTeacher": teacher})}))


def test_keys_without_effect(photos: Path, tmp_path: Path) -> None:
    opt = stored(photos, tmp_path, tmp_path, teacher_precision="bf16")
    unused = keys_without_effect(opt)
    assert "train.teacher_precision (datasets.train.dataroot_T has the teacher's answers)" in unused
    for kind, reason in (("none", "is 'none'"), ("dukd", "is 'dukd', which asks the teacher itself")):
        section = opt.train.model_copy(update={"distillation_type": kind})
        unused = keys_without_effect(opt.model_copy(update={"train": section}))
        assert f"datasets.train.dataroot_T (distillation_type {reason})" in unused


def test_command(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    words = ["teach", "--teacher", str(teacher_file), "--data", str(photos / "train"), "--out", str(tmp_path / "T")]
    assert CliRunner().invoke(app, [*words, "--device", "cpu"]).exit_code == 0
    assert json.loads((tmp_path / "T/index.json").read_text())["teacher"]["file"] == str(teacher_file)
    assert CliRunner().invoke(app, ["prepare", "--verify", str(tmp_path / "T")]).exit_code == 0
    assert CliRunner().invoke(app, [*words, "--tile", "1"]).exit_code == 2
