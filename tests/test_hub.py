"""Weights from and to a hub on this machine; nothing here reaches the network."""

import errno
import json
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors
import torch
import yaml
from huggingface_hub import constants, file_download
from PIL import Image
from typer.testing import CliRunner, Result

from swinlet.cli import app
from swinlet.errors import HubError, UnreachableError
from swinlet.export.weight_files import as_safetensors
from swinlet.hub import local_weights, upload
from swinlet.models.network_swinir import SwinIR
from swinlet.models.open_network import open_network
from swinlet.models.select_network import define_G
from swinlet.utils.files import sha256_of
from swinlet.weights import read_weight_file
from tests.fake_hub import READER, WRITER, FakeHub, serving

# httpx2's, of the way in which huggingface_hub 2.4 sends large files.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TINY: dict[str, Any] = {"embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, nobody logged in, and no way to other machines."""
    look_up = socket.getaddrinfo

    def look_up_here(host: str, *rest: Any, **keys: Any) -> Any:
        assert host in ("127.0.0.1", "localhost"), f"a test asks for {host}"
        return look_up(host, *rest, **keys)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)  # all connections begin with it
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # Its own protocol for large files, whose server cannot be imitated; without, they go by HTTP.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits between its attempts."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def network(net_type: str = "swinir_student", **config: Any) -> SwinIR:
    torch.manual_seed(0)
    return define_G({"net_type": net_type, **TINY, **config}).eval()


def call(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def refusal(word: str, kind: type[HubError] = HubError, **keys: Any) -> str:
    """Why there are no weights."""
    with pytest.raises(HubError) as caught:
        local_weights(word, **keys)
    assert type(caught.value) is kind
    return str(caught.value)


class TestReading:
    def test_downloaded_once_then_read_without_network(self, hub: FakeHub, cache: Path) -> None:
        hub.model("u/m", {"README.md": b"-", "model.safetensors": b"weights"})
        path = local_weights("hf://u/m", download=True)
        assert path.read_bytes() == b"weights"
        assert path.resolve().is_relative_to(cache.resolve())
        hub.requests.clear()
        assert local_weights("hf://u/m") == local_weights("hf://u/m/model.safetensors") == path
        assert hub.requests == []
        hub.models["u/m"].commit({"model.safetensors": b"better weights"})
        assert local_weights("hf://u/m") == path
        assert local_weights("hf://u/m", download=True).read_bytes() == b"better weights"
        assert local_weights("hf://u/m").read_bytes() == b"better weights"

    def test_nothing_is_asked_without_leave(self, hub: FakeHub, cache: Path) -> None:
        hub.model("u/m", {"model.safetensors": b"weights"})
        assert refusal("hf://u/m") == (
            f"hf://u/m: is not in the cache ({cache}), and nothing is downloaded without your leave: "
            "pass --download (download=True in Python)"
        )
        assert hub.requests == []

    def test_revisions(self, hub: FakeHub) -> None:
        model = hub.model("u/m", {"model.safetensors": b"1"})
        first = model.refs["main"]
        for i, name in enumerate(["v2", "feature/new", "refs/pr/3", "main"], 2):
            model.commit({"model.safetensors": str(i).encode()}, name)
        for word, content in {
            f"hf://u/m@{first}": b"1",
            "hf://u/m@v2": b"2",
            "hf://u/m@feature%2Fnew/model.safetensors": b"3",
            "hf://u/m@refs/pr/3": b"4",
            "hf://u/m@main": b"5",
        }.items():
            assert local_weights(word, download=True).read_bytes() == content
            assert local_weights(word).read_bytes() == content
        assert "the model has no such branch, tag or commit" in refusal("hf://u/m@v9", download=True)

    def test_which_file(self, hub: FakeHub) -> None:
        hub.model("u/m", {"README.md": b"-", "x4.safetensors": b"4"})
        assert local_weights("hf://u/m", download=True).name == "x4.safetensors"
        hub.models["u/m"].commit({"x2/model.safetensors": b"2", "old.pth": b"p", "a\\b.safetensors": b"-"})
        there = "(weights there: x4.safetensors, x2/model.safetensors, old.pth)"
        text = refusal("hf://u/m", download=True)
        assert "holds several .safetensors files: name the one that is meant" in text
        assert text.endswith(there)
        assert local_weights("hf://u/m/x2/model.safetensors", download=True).read_bytes() == b"2"
        assert local_weights("hf://u/m/old.pth", download=True).read_bytes() == b"p"
        assert refusal("hf://u/m/x8.safetensors", download=True) == (
            f"hf://u/m/x8.safetensors: the model has no such file {there}"
        )
        hub.models["u/m"].commit({"model.safetensors": b"m"})
        assert local_weights("hf://u/m", download=True).read_bytes() == b"m"
        hub.model("u/n", {"old.pth": b"p"})
        assert "holds no .safetensors file" in refusal("hf://u/n", download=True)

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("hf://", "names no model of the hub: write hf://user/model"),
            ("hf://model", "names no model of the hub"),
            ("hf://datasets/u/m", "names no model of the hub"),
            ("hf:///u/m", "names no model of the hub"),
            ("hf://u/..", "names no model of the hub"),
            ("hf://u/a--b", "is not the name of a model on the hub: write user/model"),
            ("hf://u/m@", "names no model of the hub"),
            ("hf://u/m@..%2F..%2Fx", "../../x is not the name of a branch, a tag or a commit"),
            ("hf://u/m@%2Fetc", "/etc is not the name of a branch"),
            ("hf://u/m/../../x.pth", "../../x.pth names no .safetensors or .pth file of a model"),
            ("hf://u/m/C:\\x.pth", "names no .safetensors or .pth file"),
            ("hf://u/m//etc/x.pth", "names no .safetensors or .pth file"),
            ("hf://u/m/model.bin", "model.bin names no .safetensors or .pth file"),
            ("hf://u/m/\x1b[31m.pth", "names no .safetensors or .pth file"),
        ],
    )
    def test_bad_words(self, hub: FakeHub, word: str, message: str) -> None:
        text = refusal(word, download=True)
        assert message in text
        assert text.isprintable()
        assert hub.requests == []

    def test_models_that_are_not_for_everybody(self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.model("u/hidden", {"model.safetensors": b"h"}, private=True)
        hub.model("u/gated", {"model.safetensors": b"g"}, gated=True)
        for word in ("hf://u/hidden", "hf://u/nowhere"):
            assert refusal(word, download=True) == (
                f"{word}: the hub has no such model, or does not show it to you: if it is private, "
                "log in with `hf auth login`, or set HF_TOKEN"
            )
        assert "its owners want to be asked" in refusal("hf://u/gated", download=True)
        monkeypatch.setenv("HF_TOKEN", READER)
        assert local_weights("hf://u/hidden", download=True).read_bytes() == b"h"
        assert local_weights("hf://u/gated", download=True).read_bytes() == b"g"
        assert "the hub has no such model" in refusal("hf://u/nowhere", download=True)
        monkeypatch.setenv("HF_TOKEN", "hf_expired")
        text = refusal("hf://u/hidden", download=True)
        assert "your token does not permit this (status 401" in text
        assert "hf_expired" not in text

    def test_damaged_on_the_way_and_in_the_cache(self, hub: FakeHub, cache: Path, no_pauses: None) -> None:
        hub.model("u/m", {"model.safetensors": b"weights" * 100})
        hub.damage = "short"
        assert "broke off (Consistency check failed" in refusal("hf://u/m", UnreachableError, download=True)
        assert "is not in the cache" in refusal("hf://u/m")
        hub.damage = "flip"
        assert "arrived damaged" in refusal("hf://u/m", download=True)
        assert "is damaged: fetch it again with --download" in refusal("hf://u/m")
        hub.damage = ""
        assert local_weights("hf://u/m", download=True).read_bytes() == b"weights" * 100
        assert local_weights("hf://u/m").read_bytes() == b"weights" * 100

    def test_a_hub_that_does_not_answer(
        self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        hub.model("u/m", {"model.safetensors": b"weights"})
        hub.status = 503
        assert "the hub cannot serve this now (status 503" in refusal("hf://u/m", UnreachableError, download=True)
        hub.status = 200
        path = local_weights("hf://u/m", download=True)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
            assert "hf://u/n: the hub cannot be reached" in refusal("hf://u/n", UnreachableError, download=True)
            with caplog.at_level(logging.WARNING):
                assert local_weights("hf://u/m", download=True) == path
        assert "until then what is in the cache is used" in caplog.text
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE is set" in refusal("hf://u/n", UnreachableError, download=True)

    def test_a_full_disk(self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        hub.model("u/m", {"model.safetensors": b"weights"})
        monkeypatch.setattr(file_download, "http_get", fail)
        with pytest.raises(HubError, match="No space left on device: free some space") as caught:
            local_weights("hf://u/m", download=True)
        assert isinstance(caught.value.__cause__, OSError)  # exit code 1

    def test_names_that_a_hub_invents_lead_nowhere(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.model("u/m", {"../../../evil.safetensors": b"x"})
        assert "holds no .safetensors file" in refusal("hf://u/m", download=True)
        assert not list(tmp_path.rglob("*evil*"))


@pytest.fixture
def testset(tmp_path: Path) -> Path:
    folder = tmp_path / "Noise"
    folder.mkdir()
    pixels = torch.randint(256, (48, 44, 3), generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.byte().numpy()).save(folder / "a.png")
    return folder


class TestEvaluate:
    def evaluate(self, *words: object) -> Result:
        return call("evaluate", "--device", "cpu", "--latency-size", "0", *words)

    def test_weights_and_teacher(self, hub: FakeHub, testset: Path, tmp_path: Path) -> None:
        hub.model("u/student", {"model.safetensors": as_safetensors(network())})
        hub.model("u/teacher", {"model.safetensors": as_safetensors(network("swinir", embed_dim=12))})
        weights = ["--weights", "hf://u/student", "--weights", "again=hf://u/student", "--teacher", "hf://u/teacher"]
        arguments = [*weights, "--testset", testset, "--json", tmp_path / "out.json"]
        result = self.evaluate(*arguments)
        assert result.exit_code == 2
        assert "hf://u/student: is not in the cache" in result.output
        assert hub.requests == []
        result = self.evaluate(*arguments, "--download")
        assert result.exit_code == 0, result.output
        asked = len(hub.requests)
        assert self.evaluate(*arguments).exit_code == 0
        assert len(hub.requests) == asked
        found = json.loads((tmp_path / "out.json").read_text())
        assert [model["label"] for model in found["models"]] == ["student", "again", "teacher"]

    def test_what_cannot_be_had_leaves_the_others_alone(self, hub: FakeHub, testset: Path, tmp_path: Path) -> None:
        (tmp_path / "w.safetensors").write_bytes(as_safetensors(network()))
        arguments = ["--weights", "hf://u/nowhere", "--weights", tmp_path / "w.safetensors", "--testset", testset]
        result = self.evaluate(*arguments, "--download")
        assert result.exit_code == 2
        assert "hf://u/nowhere: the hub has no such model" in result.output
        assert re.search(r"^w  ", result.output, re.MULTILINE)


class TestPublishing:
    @pytest.fixture(autouse=True)
    def _logged_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", WRITER)

    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        path = tmp_path / "student.pth"
        torch.save(network("swinir_student_v2").state_dict(), path)
        return path

    def test_round_trip(self, hub: FakeHub, tmp_path: Path) -> None:
        net = network("swinir_student_v2", img_range=255.0)
        (tmp_path / "w.safetensors").write_bytes(as_safetensors(net))
        result = call("push-to-hub", tmp_path / "w.safetensors", "u/m", "--private", "--message", "first")
        assert result.exit_code == 0, result.output
        assert "published: https://huggingface.co/u/m/commit/" in result.output
        assert WRITER not in result.output
        assert hub.models["u/m"].private
        path = local_weights("hf://u/m", download=True)
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        assert metadata["net_type"] == "swinir_student_v2"
        loaded = open_network(read_weight_file(path, "weights")).eval()
        assert type(loaded) is type(net)
        # Masks are those of a small image; the rate serves training.
        assert loaded.config == net.config | {"img_size": 8, "drop_path_rate": loaded.config["drop_path_rate"]}
        image = torch.rand(1, 3, 9, 7)
        with torch.inference_mode():
            assert torch.equal(loaded(image), net(image))
        again = call("push-to-hub", "hf://u/m", "u/copy")
        assert again.exit_code == 0, again.output
        copy = read_weight_file(local_weights("hf://u/copy", download=True), "copy").state
        assert all(torch.equal(copy[name], tensor) for name, tensor in net.state_dict().items())
        assert not hub.models["u/copy"].private

    def test_a_dry_run_sends_nothing(self, hub: FakeHub, weights: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        options = ["--net-type", "swinir_student_v2", "--dry-run", "--out", out]
        result = call("push-to-hub", weights, "u/m", *options)
        assert result.exit_code == 0, result.output
        assert hub.requests == []
        assert sorted(path.name for path in out.iterdir()) == ["README.md", "model.safetensors"]
        assert f"model.safetensors: {(out / 'model.safetensors').stat().st_size:,} bytes, sha256 " in result.output
        assert sha256_of(out / "README.md") in result.output
        assert "nothing was sent; without --dry-run these go to u/m" in result.output

    def test_copies_replace_nothing_without_leave(self, weights: Path, tmp_path: Path) -> None:
        out, options = tmp_path / "project", ["--net-type", "swinir_student_v2", "--dry-run", "--out"]
        out.mkdir()
        (out / "README.md").write_text("mine")
        result = call("push-to-hub", weights, "u/m", *options, out)
        assert (result.exit_code, "README.md exists: name another folder, or pass --over" in result.output) == (2, True)
        assert [(path.name, path.read_text()) for path in out.iterdir()] == [("README.md", "mine")]
        for _ in range(2):  # the same content may be written again
            assert call("push-to-hub", weights, "u/m", *options, out, "--overwrite").exit_code == 0
        published = (out / "model.safetensors").read_bytes()
        words = ["push-to-hub", out / "model.safetensors", "u/m", "--dry-run", "--overwrite", "--out", out]
        result = call(*words)
        assert (result.exit_code, "is the file to be published" in result.output) == (2, True)
        assert (out / "model.safetensors").read_bytes() == published

    def test_a_model_that_stays_empty_is_named(
        self, hub: FakeHub, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise ConnectionError("broke off")

        monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", fails)
        for again in ("/u/m has been made for it and is still empty", ""):
            result = call("push-to-hub", weights, "u/m", "--net-type", "swinir_student_v2")
            assert (result.exit_code, list(hub.models)) == (1, ["u/m"])
            assert again in result.output
        assert "empty" not in result.output

    def test_refusals(self, hub: FakeHub, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*words: object, model: str = "u/m") -> str:
            result = call("push-to-hub", weights, model, *words)
            assert result.exit_code == 2, result.output
            return result.output

        assert "pass --net-type swinir_student or" in refused()
        v2 = ("--net-type", "swinir_student_v2")
        assert "records" not in refused(*v2, model="m")
        assert "m: is not the name of a model on the hub: write user/model" in refused(*v2, model="m")
        assert "m-: is not the name of a model on the hub" in refused(*v2, model="u/m-")
        for option in ("--card", "--scores"):
            assert f"{option} absent: there is no such file" in refused(*v2, option, "absent")
        assert "--net-type esrgan: must be one of" in refused("--net-type", "esrgan")
        assert "--license Apache 2: must be an identifier" in refused(*v2, "--license", "Apache 2")
        (tmp_path / "card.md").write_text("---\nlicense: nonsense\n---\n")
        assert "leave --scores and --license out" in refused("--card", tmp_path / "card.md", "--license", "mit")
        (tmp_path / "bytes.md").write_bytes(b"\xff")
        assert "is no text in UTF-8" in refused(*v2, "--card", tmp_path / "bytes.md")
        assert hub.requests == []
        assert '"license" must be one of' in refused(*v2, "--card", tmp_path / "card.md")
        hub.model("u/open", {})
        assert "u/open: exists, and is public" in refused(*v2, "--private", model="u/open")
        monkeypatch.setenv("HF_TOKEN", READER)
        assert "your token does not permit this (status 403: this token cannot write here)" in refused(
            *v2, model="u/new"
        )
        monkeypatch.setenv("HF_TOKEN", "hf_geheim\u00fc")
        assert "u/m: the token has characters that no token has" in refused(*v2)
        monkeypatch.delenv("HF_TOKEN")
        assert "u/m: nobody is logged in: log in with `hf auth login`, or set HF_TOKEN" in refused(*v2)
        assert not any("model.safetensors" in files for m in hub.models.values() for files in m.commits.values())

    def test_a_hub_that_does_not_answer(self, hub: FakeHub, weights: Path) -> None:
        hub.status = 500
        result = call("push-to-hub", weights, "u/m", "--net-type", "swinir_student_v2")
        assert (result.exit_code, hub.models) == (1, {})
        assert "the hub cannot serve this now (status 500" in result.output

    def test_the_card(self, hub: FakeHub, testset: Path, tmp_path: Path) -> None:
        (tmp_path / "w.safetensors").write_bytes(as_safetensors(network()))
        scores = tmp_path / "scores.json"
        evaluated = ["--testset", testset, "--json", scores, "--device", "cpu", "--latency-size", 0, "--self-ensemble"]
        assert call("evaluate", "--weights", tmp_path / "w.safetensors", *evaluated).exit_code == 0
        options = ["--scores", scores, "--license", "apache-2.0"]
        result = call("push-to-hub", tmp_path / "w.safetensors", "u/m", *options)
        assert result.exit_code == 0, result.output
        card = hub.models["u/m"].commits[hub.models["u/m"].refs["main"]]["README.md"].decode()
        front = yaml.safe_load(card.split("---\n")[1])
        assert front["license"] == "apache-2.0"
        assert (front["library_name"], front["pipeline_tag"]) == ("swinlet", "image-to-image")
        assert front["tags"] == ["swinir", "super-resolution"]
        rows = json.loads(scores.read_text())["testsets"][0]["rows"]
        means = next(row["mean"] for row in rows if row["label"] == "w")
        (found,) = front["model-index"][0]["results"]
        assert found["dataset"] == {"type": "noise", "name": "Noise x4"}
        assert [(m["type"], m["value"]) for m in found["metrics"]] == [
            (metric.partition("_")[0], round(value, 4)) for metric, value in means.items()
        ]
        assert f"| this model | {means['psnr_y']:.2f} | {means['ssim_y']:.4f} |" in card
        assert "| bicubic |" in card
        assert "self-ensemble x8" in card
        assert "| embed\\_dim | 8 |" in card
        assert "\n\n\n" not in card
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        names: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), names)
        assert names["upscaler"].upscale(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)
        (command,) = re.findall(r"```sh\nswinlet (.*?)\n```", card)
        picture, large = testset / "a.png", tmp_path / "large.png"
        words = [{"photo.jpg": picture, "large.png": large}.get(word, word) for word in command.split()]
        assert call(*words).exit_code == 0
        with Image.open(large) as image:
            assert image.size == (44 * 4, 48 * 4)

    def test_scores_of_other_weights_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "w.safetensors").write_bytes(as_safetensors(network()))
        scores = tmp_path / "scores.json"
        for content, message in [
            ('{"models": [], "testsets": [], "provenance": {}}', "has no scores of these weights"),
            ('{"models": 3}', "was not written by swinlet evaluate --json: models "),
            ("not JSON", "was not written by swinlet evaluate --json"),
        ]:
            scores.write_text(content)
            result = call("push-to-hub", tmp_path / "w.safetensors", "u/m", "--dry-run", "--scores", scores)
            assert result.exit_code == 2
            assert message in result.output

    def test_an_own_card_is_taken_as_it_is(self, hub: FakeHub, weights: Path, tmp_path: Path) -> None:
        (tmp_path / "card.md").write_text("---\nlicense: mit\n---\nMine\n")
        options = ["--net-type", "swinir_student_v2", "--card", tmp_path / "card.md"]
        assert call("push-to-hub", weights, "u/m", *options).exit_code == 0
        model = hub.models["u/m"]
        assert model.commits[model.refs["main"]]["README.md"] == (tmp_path / "card.md").read_bytes()

    def test_nothing_changed(self, hub: FakeHub) -> None:
        for _ in range(2):
            assert upload("u/m", {"README.md": b"x"}, private=False, message="m").startswith(
                "https://huggingface.co/u/m/commit/"
            )
