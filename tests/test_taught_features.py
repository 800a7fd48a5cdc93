"""Features of a teacher stored with its answers, and feature distillation without its network."""

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
from swinlet.data.prepare import verify_prepared
from swinlet.data.select_dataset import define_Dataset, training_batches
from swinlet.data.taught import read_taught
from swinlet.errors import CheckpointError, DataError, MachineError, OptionError
from swinlet.models.open_network import open_network
from swinlet.options import keys_without_effect, parse_options
from swinlet.train import train
from swinlet.utils.console import ProgressBar
from swinlet.utils.resize import bicubic_downscale
from swinlet.weights import read_weight_file
from tests.small_run import options
from tests.test_teach import taught


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory, teacher_file: Path) -> Path:
    """Answers and both stages of the teacher; not to be changed."""
    out = tmp_path_factory.mktemp("features") / "T"
    taught(teacher_file, photos / "train", out, features=["0", "layers.1"])
    return out


def stored(photos: Path, root: Path, folder: Path, *, data: dict[str, Any] | None = None, **keys: Any) -> Any:
    opt = options(photos, root, distillation_type="feature", **keys).model_dump(mode="json", exclude_unset=True)
    opt["datasets"]["train"] |= {"dataroot_T": str(folder), **(data or {})}
    return parse_options(opt)


def arrays_of(folder: Path, name: str) -> list[np.ndarray]:
    (answer,) = [answer for answer in read_taught(folder).images if answer.high.path == name]
    return [np.load(folder / "arrays" / array.file) for array in answer.arrays]


def test_features_are_those_of_the_whole_image(photos: Path, folder: Path, teacher_file: Path, tmp_path: Path) -> None:
    """As maps of its pixels: what stands for the padding is left out. The answer is what it is without features."""
    network = open_network(read_weight_file(teacher_file, "key"), default_type="swinir").eval()
    index = read_taught(folder)
    assert [(feature.name, feature.width) for feature in index.features] == [("layers.0", 16), ("layers.1", 16)]
    for name in ("china.png", "rocket.png"):  # 16x20 and 17x17 LR pixels, in windows of 4
        low = bicubic_downscale(np.asarray(Image.open(photos / "train" / name)), 4)
        height, width = low.shape[:2]
        with torch.no_grad():
            x = torch.from_numpy(low).permute(2, 0, 1)[None].float() / 255
            _, features = network(x, return_features=True)
        grid = network.token_grid(height), network.token_grid(width)
        image, *stored_maps = arrays_of(folder, name)
        for array, tokens in zip(stored_maps, features, strict=True):
            expected = tokens.reshape(*grid, 16)[:height, :width].half().numpy()
            assert array.dtype == np.float16
            np.testing.assert_allclose(array, expected, atol=1e-3)
            assert array.std() > 0.01
    taught(teacher_file, photos / "train", tmp_path / "T")
    assert np.array_equal(arrays_of(tmp_path / "T", "rocket.png")[0], image)
    with ProgressBar() as bar:
        assert verify_prepared(folder, 1, bar) == []


def test_samples_have_them_cut_and_turned_as_L(photos: Path, folder: Path) -> None:
    dataset = DatasetSR(photos / "train", scale=4, phase="train", H_size=32, dataroot_T=folder, features=None)
    one = DatasetSR(photos / "train", scale=4, phase="train", H_size=32, dataroot_T=folder, features=["layers.1"])
    images = DatasetSR(photos / "train", scale=4, phase="train", H_size=32, dataroot_T=folder)
    assert [feature.name for feature in one.features] == ["layers.1"]
    modes: set[int] = set()
    for position in range(8):
        sample = dataset[position]
        assert sample.keys() == images[position].keys() | {"F0", "F1"}
        assert torch.equal(one[position]["F0"], sample["F1"])
        name = Path(sample["H_path"]).name
        high = np.asarray(Image.open(photos / "train" / name))
        maps = arrays_of(folder, name)[1:]
        (place,) = [
            (top, left, mode)
            for top in range(high.shape[0] // 4 - 7)
            for left in range(high.shape[1] // 4 - 7)
            for mode in range(8)
            if np.array_equal(
                augment(high[4 * top : 4 * top + 32, 4 * left : 4 * left + 32], mode), sample["H"].permute(1, 2, 0)
            )
        ]
        top, left, mode = place
        modes.add(mode)
        for key, array in zip(("F0", "F1"), maps, strict=True):
            expected = augment(array[top : top + 8, left : left + 8], mode)
            assert sample[key].dtype == torch.float16
            assert np.array_equal(sample[key].permute(1, 2, 0), expected)
    assert len(modes) > 3
    batch = dataset.batch([3, 7])
    assert batch["F1"].shape == (2, 16, 8, 8)
    assert torch.equal(batch["F1"][1], dataset[7]["F1"])


def test_the_loss_is_that_of_the_network_in_the_step(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    """Where it sees the same: an image that is one patch, unturned; but for the rounding of what is stored."""
    (tmp_path / "train").mkdir()
    Image.open(photos / "train/china.png").crop((0, 0, 32, 32)).save(tmp_path / "train/a.png")
    taught(teacher_file, tmp_path / "train", tmp_path / "T", features=["0", "1"])
    data = {"dataroot_H": str(tmp_path / "train"), "dataloader_batch_size": 1}
    opt = stored(photos, tmp_path, tmp_path / "T", data=data, feature_lossfn_weight=1.0)
    tree = opt.model_dump(mode="json", exclude_unset=True)
    del tree["datasets"]["train"]["dataroot_T"]
    asking = parse_options(tree | {"path": {"pretrained_netTeacher": str(teacher_file)}})
    dataset = define_Dataset(opt, "train")
    low = bicubic_downscale(np.asarray(Image.open(tmp_path / "train/a.png")), 4)
    unturned = next(i for i in range(100) if np.array_equal(dataset[i]["L"].permute(1, 2, 0), low))
    losses: list[dict[str, float]] = []
    for each in (opt, asking):
        model = swinlet.define_Model(each)
        assert (model.netTeacher is None) == (each is opt)
        for linear in model.netP:  # its first weights are others, as building the teacher draws numbers
            torch.nn.init.eye_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
        model.init_train()
        model.feed_data(dataset.batch([unturned]))
        model.optimize_parameters(1)
        losses.append(model.current_log())
    assert losses[0]["l_g_feature"] > 0.1
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_needs_no_teacher_and_resumes_exactly(
    photos: Path, folder: Path, tmp_path: Path, workers: int
) -> None:
    data = {"dataloader_num_workers": workers}
    for root, ends in (("whole", [4]), ("parts", [2, 4])):
        for end in ends:
            assert train(stored(photos, tmp_path / root, folder, data=data, total_iter=end, checkpoint_test=100))
    for label in ("G", "P"):
        whole, parts = (torch.load(tmp_path / root / f"run/models/4_{label}.pth") for root in ("whole", "parts"))
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    log = (tmp_path / "whole/run/train.log").read_text()
    assert "teacher: stored answers and features layers.0 (16 wide) layers.1 (16 wide) of swinir " in log
    assert "no teacher network; distillation: feature" in log
    assert "l_g_feature" in log


@pytest.mark.parametrize("more", [{"precision": "bf16"}, {"gradient_accumulation_steps": 2}])
def test_which_features_and_how(photos: Path, folder: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    """Stages are those of ``feature_taps``, in their order; half floats meet bf16, and parts of a batch."""
    keys = {"feature_taps": ["layers.1", "layers.0"], "feature_pairs": [[1, 1]], "total_iter": 1, **more}
    opt = stored(photos, tmp_path, folder, **keys)
    model = swinlet.define_Model(opt)
    assert [tuple(linear.weight.shape) for linear in model.netP] == [(12, 16)]
    model.init_train()
    dataset = define_Dataset(opt, "train")
    assert [feature.name for feature in dataset.features] == ["layers.1", "layers.0"]
    batch = next(training_batches(dataset, opt, range(1, 2)))
    model.feed_data(batch)
    with torch.no_grad():
        ours = model.netG.eval()(batch["L"].float() / 255, return_features=True)[1][1]
        target = model.netP([batch["F1"].flatten(2).transpose(1, 2)])[0]
    model.optimize_parameters(1)
    expected = 0.01 * (ours - target).abs().mean().item()
    assert model.current_log()["l_g_feature"] == pytest.approx(expected, rel=0.02 if "precision" in more else 1e-4)


def test_features_are_added_and_stay(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    """New ones come last, as runs count them; those that are there need not be named again."""
    data, out = tmp_path / "data", tmp_path / "T"
    shutil.copytree(photos / "train", data)
    first = taught(teacher_file, data, out)
    taught(teacher_file, data, out, features=["1"])
    third = taught(teacher_file, data, out, features=["0", "1"])
    assert [feature.name for feature in third.features] == ["layers.1", "layers.0"]
    assert [answer.T for answer in third.images] == [answer.T for answer in first.images]
    Image.open(data / "rocket.png").rotate(180).save(data / "rocket.png")
    (data / "coffee.png").unlink()
    last = taught(teacher_file, data, out)
    assert last.features == third.features
    assert last.images[0] == third.images[0]
    assert len(list((out / "arrays").iterdir())) == 6


def test_stopped_it_goes_on(photos: Path, teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is asked for once, whatever is missing of it."""
    asked: list[int] = []
    answer = swinlet.teach._Asked._answer

    def spy(self: Any, index: int) -> Any:
        asked.append(index)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return answer(self, index)

    monkeypatch.setattr(swinlet.teach._Asked, "_answer", spy)
    with pytest.raises(KeyboardInterrupt):
        taught(teacher_file, photos / "train", tmp_path / "T", features=["0", "1"])
    next((tmp_path / "T/arrays").iterdir()).write_bytes(b"torn")
    index = taught(teacher_file, photos / "train", tmp_path / "T", features=["0", "1"])
    assert asked == [0, 1, 0, 1, 2]
    assert len(list((tmp_path / "T/arrays").iterdir())) == 9
    with ProgressBar() as bar:
        assert verify_prepared(tmp_path / "T", 1, bar) == []
    assert taught(teacher_file, photos / "train", tmp_path / "T", features=["0", "1"]) == index
    assert len(asked) == 5


def test_features_of_tiles(photos: Path, teacher_file: Path, folder: Path, tmp_path: Path) -> None:
    taught(teacher_file, photos / "train", tmp_path / "tiles", tile=16, features=["0"])
    whole, tiles = (arrays_of(place, "china.png") for place in (folder, tmp_path / "tiles"))
    assert tiles[1].shape == whole[1].shape
    assert not np.array_equal(tiles[1], whole[1])
    np.testing.assert_allclose(tiles[1], whole[1], atol=0.2 * float(whole[1].std()))


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # in spandrel's HAT
def test_modules_of_another_network(photos: Path, tmp_path: Path) -> None:
    """HAT's groups put out tokens of the image padded to 16; Compact's convolutions maps of the image itself."""
    spandrel = pytest.importorskip("spandrel", reason="needs the extra teachers")
    small = {"embed_dim": 60, "depths": (1,), "num_heads": (2,), "window_size": 4}
    hat = spandrel.architectures.HAT.HAT(**small, upscale=4, upsampler="pixelshuffle")
    compact = spandrel.architectures.Compact.Compact(num_feat=6, num_conv=2, upscale=4)
    (tmp_path / "data").mkdir()
    shutil.copy(photos / "train/rocket.png", tmp_path / "data")
    for network, module, width in ((hat, "layers.0", 60), (compact, "body.3", 6)):
        torch.save({"params": network.state_dict()}, tmp_path / "teacher.pth")
        out = tmp_path / module
        taught(tmp_path / "teacher.pth", tmp_path / "data", out, features=[module])
        seen: list[torch.Tensor] = []
        opened = spandrel.ModelLoader().load_from_state_dict(torch.load(tmp_path / "teacher.pth"))
        opened.model.get_submodule(module).register_forward_hook(lambda m, inputs, output, to=seen: to.append(output))
        low = bicubic_downscale(np.asarray(Image.open(tmp_path / "data/rocket.png")), 4)
        opened(torch.from_numpy(low).permute(2, 0, 1)[None].float() / 255)
        array = arrays_of(out, "rocket.png")[1]
        assert array.shape == (17, 17, width)
        output = seen[0].reshape(20, 20, width)[:17, :17] if module == "layers.0" else seen[0][0].permute(1, 2, 0)
        np.testing.assert_allclose(array, output.numpy(), atol=2e-3)
    with pytest.raises(OptionError, match=r"upsampler: it puts out a map of 260x260; there "):
        taught(tmp_path / "teacher.pth", tmp_path / "data", tmp_path / "new", features=["upsampler"])
    with pytest.raises(OptionError, match=r"--features 0: RealESRGAN Compact has no numbered stages: name modules"):
        taught(tmp_path / "teacher.pth", tmp_path / "data", tmp_path / "new", features=["0"])


# What is refused


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (["2"], r"^--features 2: SwinIR has stages 0 to 1$"),
        (["-1"], r"^--features -1: SwinIR has stages 0 to 1$"),
        (["layers.0", "layer.1"], r"^--features: SwinIR has no module 'layer\.1': did you mean layers\.1"),
        (["upsample"], r"^--features: upsample: it is not called when .*; there have to be 65x65 tokens of a patch of "
         r"65x65 pixels: these would fit: conv_first, "),
    ],
)  # fmt: skip
def test_modules_that_do_not_fit(
    photos: Path, teacher_file: Path, tmp_path: Path, features: list[str], text: str
) -> None:
    with pytest.raises(OptionError, match=text):
        taught(teacher_file, photos / "train", tmp_path / "T", features=features)
    assert not (tmp_path / "T").exists()


def test_features_and_self_ensemble(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--self-ensemble: "):
        taught(teacher_file, photos / "train", tmp_path / "T", features=["0"], self_ensemble=True)
    taught(teacher_file, photos / "train", tmp_path / "T", self_ensemble=True)
    with pytest.raises(DataError, match=r"--out \S+/T_features --scale 4 --precision fp32 --tile 512 --features 0; or"):
        swinlet.define_Model(stored(photos, tmp_path, tmp_path / "T"))


def test_a_disk_that_is_too_small(
    photos: Path, teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The sizes said beforehand are those of the files; what is there needs no room."""
    out = tmp_path / "T"
    with caplog.at_level("INFO", "swinlet"):
        index = taught(teacher_file, photos / "train", out, features=["0"])
    size = sum(path.stat().st_size for path in (out / "arrays").iterdir())
    assert f"{out}: 6 arrays to be written, {size / 1e6:.1f} MB" in caplog.text
    usage = shutil.disk_usage(out)
    monkeypatch.setattr(swinlet.teach.shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    assert taught(teacher_file, photos / "train", out) == index
    with pytest.raises(MachineError, match=r"are to be written, and 0\.0 MB are free on its disk: name fewer"):
        taught(teacher_file, photos / "train", out, features=["1"])
    assert read_taught(out) == index


def test_values_beyond_float16(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    state = torch.load(teacher_file)["params_ema"]
    state["layers.0.conv.bias"] = torch.full_like(state["layers.0.conv.bias"], 1e6)
    torch.save(state, tmp_path / "loud.pth")
    with pytest.raises(CheckpointError, match=r"--features layers\.0: of china it has values .* beyond 65,504"):
        taught(tmp_path / "loud.pth", photos / "train", tmp_path / "T", features=["0"])


def test_folders_without_the_features(photos: Path, folder: Path, teacher_file: Path, tmp_path: Path) -> None:
    taught(teacher_file, photos / "train", tmp_path / "T")
    opt = stored(photos, tmp_path, tmp_path / "T")
    for opens in (swinlet.define_Model, lambda opt: define_Dataset(opt, "train")):
        with pytest.raises(DataError) as caught:
            opens(opt)
        text = str(caught.value)
        assert text.startswith(f"datasets.train.dataroot_T: {tmp_path / 'T'} has images of the teacher, but no feat")
        assert f"--out {tmp_path / 'T'} --scale 4 --precision fp32 --tile 512 --features 0; or leave" in text
    with pytest.raises(DataError, match=r"only the features layers\.0, layers\.1 \(did you mean layers\.1 in .*taps"):
        swinlet.define_Model(stored(photos, tmp_path, folder, feature_taps=["layers.0", "layers.11"]))
    with pytest.raises(DataError, match=r"dataroot_T: .* is no folder of swinlet teach"):
        swinlet.define_Model(stored(photos, tmp_path, photos))
    with pytest.raises(OptionError, match="the student has 2 stages, the teacher 1: say which to pair"):
        swinlet.define_Model(stored(photos, tmp_path, folder, feature_taps=["layers.1"]))


def test_patches_that_the_student_pads(photos: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.train\.H_size: 40 makes .* 10x10 .* windows of 4.*: use 32 or 48"):
        swinlet.define_Model(stored(photos, tmp_path, folder, data={"H_size": 40}))


def test_damaged_features(photos: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "T")
    index = read_taught(folder)
    path = tmp_path / "T/arrays" / index.images[1].features[1].file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with ProgressBar() as bar:
        assert verify_prepared(tmp_path / "T", 1, bar)[0] == f"{path}: its content is not what was written"
    opens = {"scale": 4, "phase": "train", "H_size": 32, "dataroot_T": tmp_path / "T", "features": None}
    data = DatasetSR(photos / "train", **opens)
    np.save(path, np.zeros((3, 3, 16), np.float16))
    with pytest.raises(DataError, match="bytes instead of"):
        DatasetSR(photos / "train", **opens)
    with pytest.raises(DataError, match=r"changed since the data set was checked: 3x3x16 values, not \d+x\d+x16"):
        [data[i] for i in range(6)]
    tree = json.loads((folder / "index.json").read_text())
    del tree["images"][0]["features"][0]
    (tmp_path / "T/index.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        read_taught(tmp_path / "T")


def test_keys_without_effect(photos: Path, folder: Path, tmp_path: Path) -> None:
    opt = stored(photos, tmp_path, folder, teacher_precision="bf16", feature_taps=["layers.0", "layers.1"])
    assert keys_without_effect(opt) == ["train.teacher_precision (datasets.train.dataroot_T has the teacher's answers)"]


def test_command(photos: Path, teacher_file: Path, tmp_path: Path) -> None:
    words = ["teach", "--teacher", str(teacher_file), "--data", str(photos / "train"), "--out", str(tmp_path / "T")]
    assert CliRunner().invoke(app, [*words, "--features", "0", "--features", "conv_first"]).exit_code == 0
    assert [feature.name for feature in read_taught(tmp_path / "T").features] == ["layers.0", "conv_first"]
    assert CliRunner().invoke(app, [*words, "--features", "9"]).exit_code == 2
