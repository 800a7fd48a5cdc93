"""swinlet report: runs in small, the page as text and in a browser."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from selenium import webdriver
from selenium.webdriver.common.by import By
from typer.testing import CliRunner, Result

from swinlet.cli import app
from swinlet.models.select_network import define_G
from swinlet.options import parse_options
from swinlet.report.history import read_history
from swinlet.train import train
from tests.small_run import NET, TEACHER, tree

# The form in which KAIR and the reference project log; the numbers are made up.
KAIR_LOG = """\
22-11-07 10:00:00.001 :   task: old
22-11-07 10:01.001 : <epoch:  7, iter:     200, lr:2.000e-04> l_g_L1: 4.390e-02 l_g_distill: 2.100e-02 G_loss: 6.490e-02
22-11-07 10:02.001 : <epoch: 14, iter:     400, lr:2.000e-04> l_g_L1: 3.390e-02 l_g_distill: 1.100e-02 G_loss: 4.490e-02
22-11-07 10:00:03.001 : ---1-->   baby.png | 30.12dB
22-11-07 10:00:03.002 : <epoch: 71, iter:   2,000, Average PSNR : 26.97dB

22-11-07 10:00:04.002 : <epoch:142, iter:   4,000, Average PSNR : 27.51dB
"""


class Page(HTMLParser):
    """What a page holds: start tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def figures(self) -> list[str | None]:
        return [attributes.get("aria-label") for attributes in self.all("svg")]


def make(out: Path, *words: object, code: int = 0) -> Page:
    result = call(out, *words)
    assert result.exit_code == code, result.output
    return Page(out.read_text(encoding="utf-8"))


def call(out: Path, *words: object) -> Result:
    quick = ["--device", "cpu", "--latency-size", "8", "--crop-side", "16"]
    return CliRunner().invoke(app, ["report", *map(str, words), "--out", str(out), *quick])


@pytest.fixture(scope="module")
def runs(photos: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs, "plain" and "taught"; the latter has a name that tests escaping."""
    root = tmp_path_factory.mktemp("runs")
    for task, teacher in (("plain", None), ("taught & <b>", teacher_file)):
        data = tree(photos, root, teacher) | {"task": task.replace("<", "(").replace(">", ")")}
        if teacher is None:
            data["train"]["G_optimizer_lr"] = 3e-3
        assert train(parse_options(data))
    return root


@pytest.fixture(scope="module")
def old_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "train.log"
    path.write_text(KAIR_LOG)
    return path


@pytest.fixture(scope="module")
def page_file(runs: Path, old_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of both runs and an old log, one label given."""
    out = tmp_path_factory.mktemp("page") / "deep" / "report.html"
    make(out, runs / "plain", f"C={runs / 'taught & (b)'}", f"old <i>={old_log}", "--crop", "chelsea:20,8,24")
    return out


@pytest.fixture(scope="module")
def page(page_file: Path) -> Page:
    return Page(page_file.read_text(encoding="utf-8"))


class TestPage:
    def test_it_needs_nothing_else(self, page: Page, page_file: Path) -> None:
        assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))
        assert not page.all("script")[0].get("src")
        assert [link["href"] for link in page.all("link")] == ["data:,"]
        html = page_file.read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"'<>]+", html)) <= {"http://www.w3.org/2000/svg"}
        assert "url(http" not in html

    def test_curves_of_all_runs_stand_together(self, page: Page, page_file: Path, old_log: Path) -> None:
        figures = page.figures()
        for name in ("PSNR-RGB, test set", "PSNR-Y, test set", "SSIM-Y, test set", "Pixel loss (l_g_L1)",
                     "Response loss (l_g_distill)", "Feature loss (l_g_feature)", "Learning rate"):  # fmt: skip
            assert figures.count(name) == 1, name
        psnr = re.findall(r"<svg[^>]*aria-label=\"PSNR-RGB, test set\".*?</svg>", page_file.read_text(), re.DOTALL)
        assert all(f"var(--model-{i})" in psnr[0] for i in range(3))  # the old log, too
        assert read_history(old_log).scores["test", "", "psnr_rgb"].values == (26.97, 27.51)
        only_y = re.findall(r"<svg[^>]*aria-label=\"PSNR-Y, test set\".*?</svg>", page_file.read_text(), re.DOTALL)
        assert "var(--model-2)" not in only_y[0]

    def test_scores_are_those_of_evaluate(self, page: Page, runs: Path, photos: Path, tmp_path: Path) -> None:
        words = ["--weights", f"A={runs / 'plain'}", "--weights", f"C={runs / 'taught & (b)'}", "--latency-size", "0"]
        command = ["evaluate", "--device", "cpu", "--testset", photos / "test", *words, "--json", tmp_path / "x.json"]
        assert CliRunner().invoke(app, [*map(str, command)]).exit_code == 0
        found = json.loads((tmp_path / "x.json").read_text())
        for row in found["testsets"][0]["rows"]:
            mean = row["mean"]
            cells = f"{mean['psnr_y']:.2f} {mean['ssim_y']:.4f} {mean['psnr_rgb']:.2f} {mean['ssim_rgb']:.4f}"
            assert f"{row['label']} {cells}" in page.text
        for card in found["models"]:
            assert f"{card['parameters']:,} {card['multiply_adds'] / 1e9:.1f} G" in page.text
        assert "PSNR-Y on test against parameters" in page.figures()
        assert "PSNR-Y on test against latency" in page.figures()
        assert re.search(r"C - A is [+-][\d.]+ dB on test \(1 image; C better on \d, worse on \d\)", page.text)

    def test_pictures(self, page: Page) -> None:
        alts = [image["alt"] for image in page.all("img")]
        for label in ("bicubic", "A", "C", "teacher"):
            assert alts.count(f"{label}: detail of chelsea") == 1
            assert alts.count(f"{label}: errors in the detail of chelsea") == 1
        assert alts.count("HR: detail of chelsea") == 1
        assert "Where C is nearer to HR than A, detail of chelsea" in alts
        assert "Where C is nearer to HR than A, whole chelsea" in alts
        assert "Detail of 24x24 pixels at 20,8 ( chosen by hand;" in page.text.replace("(chosen", "( chosen")

    def test_token_maps(self, page: Page) -> None:
        """Both runs have two stages; the one that was taught has a translator."""
        alts = [image["alt"] for image in page.all("img")]
        for label in "AC":
            assert alts.count(f"{label}: student, stage 1") == alts.count(f"{label}: teacher, stage 2") == 1
        assert [alt for alt in alts if alt and "translated" in alt] == [
            f"C: {what}, stage {stage}"
            for stage in (1, 2)
            for what in ("translated teacher", "distance of student and translated teacher")
        ]
        assert "No translator: its features were not taught." in page.text

    def test_options(self, page: Page) -> None:
        assert "train.distillation_type none feature" in page.text
        assert "train.G_optimizer_lr 0.0002 0.003 0.001" in page.text
        assert "train.manual_seed" not in page.text  # the default in both

    def test_names_are_text(self, page: Page) -> None:
        assert "old <i>: train.log" in page.text
        assert "C: taught & (b)" in page.text
        assert not page.all("i")[2:]  # the two of the legend
        assert not page.all("b")


class TestKinds:
    def test_an_old_log_alone(self, old_log: Path, tmp_path: Path) -> None:
        page = make(tmp_path / "x.html", old_log)
        assert page.figures() == [
            "PSNR-RGB, test set", "Pixel loss (l_g_L1)", "Response loss (l_g_distill)", "Sum of the losses (G_loss)",
            "Learning rate",
        ]  # fmt: skip
        assert not page.all("img")
        assert "unknown 4,000 none" in page.text

    def test_a_run_that_is_going_on(self, runs: Path, tmp_path: Path) -> None:
        """No checkpoint yet, and a line that is being written."""
        run = tmp_path / "run"
        shutil.copytree(runs / "plain", run, ignore=shutil.ignore_patterns("models", "images"))
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text("".join(lines[:3]) + '{"type": "train", "st')
        page = make(tmp_path / "x.html", run)
        assert "1 unreadable line)" in page.text
        assert "plain" not in page.text.partition("Options")[0].partition("task")[0]
        assert "Pixel loss (l_g_L1)" in page.figures()
        assert not page.all("img")

    def test_a_pruned_run(self, runs: Path, photos: Path, tmp_path: Path) -> None:
        """Scores are those of the run that keeps all, and evaluate takes its folder, too."""
        data = tree(photos, tmp_path, keep_checkpoints={"newest": 1, "best": False})
        data["train"]["G_optimizer_lr"] = 3e-3
        assert train(parse_options(data))
        assert [path.name for path in (tmp_path / "run" / "models").glob("*_G.pth")] == ["6_G.pth"]
        whole, pruned = (make(tmp_path / "x.html", run) for run in (runs / "plain", tmp_path / "run"))
        assert whole.figures() == pruned.figures()
        quick = ["--testset", str(photos / "test"), "--device", "cpu", "--latency-size", "0"]
        tables = [
            CliRunner().invoke(app, ["evaluate", "--weights", f"A={run}", *quick]).stdout.replace(str(run), "")
            for run in (runs / "plain", tmp_path / "run")
        ]
        assert "A " in tables[0]
        assert tables[0] == tables[1]

    def test_curves_only(self, runs: Path, tmp_path: Path) -> None:
        page = make(tmp_path / "x.html", runs / "plain", "--curves-only")
        assert page.figures()
        assert not page.all("img")
        assert "Scores" not in page.text.partition("Convergence")[2].partition("Convergence")[0]

    def test_labels(self, runs: Path, old_log: Path, tmp_path: Path) -> None:
        """Reserved words, given twice, letters that are taken."""
        run = runs / "plain"
        words = [f"teacher={run}", f"bicubic={old_log}", run, f"A={run}", f"A (2)={run}", f"A={run}"]
        page = make(tmp_path / "x.html", *words)
        title = "teacher (2): plain · bicubic (2): train.log · B: plain · A: plain · A (2): plain · A (3): plain"
        assert title in page.text
        assert "teacher (2): detail of chelsea" in [image["alt"] for image in page.all("img")]

    def test_the_teacher_is_known_by_its_content(
        self, runs: Path, photos: Path, teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Named otherwise than in the options, and from elsewhere."""
        monkeypatch.chdir(tmp_path)
        shutil.copy(teacher_file, "copy.pth")
        words = [runs / "taught & (b)", "--testset", photos / "test"]
        page = make(tmp_path / "x.html", *words, "--teacher", "copy.pth")
        assert "A: translated teacher, stage 1" in [image["alt"] for image in page.all("img")]
        torch.manual_seed(5)
        torch.save({"params": define_G(TEACHER | {"window_size": 4}).state_dict()}, "other.pth")
        page = make(tmp_path / "y.html", *words, "--teacher", "other.pth")
        assert "A: no token maps, as another teacher taught it." in page.text
        assert "Token maps" not in page.text

    def test_stored_features_are_not_shown(self, runs: Path, photos: Path, teacher_file: Path, tmp_path: Path) -> None:
        """A run that read them may count its stages otherwise than the teacher does."""
        shutil.copytree(runs / "taught & (b)", tmp_path / "run")
        for path in (tmp_path / "run/options").iterdir():
            options = json.loads(path.read_text())
            options["datasets"]["train"]["dataroot_T"] = str(tmp_path)
            path.write_text(json.dumps(options))
        page = make(tmp_path / "x.html", tmp_path / "run", "--testset", photos / "test", "--teacher", teacher_file)
        assert "A: no token maps, as the teacher's are those that were stored." in page.text
        assert "Token maps" not in page.text

    def test_many_runs_with_long_names(self, old_log: Path, tmp_path: Path, browser: webdriver.Chrome) -> None:
        """More than there are colours; a label that would turn the text around it."""
        name = "swinir_student_v2_feature_div2k_lr2e-4_bs32_warmup1000_cosine_seed1_nodistill"
        words = [f"{name}{i}={old_log}" for i in range(9)] + [f"right\u202eleft={old_log}"]
        page = make(tmp_path / "x.html", *words)
        assert "right left: train.log" in page.text
        assert (tmp_path / "x.html").read_text().count("stroke-dasharray") > 0
        for width in (390, 1280):
            view = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
            browser.get((tmp_path / "x.html").as_uri())
            assert look(browser, "return document.documentElement.scrollWidth") <= width

    def test_one_run_shows_raw_weights_as_well(self, runs: Path, tmp_path: Path) -> None:
        out = tmp_path / "x.html"
        make(out, runs / "plain", "--curves-only")
        assert "plain, EMA" in out.read_text()
        assert "plain, raw" in out.read_text()

    def test_a_run_of_the_reference(self, runs: Path, photos: Path, tmp_path: Path) -> None:
        """Bare state dicts and an option file that this program reads; V2 told by it."""
        run = tmp_path / "kair"
        (run / "models").mkdir(parents=True)
        (run / "options").mkdir()
        (run / "train.log").write_text(KAIR_LOG)
        net = define_G({"net_type": "swinir_student_v2", **NET})
        for label in "EG":
            torch.save(net.state_dict(), run / "models" / f"4000_{label}.pth")
        options = tree(photos, tmp_path)
        options["netG"] = {"net_type": "swinir_student_v2", **NET}
        (run / "options" / "train.json").write_text(json.dumps(options))
        page = make(tmp_path / "x.html", run)
        assert "4000_E.pth" in page.text
        assert "A: swinir_student_v2," in page.text
        assert [image["alt"] for image in page.all("img")].count("A: detail of chelsea") == 1


class TestBadInput:
    """The page is written without what is missing, which it names, and the exit code is 2."""

    def check(self, out: Path, result: Result, *messages: str) -> Page:
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.stderr
        page = Page(out.read_text(encoding="utf-8"))
        for message in messages:
            assert message in result.stderr
            assert message in page.text
        return page

    def test_one_run_of_two(self, runs: Path, tmp_path: Path) -> None:
        out = tmp_path / "x.html"
        page = self.check(
            out, call(out, tmp_path / "nowhere", runs / "plain", "--curves-only"), "nowhere: no such file"
        )
        assert "B: plain" in page.text

    def test_no_run(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        result = call(tmp_path / "x.html", tmp_path / "nowhere", tmp_path / "empty")
        assert result.exit_code == 2
        assert "nowhere" in result.stderr
        assert "neither metrics.jsonl nor train.log" in result.stderr
        assert not (tmp_path / "x.html").exists()

    @pytest.mark.parametrize(
        ("crop", "message"),
        [("dog:0,0,8", "--crop dog: no test image has this name"), ("chelsea:40,40,20", "does not fit into the image")],
    )
    def test_crops(self, runs: Path, tmp_path: Path, crop: str, message: str) -> None:
        out = tmp_path / "x.html"
        page = self.check(out, call(out, runs / "plain", "--crop", crop), message)
        assert "A: detail of chelsea" in [image["alt"] for image in page.all("img")]  # the one that was found

    def test_a_page_is_never_written_over_something_else(self, runs: Path, tmp_path: Path) -> None:
        shutil.copytree(runs / "plain", tmp_path / "run")
        log = tmp_path / "run" / "train.log"
        before = log.read_bytes()
        result = call(log, tmp_path / "run", "--curves-only")
        assert result.exit_code == 2
        assert "train.log: this file exists and is no HTML page: name another one" in result.stderr
        assert log.read_bytes() == before

    def test_words(self, runs: Path, tmp_path: Path) -> None:
        result = call(tmp_path / "x.html", runs / "plain", "--crop", "chelsea", "--precision", "int4")
        assert result.exit_code == 2
        assert "crop 'chelsea': wanted is NAME:LEFT,TOP,SIDE" in result.stderr
        assert "--precision int4" in result.stderr
        assert not (tmp_path / "x.html").exists()

    def test_a_test_set_and_a_teacher_that_are_gone(self, photos: Path, teacher_file: Path, tmp_path: Path) -> None:
        gone = {name: tmp_path / "gone" / name for name in ("photos", "teacher.pth")}
        shutil.copytree(photos, gone["photos"])
        shutil.copy(teacher_file, gone["teacher.pth"])
        data = tree(gone["photos"], tmp_path, gone["teacher.pth"], total_iter=2)
        train(parse_options(data))
        shutil.rmtree(tmp_path / "gone")
        out = tmp_path / "x.html"
        page = self.check(out, call(out, tmp_path / "run"), "gone/teacher.pth does not exist", "datasets.test")
        assert page.figures()
        result = call(out, tmp_path / "run", "--testset", photos / "test", "--teacher", teacher_file)
        assert result.exit_code == 0, result.output
        assert "teacher: detail of chelsea" in [image["alt"] for image in Page(out.read_text()).all("img")]

    def test_broken_weights_and_options(self, runs: Path, photos: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(runs / "plain", run)
        for path in (run / "models").glob("*_E.pth"):
            path.write_bytes(b"broken")
        for path in (run / "options").iterdir():
            path.write_text('{"tsak": 3}')
        out = tmp_path / "x.html"
        result = call(out, run, "--testset", photos / "test")
        page = self.check(out, result, "tsak")
        assert "checkpoint passed over" in page.text
        assert "A has no weights: no scores and no pictures of it." in page.text
        assert page.figures()

    def test_without_matplotlib(self, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.startswith(("swinlet.report", "matplotlib"))]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        result = call(tmp_path / "x.html", runs / "plain")
        assert result.exit_code == 2
        assert "swinlet report draws with matplotlib: pip install 'swinlet[report]'" in result.stderr


def look(browser: webdriver.Chrome, script: str) -> Any:
    return browser.execute_script(script)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("width", [1280, 390])
class TestInABrowser:
    @pytest.fixture(autouse=True)
    def _load(self, browser: webdriver.Chrome, page_file: Path, width: int) -> None:
        # A window cannot be as narrow as a telephone; its view can be made so.
        view = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
        browser.get(page_file.as_uri())

    def test_every_picture_is_there_and_nothing_complains(self, browser: webdriver.Chrome, page: Page) -> None:
        shown = look(browser, "return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
        assert len(shown) == len(page.all("img")) > 20
        assert all(shown)
        boxes = look(browser, "return [...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width)")
        assert len(boxes) == len(page.all("svg"))
        assert min(boxes) > 200
        assert browser.get_log("browser") == []

    def test_nothing_sticks_out_of_the_page(self, browser: webdriver.Chrome, width: int) -> None:
        assert look(browser, "return document.documentElement.scrollWidth") <= width

    def test_pictures_do_not_overlap(self, browser: webdriver.Chrome) -> None:
        overlaps = look(
            browser,
            """
            const items = [...document.querySelectorAll('img, svg, h2, h3, table, p, li')]
                .filter(e => !e.closest('details:not([open])'));
            const boxes = items.map(e => e.getBoundingClientRect());
            const meet = (a, b) => a.width && b.width && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
            const name = e => e.tagName + ' ' + (e.alt || e.getAttribute('aria-label') || e.textContent.slice(0, 30));
            return items.flatMap((a, i) => items.slice(i + 1).filter(b => meet(boxes[i], b.getBoundingClientRect()))
                .map(b => name(a) + ' meets ' + name(b)));
            """,
        )
        assert overlaps == []

    def test_two_themes(self, browser: webdriver.Chrome) -> None:
        def colours() -> list[str]:
            script = """
            const text = document.querySelector('svg text');
            return [getComputedStyle(document.body).backgroundColor, getComputedStyle(text).fill];
            """
            return look(browser, script)

        before = colours()
        browser.find_element(By.TAG_NAME, "button").click()
        after = colours()
        assert before[0] != after[0]
        assert before[1] != after[1]
