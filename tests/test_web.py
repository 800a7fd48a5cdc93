"""``swinlet web``: what the page computes, what its server refuses, and the page in a browser."""

import asyncio
import http.client
import importlib.util
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from typer.testing import CliRunner

import swinlet
from swinlet.cli import app
from swinlet.errors import CheckpointError, DataError, MachineError, OptionError, SwinletError
from swinlet.evaluation.detail import Crop
from swinlet.inference import RestoreOptions
from swinlet.metrics import GroundTruth
from swinlet.upscale.upscaler import Upscaler
from swinlet.utils.picture import Picture, encode, read_picture
from swinlet.utils.resize import bicubic_downscale, bicubic_upscale
from swinlet.web import markup, serve
from swinlet.web.clock import Clock, StoppedError
from swinlet.web.compare import BICUBIC, Material, Method, Part, Result, compare, over_gray, prepare
from swinlet.web.guard import JOIN, Guard
from swinlet.web.request import WebRequest, web_request
from swinlet.web.shelf import KEPT, Comparison, Entry, Shelf, file_name
from tests.small_run import NET

LIMIT = 20_000


def pixels(height: int, width: int, channels: int = 3, dtype: Any = np.uint8) -> Any:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height // 4 + 1, width // 4 + 1, channels))
    return values.repeat(4, 0).repeat(4, 1)[:height, :width].astype(dtype)


def picture(height: int, width: int, **more: Any) -> Picture:
    return Picture(pixels(height, width), **more)


class Nearest:
    upscale, in_chans, window_size, bytes_per_pixel = 2, 3, 1, 1

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


NEAREST = Method("nearest", Upscaler(Nearest(), RestoreOptions(torch.device("cpu"))), 7)


class TestPrepare:
    @pytest.mark.parametrize(
        ("part", "box"),
        [
            (Part(4), (3, 8, 4, 4)),
            (Part(4, (0, 0)), (0, 0, 4, 4)),
            (Part(4, (1, 1)), (6, 16, 4, 4)),
            (Part(99, (0.9, 0.1)), (0, 0, 10, 20)),
            (Part(12, (0.9, 0.5)), (0, 8, 10, 12)),
        ],
    )
    def test_parts_lie_inside(self, part: Part, box: tuple[int, int, int, int]) -> None:
        assert part.box(10, 20) == box

    def test_a_small_picture_stays(self) -> None:
        given = picture(10, 12, alpha=pixels(10, 12, 1)[:, :, 0], icc_profile=b"profile")
        assert prepare(given, scale=4, max_pixels=120) == Material(given)
        cut = prepare(given, scale=4, max_pixels=16, part=Part(4, (0, 0))).low
        assert np.array_equal(cut.planes, given.planes[:4, :4])
        assert cut.icc_profile == b"profile"

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_an_original_is_shrunk_as_benchmarks_are(self, dtype: Any) -> None:
        given = Picture(pixels(27, 38, dtype=dtype), icc_profile=b"profile")
        material = prepare(given, scale=4, max_pixels=54, is_original=True)
        eight = given.colour if dtype == np.uint8 else np.floor(given.colour / 257 + 0.5).astype(np.uint8)
        assert material.truth is not None
        assert np.array_equal(material.truth.colour, eight[:24, :36])
        assert np.array_equal(material.low.colour, bicubic_downscale(eight, 4))
        assert material.low.icc_profile == b"profile"

    def test_a_part_and_its_truth_are_the_same_place(self) -> None:
        truth = picture(41, 48)
        low = Picture(bicubic_downscale(truth.colour, 4))
        material = prepare(low, scale=4, max_pixels=16, truth=truth, part=Part(4, (1, 0.5)))
        assert material.truth is not None
        assert np.array_equal(material.low.colour, low.colour[3:7, 8:12])
        assert np.array_equal(material.truth.colour, truth.colour[12:28, 32:48])

    @pytest.mark.parametrize(
        ("size", "more", "message"),
        [
            (
                (11, 10),
                {},
                r"10x11 pixels are more than the 100 that are enlarged at once: start .* a larger --max-pix",
            ),
            ((44, 40), {"is_original": True}, "10x11 pixels after shrinking by 4 are more than the 100 .* once: start"),
            ((3, 40), {"is_original": True}, "40x3 pixels: too small to be shrunk by 4"),
            ((10, 10), {"truth": picture(39, 40)}, "original has 40x39 pixels: .* 10x10 it has to have 40x40"),
            ((10, 10), {"truth": picture(40, 44)}, "original has 44x40 pixels"),
        ],
    )
    def test_what_is_refused(self, size: tuple[int, int], more: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            prepare(picture(*size), scale=4, max_pixels=100, **more)

    @pytest.mark.parametrize(
        ("size", "limit", "is_original", "side"),
        [
            ((800, 810), 500_000, False, 512),
            ((800, 810), 256 * 256, False, 256),
            ((5, 2200), 10_000, False, 1024),
            ((2000, 2000), 140 * 140, True, 512),
        ],
    )
    def test_the_largest_part_of_the_page_that_fits_is_named(
        self, size: tuple[int, int], limit: int, is_original: bool, side: int
    ) -> None:
        given = Picture(np.zeros((*size, 3), np.uint8))
        with pytest.raises(DataError, match=f"choose a part of at most {side} pixels a side, or start"):
            prepare(given, scale=4, max_pixels=limit, is_original=is_original)
        prepare(given, scale=4, max_pixels=limit, is_original=is_original, part=Part(side))


class TestCompare:
    def test_pixels_and_scores(self) -> None:
        material = prepare(picture(40, 36), scale=2, max_pixels=999, is_original=True)
        assert material.truth is not None
        bicubic, nearest = compare(material, [BICUBIC, NEAREST], 2)
        low = material.low.colour
        assert np.array_equal(bicubic.picture.colour, bicubic_upscale(low, 2))
        assert np.array_equal(nearest.picture.colour, low.repeat(2, 0).repeat(2, 1))
        for result in (bicubic, nearest):
            assert result.scores == GroundTruth(material.truth.colour, 2).score(result.picture.colour)
            assert 0 < result.seconds < 10

    def test_without_a_truth_there_are_no_scores(self) -> None:
        given = picture(8, 9, alpha=pixels(8, 9, 1)[:, :, 0], icc_profile=b"profile", exif=b"Exif")
        for result in compare(Material(given), [BICUBIC, NEAREST], 2):
            assert result.scores is None
            assert result.picture.size == (16, 18)
            assert result.picture.alpha is not None
            assert (result.picture.icc_profile, result.picture.exif) == (b"profile", b"Exif")

    def test_deep_and_gray_pictures_are_scored_as_rgb_of_8_bits(self) -> None:
        low, truth = Picture(pixels(20, 20, 1, np.uint16)), Picture(pixels(40, 40, 1, np.uint16))
        [result] = compare(Material(low, truth), [NEAREST], 2)
        assert result.picture.colour.dtype == np.uint16
        eight = [np.floor(image.colour / 257 + 0.5).astype(np.uint8).repeat(3, 2) for image in (truth, result.picture)]
        assert result.scores == GroundTruth(eight[0], 2).score(eight[1])

    def test_a_truth_that_is_too_small_for_scores(self) -> None:
        with pytest.raises(DataError, match="14x14 pixels: scores need at least 15 a side"):
            list(compare(Material(picture(7, 7), picture(14, 14)), [BICUBIC], 2))

    def test_over_gray(self) -> None:
        image = Picture(np.full((1, 2, 3), 200, np.uint8), np.array([[255, 0]], np.uint8))
        assert over_gray(image).planes.tolist() == [[[200] * 3, [128] * 3]]


def results(*methods: Method, low: Picture | None = None) -> tuple[Material, list[Result]]:
    material = prepare(low or picture(64, 64), scale=2, max_pixels=9999, is_original=True)
    return material, list(compare(material, methods, 2))


class TestClock:
    def test_a_computation_ends_when_its_time_is_over(self) -> None:
        network = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
        slow = torch.nn.Sequential(network, torch.nn.Identity())
        network.register_forward_hook(lambda *_: time.sleep(0.05))
        clock = Clock(0.02)
        clock.watch(slow)
        slow(torch.zeros(1))  # not on behalf of the page
        with pytest.raises(StoppedError, match="not finished after 0 seconds: choose a smaller part"), clock.turn("a"):
            slow(torch.zeros(1))
        with clock.turn("a"):
            network(torch.zeros(1))

    def test_only_its_own_page_stops_it(self) -> None:
        network = torch.nn.Identity()
        clock = Clock()
        clock.watch(network)
        with clock.turn("a"):
            clock.stop("b")
            network(torch.zeros(1))
            clock.stop("a")
            with pytest.raises(StoppedError, match="stopped"):
                network(torch.zeros(1))
        with clock.turn("a"):
            network(torch.zeros(1))
        clock.wait()

    def test_nothing_begins_after_the_end(self) -> None:
        clock = Clock()
        clock.end()
        with pytest.raises(StoppedError), clock.turn("a"):
            pytest.fail("has begun")


class TestShelf:
    def test_files(self, tmp_path: Path) -> None:
        profile = Image.new("RGB", (1, 1)).info.get("icc_profile", b"profile")
        twin = replace(NEAREST, label="nearest?")  # a name of the same file
        material, made = results(
            BICUBIC, NEAREST, twin, low=picture(64, 64, alpha=pixels(64, 64, 1)[:, :, 0], icc_profile=profile)
        )
        found = Shelf(tmp_path).put("my <photo>", material, made, True, 2)
        names = ["my_photo_x2_bicubic", "my_photo_x2_nearest", "my_photo_x2_nearest_2", "my_photo_original"]
        assert [entry.file.stem for entry in found.entries] == names
        pictures = [result.picture for result in made] + [material.truth]
        for entry, expected in zip(found.entries, pictures, strict=True):
            assert expected is not None
            assert np.array_equal(read_picture(entry.file).planes, expected.planes)
            assert np.array_equal(read_picture(entry.shown).planes, over_gray(expected).planes)
        assert stat.S_IMODE(found.entries[0].file.parent.stat().st_mode) == 0o700
        assert found.entry("nearest").parameters == 7
        assert found.entry("gone") is found.entries[0]
        assert (found.low, found.size) == ((32, 32), (64, 64))

    def test_only_the_newest_stay(self, tmp_path: Path) -> None:
        shelf = Shelf(tmp_path)
        material, made = results(BICUBIC)
        found = [shelf.put("a", material, made, True, 2) for _ in range(KEPT + 2)]
        assert [comparison.entries[0].file.exists() for comparison in found] == [False] * 2 + [True] * KEPT

    def test_files_are_removed_after_a_while(self, tmp_path: Path) -> None:
        Shelf(tmp_path, 0.05).put("a", *results(BICUBIC), True, 2)
        end = time.monotonic() + 20
        while list(tmp_path.iterdir()):
            assert time.monotonic() < end
            time.sleep(0.02)

    def test_file_names(self) -> None:
        names = {"a b/../c": "a_b_.._c", "..": "picture", "ä": "picture", "x" * 99: "x" * 60}
        assert {text: file_name(text) for text in names} == names


class TestMarkup:
    def test_the_best_is_marked_and_names_are_no_markup(self, tmp_path: Path) -> None:
        material, made = results(BICUBIC, replace(NEAREST, label="<i>&"))
        found = Shelf(tmp_path).put("a", material, made, True, 2)
        table = markup.table(found)
        assert "&lt;i&gt;&amp;" in table
        assert "<i>&" not in table + markup.details(found)
        best = max(result.scores["psnr_y"] for result in made if result.scores)
        assert f'<td class="swl-best">{best:.2f}</td>' in table
        assert table.count("swl-best") == 3
        assert "bicubic made of the original, enlarged to 64x64. PSNR in dB; 2 pixels of border left out" in table

    def test_without_scores(self, tmp_path: Path) -> None:
        file = tmp_path / "a.png"
        file.write_bytes(b"x" * 2000)
        found = Comparison((Entry("a", file, file, 0.0123),), (4, 4), (8, 8), False, Crop(0, 0, 8))
        assert "PSNR" not in markup.table(found)
        assert "12 ms" in markup.table(found)
        assert "PNG, 2 kB" in markup.table(found)

    def test_equal_pictures(self, tmp_path: Path) -> None:
        material, made = results(BICUBIC, low=Picture(np.full((64, 64, 3), 99, np.uint8)))
        assert '<td class="swl-best">∞</td>' in markup.table(Shelf(tmp_path).put("a", material, made, True, 2))

    def test_messages_are_no_markup(self) -> None:
        assert "&lt;i&gt;" in markup.problem("<i>")
        assert "&lt;i&gt;" in markup.note("<i>")

    def test_preview(self) -> None:
        wide = picture(600, 2000)
        small = markup.thumbnail(wide)
        assert small.shape == (144, 480, 3)
        framed = markup.framed(small, wide.size, Part(600, (0, 0)))
        assert np.array_equal(framed[10:100, 10:100], small[10:100, 10:100])
        assert framed[:, 200:].mean() < 0.5 * small[:, 200:].mean()
        assert markup.framed(small, wide.size, None) is small


class TestGuard:
    OWN = "/private/folder"

    def status(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        any_host: bool = False,
        query: bytes = b"",
    ) -> int:
        async def inner(scope: Any, receive: Any, send: Any) -> None:
            received = (await receive())["body"]
            await send({"type": "http.response.start", "status": 200 if received == body else 500, "headers": []})

        sent: list[Any] = []
        parts = [{"type": "http.request", "body": body[i : i + 9], "more_body": True} for i in range(0, len(body), 9)]
        parts.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive() -> Any:
            return parts.pop(0) if path == JOIN else {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {"host": "127.0.0.1:80"} | (headers or {})
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": query}
        scope["headers"] = [(key.encode(), value.encode()) for key, value in given.items()]
        guard = Guard(inner, Path(self.OWN), None if any_host else ["127.0.0.1", "localhost"], {"known"})
        asyncio.run(guard(scope, receive, send))
        assert dict(sent[0]["headers"])[b"content-security-policy"].startswith(b"default-src 'self'")
        return sent[0]["status"]

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/", 200),
            ("GET", "/assets/index.js", 200),
            ("POST", "/gradio_api/upload", 200),
            ("GET", f"/gradio_api/file={OWN}/a/b.png", 200),
            ("GET", "/gradio_api/file=/etc/passwd", 403),
            ("GET", f"/gradio_api/file={OWN}/../../etc/passwd", 403),
            ("GET", f"/gradio_api/file={OWN}", 403),
            ("GET", f"/gradio_api/file={OWN}er/a", 403),
            ("GET", f"/gradio_api/file={OWN}/a\0", 403),
            ("GET", "/gradio_api/file=a.png", 403),
            ("GET", "/gradio_api/file=http://example.com/a.png", 403),
            ("GET", "/gradio_api/proxy=http://example.com", 404),
            ("POST", "/gradio_api/run/predict", 404),
            ("POST", "/gradio_api/vibe-edit", 404),
            ("POST", "/", 404),
            ("DELETE", "/", 404),
        ],
    )
    def test_routes(self, method: str, path: str, status: int) -> None:
        assert self.status(method, path) == status

    @pytest.mark.parametrize(
        ("query", "status"), [(b"session_hash=known", 200), (b"session_hash=unknown", 404), (b"", 404)]
    )
    def test_answers_are_for_open_pages(self, query: bytes, status: int) -> None:
        assert self.status("GET", "/gradio_api/queue/data", query=query) == status

    def test_other_names_and_other_sites(self) -> None:
        assert self.status("GET", "/", {"host": "evil.example"}) == 403
        assert self.status("GET", "/", {"host": "evil.example"}, any_host=True) == 200
        assert self.status("GET", "/", {"host": "[::1"}) == 403
        assert self.status("GET", "/", {"host": "localhost:7860", "origin": "http://localhost:7860"}) == 200
        assert self.status("POST", "/gradio_api/upload", {"origin": "http://evil.example"}) == 403
        assert self.status("POST", "/gradio_api/upload", {"origin": "null"}, any_host=True) == 403

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            ([{"path": f"{OWN}/a.png"}, None, "x"], 200),
            ([{"path": "/etc/passwd"}], 403),
            ([{"a": [{"path": "http://example.com/a.png"}]}], 403),
            (["x" * 100_001], 403),
        ],
    )
    def test_files_of_events(self, data: Any, status: int) -> None:
        assert self.status("POST", JOIN, body=json.dumps({"data": data}).encode()) == status

    def test_events_that_are_no_json(self) -> None:
        assert self.status("POST", JOIN, body=b"[") == 403
        assert self.status("POST", JOIN, body=b"[" * 50_000) == 403


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(swinlet.define_G({"net_type": "swinir_student", "upscale": 4, **NET}).state_dict(), path)
    return path


def asking(*weights: object, **more: Any) -> WebRequest:
    defaults = {
        "teacher": None,
        "scale": None,
        "net_types": ["swinir_student"],
        "host": "127.0.0.1",
        "port": 0,
        "device": "cpu",
        "download": False,
    }
    defaults |= {"precision": "fp32", "max_pixels": LIMIT, "opens_browser": False}
    return web_request([str(word) for word in weights], **{**defaults, **more})


class TestWishes:
    """What is computed for a page, when its values change while it waits or while messages are on their way."""

    GIVEN = ("a.png", "small: enlarge it", None, "128")

    @pytest.fixture
    def events(self, tmp_path: Path) -> Any:
        pytest.importorskip("gradio", reason="needs the extra web")
        from swinlet.web.page import Events

        return Events((BICUBIC,), 4, LIMIT, Clock(), Shelf(tmp_path))

    def run(self, events: Any, given: tuple[Any, ...], request: Any) -> str:
        """The messages."""
        path, kind, original, side = given
        steps = events.run(path, kind, original, ["bicubic"], side, None, request)
        return " ".join(update["value"] for update, *_ in steps if "value" in update)

    def test_news_that_come_late_end_nothing(self, events: Any, tmp_path: Path) -> None:
        Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
        given, request = (str(tmp_path / "a.png"), *self.GIVEN[1:]), SimpleNamespace(session_hash="page")
        cleared = events.renew(None, *given[1:], request)
        events.press(*given, request)
        assert events.renew(*given, request) != cleared  # of the change before the press
        assert "writing the pictures" in self.run(events, given, request)
        assert events.renew(*given[:3], "256", request) == cleared

    def test_what_waited_is_not_begun_after_a_change(self, events: Any) -> None:
        request = SimpleNamespace(session_hash="page")
        events.press(*self.GIVEN, request)
        events.renew("b.png", *self.GIVEN[1:], request)
        text = self.run(events, self.GIVEN, request)
        assert "what is to be enlarged was changed meanwhile: press the button again" in text
        other = SimpleNamespace(session_hash="other")
        events.press(*self.GIVEN, other)
        assert "a.png has been removed" in self.run(events, self.GIVEN, other)  # there is none; but it was begun

    def test_pages_are_forgotten(self, events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from swinlet.web import page

        monkeypatch.setattr(page, "MAX_PAGES", 2)
        for name in "abac":
            events.press(*self.GIVEN, SimpleNamespace(session_hash=name))
        assert list(events._wishes) == ["a", "c"]


class TestCommand:
    def test_students_and_teacher(self, weights: Path, teacher_file: Path) -> None:
        asked = asking(f"A={weights}", weights, teacher=str(teacher_file))
        assert [method.label for method in asked.methods] == ["bicubic", "A", "small", "teacher"]
        assert asked.scale == 4

    def test_the_student_that_comes_along(self) -> None:
        assert [method.label for method in asking().methods] == ["bicubic", "student"]
        assert (asking().scale, asking(scale=2).scale) == (4, 2)
        with pytest.raises(OptionError, match="--scale 3: swinlet comes with students for x2 and x4"):
            asking(scale=3)

    @pytest.mark.parametrize(
        ("more", "kind", "message"),
        [
            ({"port": 65536, "max_pixels": 0}, OptionError, r"--port 65536: .*\n--max-pixels 0: must be at least 1"),
            ({"host": ""}, OptionError, "--host: is empty"),
            ({"device": "abacus"}, OptionError, "--device abacus"),
            ({"scale": 2}, CheckpointError, "small.pth: these weights enlarge x4, but --scale is 2"),
            ({"net_types": []}, CheckpointError, "--net-type small=swinir_student"),
            ({"teacher": "none.pth"}, CheckpointError, "--teacher: .*none.pth does not exist"),
        ],
    )
    def test_what_is_refused(self, weights: Path, more: dict[str, Any], kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message):
            asking(weights, **more)

    def test_a_label_that_the_page_needs(self, weights: Path) -> None:
        with pytest.raises(OptionError, match=r"original is what the page calls .* --weights LABEL=.*small\.pth"):
            asking(f"original={weights}")

    def test_labels_that_are_given_stay(self, weights: Path) -> None:
        words = [f"{label}={weights}" for label in ("bicubic", "teacher", "a", "a")]
        with pytest.raises(OptionError) as caught:
            asking(*words)
        lines = str(caught.value).splitlines()
        assert lines == [
            f"--weights {label}={weights}: the label {label} is taken: choose another"
            for label in ("bicubic", "teacher", "a")
        ]
        assert [method.label for method in asking(weights, weights).methods] == ["bicubic", "small", "small (2)"]

    def test_weights_of_two_scales(self, weights: Path, tmp_path: Path) -> None:
        other = {"net_type": "swinir_student", "upscale": 2, **NET}
        torch.save(swinlet.define_G(other).state_dict(), tmp_path / "two.pth")
        with pytest.raises(CheckpointError, match="its scale is 2, that of small is 4: name it in a call of its own"):
            asking(weights, tmp_path / "two.pth")

    def test_every_method_is_warmed_up(self, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        warm: list[str] = []
        monkeypatch.setattr(
            "swinlet.web.request.warm_up", lambda method, scale: warm.append(f"{method.label} x{scale}")
        )
        asking(weights)
        assert warm == ["bicubic x4", "small x4"]

    def test_weights_that_cannot_be_opened_end_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "w.pth").write_text("no weights")
        result = CliRunner().invoke(app, ["web", "--weights", str(tmp_path / "w.pth"), "--no-browser"])
        assert result.exit_code == 2
        assert "w.pth" in result.output

    def test_missing_gradio(self, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", "GRADIO_RUN_HISTORY"):
            monkeypatch.setenv(name, "")
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "")
        monkeypatch.setitem(sys.modules, "gradio", None)
        with pytest.raises(SwinletError, match=r"pip install 'swinlet\[web\]'"):
            serve.serve(asking(weights))

    def test_a_port_that_is_taken(self, weights: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(MachineError, match=f"--port {port}: another program listens there"):
                serve.serve(asking(weights, port=port))

    @pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a" * 70 + ".example"])
    def test_a_host_that_is_not_here(self, weights: Path, host: str) -> None:
        with pytest.raises(OptionError, match=f"--host {host}: "):
            serve.serve(asking(weights, host=host))


@dataclass
class Server:
    """A running ``swinlet web``.

    Attributes:
        address: of the page.
        folder: of its temporary files.
        log: what it wrote to the console.
    """

    process: "subprocess.Popen[str]"
    address: str
    folder: Path
    log: Path


@pytest.fixture(scope="module")
def server(
    weights: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Server]:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs gradio: pip install 'swinlet[web]'")
    folder = tmp_path_factory.mktemp("server")
    (folder / "tmp").mkdir()
    words = ["web", "--weights", f"A={weights}", "--net-type", "swinir_student", "--teacher", str(teacher_file)]
    words += ["--port", "0", "--no-browser", "--device", "cpu", "--max-pixels", str(LIMIT)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "swinlet", *words],
            stderr=subprocess.STDOUT,
            stdout=log,
            text=True,
            env=os.environ | {"TMPDIR": str(folder / "tmp")},
        )
    try:
        request.getfixturevalue("browser")  # starts meanwhile
        for _ in range(600):
            if match := re.search(r"http://\S+/", (folder / "log").read_text()):
                break
            with pytest.raises(subprocess.TimeoutExpired):  # it still runs
                process.wait(0.1)
        else:
            pytest.fail("the server does not start")
        [private] = (folder / "tmp").glob("swinlet-web-*")
        yield Server(process, match[0], private, folder / "log")
    finally:
        process.kill()
        process.wait()


class Page:
    """The page in a browser, used as people do."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        self.resize(1280)
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(address)
        self.all("#picture input[type=file]")

    def resize(self, width: int) -> None:
        self.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 1900, "deviceScaleFactor": 1, "mobile": False},
        )

    def all(self, selector: str) -> list[WebElement]:
        """The elements, once there are any."""
        return WebDriverWait(self.browser, 20).until(lambda page: page.find_elements(By.CSS_SELECTOR, selector))

    def until(self, condition: Any) -> None:
        """Wait; elements may be drawn anew meanwhile."""
        WebDriverWait(self.browser, 20, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda _: condition()
        )

    def script(self, text: str) -> Any:
        return self.browser.execute_script(text)  # pyright: ignore[reportUnknownMemberType]

    def text(self, name: str) -> str:
        return str(self.script(f"return document.querySelector('#{name}')?.innerText ?? ''"))

    def drop(self, name: str, file: Path) -> None:
        for button in self.browser.find_elements(By.CSS_SELECTOR, f"#{name} button[aria-label=Clear]"):
            button.click()
        self.all(f"#{name} input[type=file]")[0].send_keys(str(file))
        self.until(lambda: file.name.partition(".")[0] in self.text(name))

    def show(self, file: Path, about: str) -> None:
        """Drop a picture and wait for what the page says of it."""
        self.drop("picture", file)
        self.until(lambda: about in self.text("about"))

    def choose(self, name: str, word: str) -> None:
        """One of a radio group, by how it begins."""
        next(label for label in self.all(f"#{name} label") if label.text.startswith(word)).click()

    def pick(self, name: str, word: str) -> None:
        """An entry of a dropdown."""
        field = self.all(f"#{name} input")[0]
        field.click()
        options = f"#{field.get_attribute('aria-controls')} [role=option]"

        def click() -> bool:
            found = self.browser.find_elements(By.CSS_SELECTOR, options)
            wanted = [option for option in found if option.text.strip().endswith(word)]
            for option in wanted:
                option.click()
            return bool(wanted)

        self.until(click)

    def start(self, expected: str, place: str = "scores") -> None:
        self.all("#start")[0].click()
        self.until(lambda: expected in self.text(place))


@pytest.fixture(scope="module")
def page(server: Server, browser: webdriver.Chrome) -> Page:
    return Page(browser, server.address)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph with a colour profile and camera data."""
    from PIL import ImageCms

    source = Path(__file__).parents[1] / "demo" / "images" / "test" / "chelsea.png"
    cut = np.asarray(Image.open(source).convert("RGB"))[100:180, 120:216]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    path = tmp_path_factory.mktemp("photos") / "cat & hat.png"
    path.write_bytes(encode(Picture(cut, icc_profile=profile, exif=exif.tobytes()), "PNG", 95))
    return path


def fetched(page: Page, link: WebElement) -> Image.Image:
    with urllib.request.urlopen(str(link.get_property("href")), timeout=10) as answer:
        image = Image.open(io.BytesIO(answer.read()))
        image.load()
        return image


class TestPage:
    def test_an_original_is_shrunk_enlarged_and_scored(self, page: Page, photo: Path, weights: Path) -> None:
        page.show(photo, "96x80 pixels, RGB, 8 bits, colour profile, camera data")
        page.choose("kind", "an original")
        page.start("enlarged to 96x80")
        truth = read_picture(photo).colour
        low = bicubic_downscale(truth, 4)
        ours = swinlet.load(weights, net_type="swinir_student", device="cpu").upscale(low)
        rows = {row.text.split()[0]: row for row in page.all(".swl-table tbody tr")}
        assert list(rows) == ["bicubic", "A", "teacher", "original"]
        expected = {"bicubic": bicubic_upscale(low, 4), "A": ours, "original": truth}
        for label, row in rows.items():
            link = row.find_element(By.TAG_NAME, "a")
            image = fetched(page, link)
            assert image.info["icc_profile"] == read_picture(photo).icc_profile
            assert image.getexif()[0x010F] == "A camera"
            if label in expected:
                assert np.array_equal(np.asarray(image), expected[label])
            if label in ("bicubic", "A"):
                scores = GroundTruth(truth, 4).score(expected[label])
                assert f"{scores['psnr_y']:.2f} {scores['ssim_y']:.4f} {scores['psnr_rgb']:.2f}" in row.text
        assert rows["A"].find_element(By.TAG_NAME, "a").get_attribute("download") == "cat_hat_x4_A.png"

    def test_the_slider_moves_and_shows_what_is_chosen(self, page: Page) -> None:
        def sides() -> list[str]:
            return page.script("return [...document.querySelectorAll('#slider img')].map(i => i.src.split('/').pop())")

        def cut() -> str:
            return page.script("return document.querySelectorAll('#slider img')[1].style.clipPath")

        assert sides() == ["cat_hat_x4_bicubic.png", "cat_hat_x4_A.png"]
        boxes = page.script(
            "return [...document.querySelectorAll('#slider img')].map(i => JSON.stringify(i.getBoundingClientRect()))"
        )
        assert boxes[0] == boxes[1]
        before = cut()
        handle = page.all("#slider [data-testid=slider] .inner, #slider .icon-wrap")[0]
        ActionChains(page.browser).drag_and_drop_by_offset(handle, 120, 0).perform()
        page.until(lambda: cut() != before)
        page.pick("left", "original")
        page.pick("right", "teacher")
        page.until(lambda: sides() == ["cat_hat_original.png", "cat_hat_x4_teacher.png"])

    def test_details_move_together(self, page: Page) -> None:
        def places() -> list[list[float]]:
            return page.script(
                """return [...document.querySelectorAll('.swl-pane')].map(pane => {
                    const outer = pane.getBoundingClientRect(), inner = pane.firstChild.getBoundingClientRect();
                    return [inner.x - outer.x, inner.y - outer.y, inner.width, inner.height];
                })"""
            )

        assert len(places()) == 4
        assert places()[0][2:] == [3 * 96, 3 * 80]
        page.all(".swl-detail [data-zoom='6']")[0].click()
        before = places()
        assert before[0][2:] == [6 * 96, 6 * 80]
        ActionChains(page.browser).drag_and_drop_by_offset(page.all(".swl-pane")[1], 24, -12).perform()
        assert places() == [[x + 24, y - 12, width, height] for x, y, width, height in before]
        ActionChains(page.browser).move_to_element_with_offset(page.all(".swl-view")[0], 0, 0).click().perform()
        side = page.all(".swl-pane")[2].rect["width"]
        assert places()[2] == pytest.approx([side / 2 - 48 * 6, side / 2 - 40 * 6, 576, 480], abs=6)
        page.all(".swl-detail")[0].send_keys("-")
        assert places()[3][2:] == [4 * 96, 4 * 80]
        assert len({tuple(place) for place in places()}) == 1

    def test_a_ground_truth_of_its_own(self, page: Page, tmp_path: Path) -> None:
        truth = pixels(64, 80)
        for name, image in (("low", bicubic_downscale(truth, 4)), ("high", truth), ("wrong", truth[:50])):
            Image.fromarray(image).save(tmp_path / f"{name}.png")
        page.choose("kind", "small")
        page.show(tmp_path / "low.png", "20x16 pixels")
        page.start("20x16 pixels, enlarged to 80x64. Without an original")
        page.drop("original", tmp_path / "high.png")
        page.start("20x16 pixels, enlarged to 80x64. PSNR")
        psnr = GroundTruth(truth, 4).psnr_y(bicubic_upscale(bicubic_downscale(truth, 4), 4))
        assert f"{psnr:.2f}" in page.text("scores")
        page.drop("original", tmp_path / "wrong.png")
        page.start("the original has 80x50 pixels", "message")
        assert page.text("scores") == ""
        for button in page.browser.find_elements(By.CSS_SELECTOR, "#original button[aria-label=Clear]"):
            button.click()

    def test_results_go_when_what_is_enlarged_changes(self, page: Page, tmp_path: Path) -> None:
        def start() -> None:
            page.start("enlarged to")
            assert page.text("message") == ""

        def gone() -> None:
            page.until(
                lambda: page.text("scores") == page.text("details") == "" and "results appear" in page.text("message")
            )

        for name in ("first", "second", "high"):
            side = 240 if name == "high" else 60
            Image.fromarray(pixels(side, side)).save(tmp_path / f"{name}.png")
        page.show(tmp_path / "first.png", "60x60 pixels")
        start()
        page.drop("picture", tmp_path / "second.png")
        gone()
        start()
        page.drop("original", tmp_path / "high.png")
        gone()
        start()
        page.pick("part", "128")
        gone()
        start()
        page.all("#preview img")[0].click()
        gone()
        start()
        page.choose("kind", "an original")
        gone()
        start()
        page.choose("kind", "small")
        page.pick("part", "the whole picture")
        start()
        page.all("#preview img")[0].click()  # which changes nothing
        page.until(lambda: "choose a part first" in page.script("return document.body.innerText"))
        assert "enlarged to" in page.text("scores")
        for name in ("original", "picture"):
            page.all(f"#{name} button[aria-label=Clear]")[0].click()
        gone()

    def test_details_fill_the_room(self, page: Page, tmp_path: Path) -> None:
        Image.fromarray(pixels(60, 90)).save(tmp_path / "wide.png")
        page.show(tmp_path / "wide.png", "90x60 pixels")
        page.start("enlarged to")
        for width, columns in ((1280, 3), (1265, 3), (1000, 2), (375, 1)):
            page.resize(width)
            room, sides, seen, view = page.script(
                """const box = e => e.getBoundingClientRect(), all = s => [...document.querySelectorAll(s)];
                return [box(all('.swl-panes')[0]), all('.swl-pane').map(box), box(all('.swl-view rect')[0]),
                    box(all('.swl-view')[0])].map(x => JSON.parse(JSON.stringify(x)))"""
            )
            assert len({round(side["left"]) for side in sides}) == min(columns, len(sides))
            assert max(side["right"] for side in sides) == pytest.approx(room["right"], abs=1)
            assert {side["width"] for side in sides} == {side["height"] for side in sides}
            # The frame in the overview shows as large a part as a pane.
            assert seen["width"] / view["width"] == pytest.approx(sides[0]["width"] / 3 / 360, abs=0.02)
        page.resize(1600)
        whole = page.all(".gradio-container")[0].rect
        assert 2 * whole["x"] + whole["width"] == 1600
        page.resize(1280)

    def test_labels_cover_no_icon(self, page: Page) -> None:
        for name in ("picture", "original"):
            for button in page.browser.find_elements(By.CSS_SELECTOR, f"#{name} button[aria-label=Clear]"):
                button.click()

            def icon_is_below_the_label(name: str = name) -> bool:
                label, icon = (page.all(f"#{name} {part}")[0].rect for part in ("label", "button svg"))
                return icon["y"] >= label["y"] + label["height"]

            page.until(icon_is_below_the_label)  # the page is laid out anew after the click

    def test_a_picture_that_was_removed_after_an_hour(self, page: Page, server: Server, tmp_path: Path) -> None:
        Image.fromarray(pixels(12, 16)).save(tmp_path / "early.png")
        page.show(tmp_path / "early.png", "16x12 pixels")
        [uploaded] = server.folder.rglob("early.png")
        uploaded.unlink()
        page.start("early.png has been removed meanwhile: drop it again", "message")

    def test_requests_of_no_page_leave_no_traceback(self, page: Page, server: Server) -> None:
        host = urlsplit(server.address).netloc
        config = json.loads(urllib.request.urlopen(f"{server.address}config", timeout=10).read())
        for event in config["dependencies"]:
            connection = http.client.HTTPConnection(host, timeout=10)
            data = ["x"] * len(event["inputs"])
            body = json.dumps({"data": data, "fn_index": event["id"], "session_hash": "mine"})
            connection.request("POST", JOIN, body, {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200
            connection.close()
            connection.request("GET", "/gradio_api/queue/data?session_hash=mine")
            answer = connection.getresponse().read()
            assert b"process_completed" in answer
            connection.close()
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", "/gradio_api/queue/data?session_hash=other")
        assert connection.getresponse().status == 404
        connection.close()
        assert "Traceback" not in server.log.read_text()

    def test_a_text_file_named_png(self, page: Page, server: Server, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("only text")
        message = "cannot read text.png: not an image of a known format"
        page.show(tmp_path / "text.png", message)
        page.start(message, "message")
        Image.fromarray(pixels(12, 16)).save(tmp_path / "good.png")
        page.show(tmp_path / "good.png", "16x12 pixels")
        page.start("16x12 pixels, enlarged to 64x48")
        assert "Traceback" not in server.log.read_text()

    def test_a_picture_that_is_too_large_is_enlarged_in_part(self, page: Page, tmp_path: Path) -> None:
        large = pixels(150, 200)
        Image.fromarray(large).save(tmp_path / "large.png")
        page.show(tmp_path / "large.png", "200x150 pixels")
        page.start("choose a part of at most 128 pixels a side", "message")
        source = "return document.querySelector('#preview img').src"
        before = page.script(source)
        page.pick("part", "128")
        page.until(lambda: page.script(source) != before)
        framed = page.script(source)
        preview = page.all("#preview img")[0]
        corner = -preview.size["width"] // 2 + 9, -preview.size["height"] // 2 + 9
        ActionChains(page.browser).move_to_element_with_offset(preview, *corner).click().perform()
        page.until(lambda: page.script(source) != framed)
        page.start("128x128 pixels, enlarged to 512x512")
        image = fetched(page, page.all(".swl-table a")[0])
        assert np.array_equal(np.asarray(image), bicubic_upscale(large[:128, :128], 4))

    def test_it_asks_nobody_else(self, page: Page, server: Server) -> None:
        """The whole of what was done above: addresses that the page asked for, and that the server is connected to."""
        host = urlsplit(server.address).netloc
        events = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        urls = [urlsplit(url) for url in sent]
        assert {url.netloc for url in urls if url.scheme in ("http", "https", "ws", "wss")} == {host}
        assert not [event for event in events if event["method"] == "Network.webSocketCreated"]
        assert not [entry for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]
        connections = psutil.Process(server.process.pid).net_connections()
        assert {connection.laddr.ip for connection in connections} == {"127.0.0.1"}
        assert {connection.raddr.ip for connection in connections if connection.raddr} <= {"127.0.0.1"}

    @pytest.mark.parametrize(
        "path",
        [
            "/gradio_api/file=/etc/passwd",
            "/gradio_api/file=../../../../etc/passwd",
            "/gradio_api/file=%2Fetc%2Fpasswd",
            "/gradio_api/file={folder}/../../log",
            "/gradio_api/file/etc/passwd",
            "/assets/../../../../../../etc/passwd",
            "/assets/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
            "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/routes.py",
            "/svelte/../../routes.py",
            "//etc/passwd",
            "/gradio_api/proxy=http://127.0.0.1/",
        ],
    )
    def test_no_file_of_the_disk_is_handed_out(self, server: Server, path: str) -> None:
        connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=10)
        connection.request("GET", path.format(folder=server.folder))  # as it is: urllib would resolve the dots
        answer = connection.getresponse()
        assert answer.status in (403, 404)
        assert b"root:" not in answer.read()
        connection.close()

    @pytest.mark.parametrize("path", ["/etc/passwd", "http://127.0.0.1/a.png"])
    def test_events_name_nothing_but_uploads(self, server: Server, path: str) -> None:
        connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=10)
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        event = {"data": [file, "the whole picture"], "fn_index": 0, "session_hash": "abc"}
        connection.request("POST", JOIN, json.dumps(event), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 403
        connection.close()

    def test_files_are_private(self, server: Server) -> None:
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        assert any(server.folder.rglob("*.png"))

    def test_ctrl_c_ends_it_and_removes_its_files(self, page: Page, server: Server) -> None:
        page.browser.get("about:blank")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
        assert list(server.folder.parent.iterdir()) == []
        assert server.log.read_text().endswith("swinlet web: ended\n")
