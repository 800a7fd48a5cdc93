"""``swinlet.load(...).upscale`` and ``swinlet upscale``."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

import swinlet
from swinlet.cli import app
from swinlet.errors import CheckpointError, DataError, OptionError
from swinlet.inference import RestoreOptions, Restorer
from swinlet.models.network_swinir import SwinIR
from swinlet.upscale.upscaler import SHIPPED, Upscaler
from swinlet.utils.alpha import laid_over, spread_colour, taken_off
from swinlet.utils.picture import Picture, encode, read_picture
from tests.small_run import NET

CPU = torch.device("cpu")


class Nearest:
    """A network that repeats pixels, and keeps what it was given."""

    upscale, window_size, bytes_per_pixel = 2, 1, 1

    def __init__(self, in_chans: int = 3) -> None:
        self.in_chans = in_chans
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def nearest(in_chans: int = 3) -> Upscaler:
    return Upscaler(Nearest(in_chans), RestoreOptions(CPU, tile="auto"))


def repeated(image: Any) -> Any:
    return np.asarray(image).repeat(2, 0).repeat(2, 1)


def random(shape: tuple[int, ...], dtype: Any) -> Any:
    values = np.random.default_rng(0).uniform(0.1, 1, shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


def opened(source: Path | bytes) -> Image.Image:
    with Image.open(io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())) as image:
        image.load()
        return image


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "student.pth"
    torch.save(swinlet.define_G({"net_type": "swinir_student", "upscale": 2, **NET}).state_dict(), path)
    return path


class TestKinds:
    @pytest.mark.parametrize("in_chans", [1, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 2), (3, 4, 3), (3, 4, 4)])
    def test_arrays(self, shape: tuple[int, ...], dtype: Any, in_chans: int) -> None:
        image = random(shape, dtype)
        channels = shape[2] if len(shape) == 3 else 1
        if channels in (2, 4):  # visible pixels keep their colour; what lies under others is tested in TestAlpha
            image[:2, :, -1] = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
        large = nearest(in_chans).upscale(image)
        assert large.dtype == dtype
        seen = slice(None, 4) if channels in (2, 4) else slice(None)
        assert np.allclose(large[seen], repeated(image)[seen], atol=1e-6)
        assert np.allclose(large[..., -1], repeated(image)[..., -1], atol=1e-6)

    @pytest.mark.parametrize("in_chans", [1, 3])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.float64])
    @pytest.mark.parametrize("shape", [(1, 3, 4), (3, 3, 4), (2, 1, 3, 4), (2, 3, 3, 4)])
    def test_tensors(self, shape: tuple[int, ...], dtype: torch.dtype, in_chans: int) -> None:
        image = torch.from_numpy(random(shape, np.uint8)) if dtype == torch.uint8 else torch.rand(shape).to(dtype)
        large = nearest(in_chans).upscale(image)
        assert large.dtype == dtype
        assert torch.allclose(large, image.repeat_interleave(2, -1).repeat_interleave(2, -2), atol=1e-6)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
    def test_pillow_images(self, mode: str) -> None:
        image = Image.fromarray(random((3, 4, 3), np.uint8)).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 200)
        image.info["icc_profile"] = b"profile"
        large = nearest().upscale(image)
        assert large.size == (8, 6)
        assert large.mode == ("L" if mode == "1" else mode)
        assert np.array_equal(np.asarray(large), repeated(image.convert("L") if mode == "1" else image))
        assert large.info["icc_profile"] == b"profile"

    def test_gray_stored_as_rgb_is_not_tinted(self) -> None:
        class Tinted(Nearest):
            def __call__(self, x: Tensor) -> Tensor:
                return super().__call__(x) + torch.tensor([0.0, 0.1, 0.2])[:, None, None]

        large = Upscaler(Tinted(), RestoreOptions(CPU)).upscale(np.full((2, 2, 3), 0.5, np.float32))
        assert large == pytest.approx(np.full((4, 4, 3), 0.6), abs=1e-6)

    def test_gray_is_the_mean_of_what_an_rgb_network_makes_of_it(self) -> None:
        class Tinted(Nearest):
            def __call__(self, x: Tensor) -> Tensor:
                return super().__call__(x) + torch.tensor([0.0, 0.1, 0.2])[:, None, None]

        large = Upscaler(Tinted(), RestoreOptions(CPU)).upscale(np.full((2, 2), 0.5, np.float32))
        assert large == pytest.approx(np.full((4, 4), 0.6), abs=1e-6)

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.zeros((2, 2, 5), np.uint8), r"\(h, w\) or \(h, w, 1 to 4\), not \(2, 2, 5\)"),
            (np.zeros((0, 2), np.uint8), r"not \(0, 2\)"),
            (np.zeros((2, 2), np.int64), "uint8, uint16 or floating-point"),
            (torch.zeros(2, 3, 3), r"C 1 or 3, not \(2, 3, 3\)"),
            (torch.zeros(3, 3, 3, dtype=torch.int64), "floating-point in"),
            (np.full((2, 2), np.nan), "float64 holds NaN"),
            (np.full((2, 2), 255.0), r"array of float64 has to be in \[0, 1\], but goes from 255 to 255: divide it by"),
            (np.dstack([np.ones((2, 2)), np.full((2, 2), 200.0)]), r"has to be in \[0, 1\], but goes from 200 to 200"),
            (torch.full((1, 2, 2), torch.nan), "float32 holds NaN"),
            (torch.full((3, 2, 2), 255.0), r"tensor of torch.float32 has to be in \[0, 1\], but goes from 255 to 255"),
            (torch.full((2, 1, 2, 2), -1.0), r"has to be in \[0, 1\], but goes from -1 to -1"),
            (Image.new("F", (2, 2)), "mode F"),
            (None, "a path, an array or a tensor, not NoneType"),
            ("there/is/none.png", "no such file"),
        ],
    )
    def test_what_is_refused(self, image: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            nearest().upscale(image)

    def test_paths(self, tmp_path: Path) -> None:
        image = Image.fromarray(random((3, 4, 3), np.uint8))
        path = tmp_path / "a.png"
        image.save(path)
        for given in (path, str(path)):
            large = nearest().upscale(given)
            assert isinstance(large, Image.Image)
            assert np.array_equal(np.asarray(large), repeated(image))

    def test_files_of_16_bit_colour_are_refused_before_they_are_enlarged(self, tmp_path: Path) -> None:
        (tmp_path / "deep.png").write_bytes(encode(Picture(random((3, 4, 3), np.uint16)), "PNG", 95))
        upscaler = nearest()
        with pytest.raises(DataError, match="Pillow holds no 16-bit pictures with colour"):
            upscaler.upscale(tmp_path / "deep.png")
        assert not upscaler._network.seen


def read_only(image: Any) -> Any:
    image.setflags(write=False)
    return image


def mapped(image: Any, path: Path) -> Any:
    """The array in a file that is mapped to be read only: writing to it is a segmentation fault."""
    np.save(path, image)
    return np.load(path, mmap_mode="r")


class Clearing(Nearest):
    """A network that computes in place: what it is given must be its own."""

    def __call__(self, x: Tensor) -> Tensor:
        large = super().__call__(x)
        x.zero_()
        return large


class TestMemoryOfTheCaller:
    """Images are only read, wherever they lie."""

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
    def test_arrays(self, dtype: Any, channels: int | None, tmp_path: Path) -> None:
        planes = random((channels or 1, 24, 24), dtype)
        planes[-1, :5] = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
        image = planes[0] if channels is None else planes.transpose(1, 2, 0)
        expected = nearest().upscale(image.copy())
        files = mapped(planes, tmp_path / "planes.npy")
        others = [
            read_only(image.copy()),
            mapped(np.ascontiguousarray(image), tmp_path / "image.npy"),
            files[0] if channels is None else files.transpose(1, 2, 0),
            image[::-1, ::-1].copy()[::-1, ::-1],
            image.astype(image.dtype.newbyteorder(">")),
        ]
        for network in (Nearest(), Clearing()):
            for other in others:
                before = np.array(other)
                large = Upscaler(network, RestoreOptions(CPU)).upscale(other)
                assert np.array_equal(large, expected)
                assert np.array_equal(other, before)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
    def test_tensors(self, dtype: torch.dtype) -> None:
        image = torch.rand(3, 8, 8) if dtype != torch.uint8 else torch.from_numpy(random((3, 8, 8), np.uint8))
        image = image.to(dtype)
        expected = nearest().upscale(image.clone())
        with torch.inference_mode():
            others = [image.clone(), image.clone().share_memory_()]
        others += [image.clone().share_memory_(), image.expand(2, 3, 8, 8)[1], image.permute(1, 2, 0).contiguous()]
        others[-1] = others[-1].permute(2, 0, 1)
        if dtype != torch.uint8:
            others += [image.clone().requires_grad_(), image.clone().requires_grad_() * 1]
        for network in (Nearest(), Clearing()):
            for other in others:
                large = Upscaler(network, RestoreOptions(CPU)).upscale(other)
                assert torch.equal(large, expected)
                assert torch.equal(other, image)
                assert not large.requires_grad
                large.add_(0)  # the result is an ordinary tensor


SATURATED = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]


class TestBorder:
    """Zero padding of convolutions is no content: flat pictures stay flat up to their edges."""

    @pytest.mark.parametrize("scale", [2, 4])
    def test_flat_colours_have_no_frame(self, scale: int) -> None:
        upscaler = swinlet.load(scale=scale)
        for colour in [*SATURATED, (10, 200, 90)]:
            image = np.full((40, 40, 3), colour, np.uint8)
            assert np.abs(upscaler.upscale(image).astype(int) - colour).max() <= 2, colour

    @pytest.mark.parametrize("scale", [2, 4])
    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3)])
    def test_small_pictures_neither(self, scale: int, size: tuple[int, int]) -> None:
        upscaler = swinlet.load(scale=scale)
        large = upscaler.upscale(np.full((*size, 3), (0, 0, 255), np.uint8))
        assert large.shape[:2] == (size[0] * scale, size[1] * scale)
        assert np.abs(large.astype(int) - (0, 0, 255)).max() <= 2

    @pytest.mark.parametrize("scale", [2, 4])
    def test_alpha_neither(self, scale: int) -> None:
        image = np.zeros((24, 24, 4), np.uint8)
        image[8:16, 8:16] = 255
        large = swinlet.load(scale=scale).upscale(image)[:, :, 3]
        margin = 3 * scale
        assert not large[:margin].any()
        assert not large[-margin:].any()
        assert not large[:, :margin].any()
        assert not large[:, -margin:].any()

    def test_what_the_network_sees(self) -> None:
        upscaler = nearest()
        image = torch.rand(1, 3, 5, 20)
        upscaler.upscale(image)
        seen = upscaler._network.seen[0]
        rows, columns = (np.pad(np.arange(side), 8, mode="symmetric") for side in (5, 20))
        assert torch.equal(seen, image[..., rows, :][..., columns])

    def test_tiles_are_chosen_with_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Nearest, "bytes_per_pixel", 10**6)
        monkeypatch.setattr("swinlet.inference.available_memory", lambda _: 2 * 10**6 * 144**2)
        assert nearest().tile_of(Picture(np.zeros((128, 128, 3), np.uint8))) is None
        assert nearest().tile_of(Picture(np.zeros((128, 150, 3), np.uint8))) == 144

    def test_scores_in_published_conventions_are_without_it(self) -> None:
        network = Nearest()
        Restorer(network, RestoreOptions(CPU)).restore(torch.rand(1, 3, 4, 5))
        assert network.seen[0].shape == (1, 3, 4, 5)


def over(image: Any, background: float) -> Any:
    """What is seen of RGBA over a gray background, in levels of 8 bits."""
    peak = np.iinfo(image.dtype).max
    share = image[:, :, 3:] / peak
    return 255 * (image[:, :, :3] / peak * share + background * (1 - share))


def disc(dtype: Any, alpha_around: int, colour: float = 1, around: float = 0) -> Any:
    """64x64 RGBA: a disc of alpha 255 on what is nearly transparent."""
    rows, columns = np.mgrid[:64, :64]
    inside = np.hypot(rows - 31.5, columns - 31.5) <= 20
    values = np.where(inside, float(colour), around)[:, :, None].repeat(4, axis=2)
    values[:, :, 3] = np.where(inside, 1, alpha_around / 255)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


class TestAlpha:
    @pytest.mark.parametrize("scale", [2, 4])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("alpha_around", [0, 1])
    def test_no_dark_outline(self, scale: int, dtype: Any, alpha_around: int) -> None:
        large = swinlet.load(scale=scale).upscale(disc(dtype, alpha_around))
        assert over(large, background=1).min() >= 254

    def test_no_bright_outline(self) -> None:
        large = swinlet.load(scale=4).upscale(disc(np.uint8, 1, colour=0, around=1))
        assert over(large, background=0).max() <= 1

    def test_what_is_half_transparent_keeps_its_colour(self) -> None:
        """Black of alpha 1/2 beside white is no gray glow."""
        large = swinlet.load(scale=4).upscale(disc(np.uint8, 128)).astype(int)
        assert large[:32, :32, :3].max() <= 8
        assert np.abs(large[:32, :32, 3] - 128).max() <= 2

    def test_hidden_colours_do_not_matter(self) -> None:
        images = [disc(np.uint8, 0, around=value) for value in (0, 0.5, 1)]
        one, *others = [swinlet.load(scale=2).upscale(image) for image in images]
        for other in others:
            assert np.array_equal(one, other)

    def test_the_background_has_visible_colours(self) -> None:
        colour, share = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
        colour[..., :8], share[..., :8] = 0.75, 1
        colour[..., 24:], share[..., 24:] = 0.25, 1
        background = spread_colour(colour, share)
        assert background[..., :4].sub(0.75).abs().max() < 0.01
        assert background[..., -4:].sub(0.25).abs().max() < 0.01
        assert background.min() >= 0.25
        assert background.max() <= 0.75

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3)])
    def test_laid_over_and_taken_off(self, size: tuple[int, int]) -> None:
        generator = torch.Generator().manual_seed(0)
        colour = torch.rand(2, 3, *size, generator=generator)
        share = torch.rand(2, 1, *size, generator=generator).clamp(min=0.2)
        background = spread_colour(colour, share)
        image = laid_over(background, colour, share)
        assert taken_off(image, background, share) == pytest.approx(colour, abs=1e-5)

    def test_nothing_visible(self) -> None:
        image = np.zeros((4, 4, 4), np.uint8)
        image[:2, :, 3] = 1
        assert not nearest().upscale(image)[:, :, :3].any()

    def test_alpha_that_is_the_same_everywhere_needs_no_network(self) -> None:
        upscaler = nearest()
        image = np.full((2, 2, 4), 255, np.uint8)
        assert np.array_equal(upscaler.upscale(image), repeated(image))
        assert len(upscaler._network.seen) == 1
        image[0, 0] = 0
        assert upscaler.upscale(image)[0, 0].tolist() == [255, 255, 255, 0]
        assert len(upscaler._network.seen) == 3


class TestLoad:
    @pytest.mark.parametrize("scale", [2, 4])
    def test_the_student_that_comes_along_beats_bicubic(self, scale: int, shared: Path) -> None:
        folder = shared / "data" / "testsets" / "Set5"
        low = opened(folder / "LR_bicubic" / f"X{scale}" / f"birdx{scale}.png")
        high = np.asarray(opened(folder / "HR" / "bird.png"), np.float64)
        ours = swinlet.load(scale=scale).upscale(low)
        errors = [
            float(np.square(np.asarray(image, np.float64) - high[: image.height, : image.width]).mean())
            for image in (ours, low.resize(ours.size, Image.Resampling.BICUBIC))
        ]
        assert errors[0] < errors[1] / 2  # 3 dB

    @pytest.mark.parametrize(("scale", "expected"), [(None, 4), (2, 2), (4, 4)])
    def test_it_is_small_and_whole(self, scale: int | None, expected: int) -> None:
        upscaler = swinlet.load(scale=scale)
        assert upscaler.scale == expected
        assert isinstance(upscaler._network, SwinIR)
        assert SHIPPED[expected].stat().st_size <= 4_000_000

    def test_files_and_folders_of_runs(self, weights: Path, tmp_path: Path) -> None:
        image = random((9, 11, 3), np.uint8)
        large = swinlet.load(weights, net_type="swinir_student", scale=2).upscale(image)
        assert large.shape == (18, 22, 3)
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "5_G.pth").write_bytes(weights.read_bytes())
        assert np.array_equal(swinlet.load(tmp_path, net_type="swinir_student").upscale(image), large)

    def test_options_have_an_effect(self, weights: Path) -> None:
        image = random((40, 50, 3), np.float32)
        plain = swinlet.load(weights, net_type="swinir_student", tile=None).upscale(image)
        ensemble = swinlet.load(weights, net_type="swinir_student", self_ensemble=True).upscale(image)
        tiled = swinlet.load(weights, net_type="swinir_student", tile=16).upscale(image)
        assert not np.array_equal(ensemble, plain)
        assert not np.array_equal(tiled, plain)
        assert np.abs(tiled - plain).max() < 0.1

    @pytest.mark.parametrize("backend", ["onnx", "openvino"])
    def test_engines_agree(self, backend: Any, weights: Path) -> None:
        pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
        image = random((21, 30, 4), np.uint8)
        for tile in (None, 16):
            ours = swinlet.load(weights, net_type="swinir_student", tile=tile).upscale(image)
            other = swinlet.load(weights, net_type="swinir_student", tile=tile, backend=backend).upscale(image)
            assert np.abs(ours.astype(int) - other).max() <= 1

    def test_an_exported_network_and_an_engine_go_together(self, weights: Path, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        export = CliRunner().invoke(
            app, ["export", str(weights), "--net-type", "swinir_student", "--out", str(tmp_path / "x.onnx")]
        )
        assert export.exit_code == 0, export.output
        image = random((9, 11), np.float32)
        ours = swinlet.load(weights, net_type="swinir_student").upscale(image)
        assert swinlet.load(tmp_path / "x.onnx", backend="onnx").upscale(image) == pytest.approx(ours, abs=1e-4)
        with pytest.raises(CheckpointError, match="choose the backend onnx or openvino"):
            swinlet.load(tmp_path / "x.onnx")
        with pytest.raises(OptionError, match="backend onnx computes on the CPU"):
            swinlet.load(tmp_path / "x.onnx", backend="onnx", device="cuda")
        with pytest.raises(CheckpointError, match="enlarges x2, but scale is 4"):
            swinlet.load(tmp_path / "x.onnx", backend="onnx", scale=4)

    def test_what_is_refused(self, weights: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for arguments, kind, message in [
            ({"weights": weights}, CheckpointError, "say which with net_type"),
            ({"weights": weights, "net_type": "swinir_student", "scale": 4}, CheckpointError, "enlarges x2, but scale"),
            ({"weights": tmp_path / "empty"}, CheckpointError, "a folder without weights"),
            ({"weights": tmp_path / "none.pth"}, CheckpointError, "does not exist"),
            ({"scale": 8}, OptionError, "scale 8: swinlet comes with students for x2 and x4"),
            ({"device": "abacus"}, OptionError, "no such device"),
            ({"tile": "none"}, OptionError, 'tile .none.: must be "auto", None or a whole number'),
            ({"tile_overlap": -1}, OptionError, "tile_overlap -1: must be at least 0"),
            ({"net_type": "x"}, OptionError, "net_type x: must be one of"),
            ({"precision": "x"}, OptionError, "precision x: must be one of"),
            ({"backend": "x"}, OptionError, "backend x: must be one of"),
            ({"tile": 16, "tile_overlap": 8}, OptionError, "tile_overlap 8: must be at least 0 and less than half"),
        ]:
            with pytest.raises(kind, match=message):
                swinlet.load(**arguments)  # type: ignore[arg-type]


def upscale(*words: object) -> Result:
    return CliRunner().invoke(app, ["upscale", *map(str, words)])


class TestCommand:
    @pytest.fixture
    def picture(self, tmp_path: Path) -> Path:
        path = tmp_path / "in" / "a.png"
        path.parent.mkdir()
        path.write_bytes(encode(Picture(random((8, 12, 3), np.uint8)), "PNG", 95))
        return path

    @pytest.fixture
    def ours(self, weights: Path) -> list[object]:
        return ["--weights", weights, "--net-type", "swinir_student"]

    def test_a_folder_keeps_its_structure_and_formats(self, tmp_path: Path, picture: Path, ours: list[object]) -> None:
        folder = picture.parent
        (folder / "sub").mkdir()
        pictures = {
            "sub/gray.png": (Picture(random((8, 8, 1), np.uint8)), "PNG"),
            "sub/deep.tif": (Picture(random((8, 8, 3), np.uint16), random((8, 8), np.uint16)), "TIFF"),
            "photo.JPG": (Picture(random((8, 8, 3), np.uint8)), "JPEG"),
            "alpha.webp": (Picture(random((8, 8, 3), np.uint8), random((8, 8), np.uint8)), "WEBP"),
            "old.bmp": (Picture(random((8, 8, 1), np.uint8)), "BMP"),
        }
        for name, (content, form) in pictures.items():
            (folder / name).write_bytes(encode(content, form, 95))  # type: ignore[arg-type]
        out = folder / "big"  # inside the folder that is searched
        result = upscale(folder, "--out", out, *ours)
        assert result.exit_code == 0, result.output
        assert "enlarged x2: 6" in result.output
        for name, (content, form) in pictures.items():
            large = read_picture(out / name)
            assert large.format == form
            assert large.size == (16, 16)
            assert large.colour.dtype == content.colour.dtype
            assert large.planes.shape[2] == content.planes.shape[2]
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        again = upscale(folder, "--out", out, *ours)
        assert "enlarged x2: 0, 6 were there already (--overwrite)" in again.output
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
        assert "enlarged x2: 6\n" in upscale(folder, "--out", out, "--overwrite", *ours).output

    def test_one_picture_equals_the_api(self, tmp_path: Path, picture: Path, ours: list[object], weights: Path) -> None:
        assert upscale(picture, "--out", tmp_path / "b.png", *ours).exit_code == 0
        expected = swinlet.load(weights, net_type="swinir_student").upscale(opened(picture))
        assert np.array_equal(np.asarray(opened(tmp_path / "b.png")), np.asarray(expected))
        assert upscale(picture, "--out", tmp_path / "folder", "--format", "jpg", *ours).exit_code == 0
        assert opened(tmp_path / "folder" / "a.jpg").size == (24, 16)

    def test_patterns(self, tmp_path: Path, picture: Path, ours: list[object]) -> None:
        (picture.parent / "sub").mkdir()
        (picture.parent / "sub" / "b.png").write_bytes(picture.read_bytes())
        (picture.parent / "sub" / "c.txt").write_text("no picture")
        result = upscale(picture.parent / "**" / "*", "--out", tmp_path / "out", *ours)
        assert result.exit_code == 0, result.output
        assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == {
            "a.png",
            "sub/b.png",
        }

    def test_patterns_do_not_go_round_links_and_leave_results_and_hidden_files_out(
        self, tmp_path: Path, picture: Path, ours: list[object]
    ) -> None:
        folder = picture.parent
        (folder / "sub").mkdir()
        (folder / "sub" / "up").symlink_to(folder)
        (folder / ".hidden.png").write_bytes(picture.read_bytes())
        words = [folder / "**" / "*.png", "--out", folder / "big", *ours]
        assert "enlarged x2: 1" in upscale(*words).output
        assert "enlarged x2: 0, 1 were there already" in upscale(*words).output
        once = upscale(picture, folder / "sub" / ".." / "a.png", "--out", tmp_path / "o", *ours)
        assert "enlarged x2: 1" in once.output

    def test_gifs_become_png_and_needless_alpha_does_not_matter(
        self, tmp_path: Path, picture: Path, ours: list[object]
    ) -> None:
        Image.fromarray(random((6, 6), np.uint8)).save(picture.parent / "b.gif")
        opaque = Picture(random((8, 12, 3), np.uint8), np.full((8, 12), 255, np.uint8))
        picture.write_bytes(encode(opaque, "PNG", 95))
        assert upscale(picture.parent, "--out", tmp_path / "out", *ours).exit_code == 0
        assert opened(tmp_path / "out" / "b.png").mode == "L"
        assert upscale(picture, "--out", tmp_path / "a.jpg", *ours).exit_code == 0

    def test_the_longest_names(self, tmp_path: Path, picture: Path, ours: list[object]) -> None:
        longest = picture.with_name("n" * 251 + ".png")
        picture.rename(longest)
        assert upscale(longest, "--out", tmp_path / "out", *ours).exit_code == 0
        assert [path.name for path in (tmp_path / "out").iterdir()] == [longest.name]

    def test_it_is_stopped_and_goes_on(
        self, tmp_path: Path, picture: Path, ours: list[object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in "bcd":
            picture.with_name(f"{name}.png").write_bytes(picture.read_bytes())
        whole, count = Upscaler.upscale_picture, iter(range(100))

        def interrupted(self: Upscaler, picture: Picture) -> Picture:
            if next(count) == 2:
                raise KeyboardInterrupt
            return whole(self, picture)

        monkeypatch.setattr(Upscaler, "upscale_picture", interrupted)
        result = upscale(picture.parent, "--out", tmp_path / "out", *ours)
        assert result.exit_code == 130
        assert "stopped: what is written is whole; the same command goes on" in result.output
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
        again = upscale(picture.parent, "--out", tmp_path / "out", *ours)
        assert "enlarged x2: 2, 2 were there already" in again.output

    def test_a_bad_picture_leaves_the_others_alone(self, tmp_path: Path, picture: Path, ours: list[object]) -> None:
        (picture.parent / "bad.png").write_text("only text")
        frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
        frames[0].save(picture.parent / "moving.webp", save_all=True, append_images=frames[1:])
        result = upscale(picture.parent, "--out", tmp_path / "out", *ours)
        assert result.exit_code == 2
        assert "bad.png: not an image of a known format" in result.output
        assert "moving.webp holds 2 frames" in result.output
        assert "enlarged x2: 1" in result.output
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]

    def test_streams(self, picture: Path, ours: list[object], weights: Path) -> None:
        command = [sys.executable, "-m", "swinlet", "upscale", "-", "--out", "-"]
        done = subprocess.run([*command, *map(str, ours)], input=picture.read_bytes(), capture_output=True, check=True)
        expected = swinlet.load(weights, net_type="swinir_student").upscale(opened(picture))
        assert np.array_equal(np.asarray(opened(done.stdout)), np.asarray(expected))
        assert b"enlarged x2: 1" in done.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_disk_that_does_not_take_it(self, tmp_path: Path, picture: Path, ours: list[object]) -> None:
        (tmp_path / "b.png").symlink_to("/dev/full")
        result = upscale(picture, "--out", tmp_path / "b.png", "--overwrite", *ours)
        assert result.exit_code == 1
        assert "cannot write" in result.output
        assert "free some space" in result.output
        assert "Traceback" not in result.output

    def test_one_impossible_result_stops_no_other(self, tmp_path: Path, picture: Path, ours: list[object]) -> None:
        """A name of 251 characters fits as .png, and not as .webp; a file stands where a folder is needed."""
        folder = picture.parent
        names = ["b.png", "c.png", "sub/d.png", f"{'n' * 251}.png", f"{'m' * 250}.png", "zz.png"]
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(picture.read_bytes())
        out = tmp_path / "out"
        out.mkdir()
        (out / "sub").write_text("no folder")
        result = upscale(folder, "--out", out, "--format", "webp", *ours)
        assert result.exit_code == 2
        assert "enlarged x2: 5" in result.output
        assert f"cannot write {out / ('n' * 251)}.webp: File name too long" in result.output.replace("\n", "")
        assert f"cannot write {out / 'sub/d.webp'}: Not a directory" in result.output.replace("\n", "")
        assert {path.name for path in out.iterdir()} == {
            "a.webp",
            "b.webp",
            "c.webp",
            "sub",
            "zz.webp",
            f"{'m' * 250}.webp",
        }

    def test_what_is_left_out_is_counted(self, tmp_path: Path, picture: Path, ours: list[object]) -> None:
        folder = picture.parent
        for name in ("notes.txt", "b.heic", "sub/c.txt", ".hidden.txt", "README"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        for name in ("d.jfif", "e.jpe", "f.dib"):
            Image.new("RGB", (8, 8)).save(folder / name, "BMP" if name == "f.dib" else "JPEG")
        result = upscale(folder, "--out", tmp_path / "out", *ours)
        assert result.exit_code == 0, result.output
        assert "enlarged x2: 4" in result.output
        assert "left out, as they are no pictures that are read: 1 without suffix, 1 .heic, 2 .txt" in result.output
        formats = {path.name: opened(path).format for path in (tmp_path / "out").iterdir()}
        assert formats == {"a.png": "PNG", "d.jfif": "JPEG", "e.jpe": "JPEG", "f.dib": "BMP"}
        assert "left out" not in upscale(picture, "--out", tmp_path / "x.png", *ours).output

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["none.png", "--out", "out"], "there is no file or folder none.png"),
            (["*.nothing", "--out", "out"], "nothing fits the pattern"),
            (["in", "--out", "out.png"], "name a folder"),
            (["in/a.png", "in/a.png", "in", "--out", ""], "--out: is empty"),
            (["in/a.png", "--out", "in"], "in/a.png is a picture to enlarge: name another folder"),
            (["in/a.png", "--out", "in/a.png", "--overwrite"], "is a picture to enlarge"),
            (["in/a.png", "in/sub/a.png", "--out", "out"], "would both become out/a.png"),
            (["in/a.png", "--out", "out", "--format", "gif"], "--format gif: must be one of png, jpg"),
            (["in/a.png", "--out", "b.jpg", "--format", "png"], "--format png contradicts --out b.jpg"),
            (["-", "--out", "out"], "for standard input name a file, or pass --format"),
            (["", "--out", "out"], "a picture's name is empty"),
            (["in", "--out", "in"], "in: all pictures lie in the folder of --out"),
            (["in/a.png", "--out", "b.avif"], "--out b.avif: files that are written end with"),
            (["in/a.png", "--out", "b.gif"], "--out b.gif: files that are written end with"),
            (["in/a.png", "--out", "text.txt"], "--out text.txt: is a file that does not end with"),
            (["in/a.png", "--out", "taken"], "taken/a.png is a folder, and would be the result of in/a.png"),
            (["in/a.png", "--out", "b.png", "--tile-overlap", "-1"], "--tile-overlap -1: must be at least 0"),
            (["in/a.png", "--out", "b.png", "--tile", "small"], "--tile small: must be auto, none or a number"),
            (["in/a.png", "--out", "b.png", "--tile", "4"], "--tile 4: must be at least 8"),
            (["in/a.png", "--out", "b.png", "--scale", "5"], "--scale 5: must be one of"),
            (["in/a.png", "--out", "b.png", "--net-type", "x"], "--net-type x: must be one of"),
            (["in/a.png", "--out", "b.png", "--precision", "fp16"], "fp16 needs a GPU"),
            (["in/a.png", "--out", "b.png", "--backend", "x"], "--backend x: must be one of torch, onnx, openvino"),
            (["in/a.png", "--out", "b.png", "--backend", "onnx", "--precision", "x"], "--precision x: must be one of"),
            (["in/a.png", "--out", "b.png", "--weights", "w.pth"], "w.pth does not exist"),
            (["in/alpha.png", "--out", "b.jpg"], r"in/alpha.png: JPEG has no transparency: choose PNG (--format png)"),
        ],
    )
    def test_what_is_refused(
        self, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (picture.parent / "sub").mkdir()
        (picture.parent / "sub" / "a.png").write_bytes(picture.read_bytes())
        alpha = Picture(random((4, 4, 3), np.uint8), random((4, 4), np.uint8))
        (picture.parent / "alpha.png").write_bytes(encode(alpha, "PNG", 95))
        (tmp_path / "text.txt").write_text("no picture")
        (tmp_path / "taken" / "a.png").mkdir(parents=True)
        before = picture.read_bytes()
        result = upscale(*words)
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert picture.read_bytes() == before
