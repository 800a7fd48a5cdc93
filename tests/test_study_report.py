"""swinlet report about studies: made-up ones of any size, a real one in small, files of strangers, a browser."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from swinlet.report.bands import band, paired_band
from swinlet.report.figures import Series, panel
from swinlet.report.forest import Difference, forest
from swinlet.report.history import Curve
from swinlet.report.studies import open_studies
from swinlet.report.ticks import common_limits
from swinlet.study.results import read_results
from swinlet.study.verdict import percent
from tests.synthetic_study import STEPS, write_results
from tests.test_report import KAIR_LOG, Page, call, look, make
from tests.test_study import study, train_here, write_study

EFFECTS = {
    "none": 0.0,
    "response": 0.03,
    "feature": 0.08,
    "response + feature": 0.12,
    "attention": 0.05,
    "none, equal time": -0.01,
    "untrained teacher": -0.005,
    "wrong teacher": -0.12,
    "first of the teacher's blocks": 0.25,
    "last of the teacher's blocks": 0.21,
    "initialisation": 0.02,
    "frequency": 0.015,
    "wavelet": 0.04,
    "contrastive, with a name that is longer than all of the rest": -0.06,
    "broken": -1.8,
}
MINUS = "\N{MINUS SIGN}"
FEW = {"none": 0.0, "response": 0.3, "feature": -0.2}
LONG = "photographs_of_the_night_" * 4
NO_LINE = (
    "No curves: no run has more than one test in its metrics.jsonl, and a curve needs two (train.checkpoint_test is "
    "the number of iterations between tests). Scores are those of the results."
)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 variants, 5 seeds, 3 test sets."""
    out = tmp_path_factory.mktemp("big") / "out"
    return write_results(out, EFFECTS, (1, 2, 3, 4, 5), ("Set5", "Set14", "BSD100"), images=14)


@pytest.fixture(scope="module")
def page_file(big: Path) -> Path:
    out = big.parent / "report.html"
    make(out, big)
    return out


@pytest.fixture(scope="module")
def page(page_file: Path) -> Page:
    return Page(page_file.read_text(encoding="utf-8"))


def change(folder: Path, **values: Any) -> None:
    """Change keys of results.json."""
    file = folder / "results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def keep_tests(out: Path, wanted: Callable[[str, int], bool]) -> None:
    """Only some of each run's tests, by variant and iteration."""
    for file in out.glob("runs/*/*/metrics.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if wanted(file.parts[-3], json.loads(line)["step"])))


def spoken(page: Page, words: str) -> str:
    """The text of the one figure that begins with these words."""
    (found,) = [label for label in page.figures() if label is not None and label.startswith(words)]
    return found


class TestPage:
    def test_it_says_what_the_study_says(self, page: Page, big: Path) -> None:
        results = read_results(big)
        assert "15 variants (none, response, feature," in page.text
        assert "5 seeds, 75 of 75 runs complete; reference: none." in page.text
        for testset in results.testsets:
            assert f"{testset.name} x4, 14 images (LR: LR_bicubic/X4)" in page.text
            for scores in testset.variants:
                assert scores.verdict in page.text
        assert "Ranking on BSD100 (PSNR-Y, seeds 1, 2, 3, 4, 5): 1 first of the teacher's blocks; 2" in page.text
        assert "Places that cannot be told apart are ranges: not all pairs differ clear of zero." in page.text
        assert "42 intervals were looked at: 5 % of them, 2.1, would look clear by luck." in page.text

    def test_the_figure_of_differences(self, page: Page, big: Path) -> None:
        label = spoken(page, "Difference to none on Set14")
        rows = re.findall(rf"(?:paired by seed:|;) (.+?) ([+{MINUS}]\d\.\d{{3}}) \(", label)
        assert [name for name, _ in rows] == sorted(list(EFFECTS)[1:], key=lambda name: -self.mean(big, name))
        assert dict(rows)["feature"] == f"{self.mean(big, 'feature'):+.3f}"
        assert label.endswith("; teacher +0.922")

    def test_the_order_and_the_arrow_are_explained(self, page: Page, tmp_path: Path) -> None:
        """Without the broken variant, and with the teacher near, all lies on the axis."""
        arrows = "Arrows point to what lies beyond the axis."
        assert page.text.count("dots: single seeds. The best stands first.") == 3
        assert page.text.count(arrows) == 3
        near = make(tmp_path / "x.html", write_results(tmp_path / "out", {"none": 0.0, "feature": 0.8}))
        assert "The best stands first." in near.text
        assert arrows not in near.text

    @staticmethod
    def mean(big: Path, name: str) -> float:
        (scores,) = [scores for scores in read_results(big).testsets[1].variants if scores.variant == name]
        assert scores.difference is not None
        return scores.difference.mean

    def test_tables(self, page: Page, big: Path) -> None:
        """All numbers of a variant on a test set, and one cell for each seed."""
        testset = read_results(big).testsets[0]
        scores = testset.variants[2]
        found = scores.difference
        assert found is not None
        assert testset.ranking is not None
        (place,) = [place for place in testset.ranking.ranks if place.variant == "feature"]
        assert place.best < place.worst
        assert found.over_seeds is not None
        assert found.over_images is not None
        assert found.share is not None
        intervals = [f"{one.low:+.3f} to {one.high:+.3f}" for one in (found.over_seeds, found.over_images)]
        assert found.share.low is not None
        assert found.share.high is not None
        share = f"{percent(found.share.share)} % ({percent(found.share.low)} to {percent(found.share.high)})"
        places = f"{place.best} to {place.worst}"
        row = f"feature {places} {scores.psnr_y:.3f} {found.mean:+.3f} {' '.join(intervals)} {share} 120.0"
        assert row in page.text
        values = [f"{seed.psnr_y:.3f} ({value:+.3f})" for seed, value in zip(scores.seeds, found.values, strict=True)]
        assert f"feature {' '.join(values)} 5 27.562" in page.text
        assert {cell.get("scope") for cell in page.all("th")} == {"row", "col"}
        assert len(page.all("caption")) == len(page.all("table")) == 8

    def test_curves_are_of_the_scored_weights(self, page: Page, big: Path) -> None:
        """The last test of a made-up run has its final score; the raw weights are 0.2 dB below."""
        final = [seed.psnr_y for seed in read_results(big).testsets[0].variants[2].seeds]
        ends = f"{sum(final) / 5:.2f} dB ({min(final):.2f} to {max(final):.2f}) at iteration 2,000"  # type: ignore[type-var,arg-type]
        assert f"of 5 seeds, {ends}; none: " in spoken(page, "feature: PSNR-Y while training")[:400]
        assert f"{self.mean(big, 'feature'):.2f} dB (" in spoken(page, "feature: PSNR-Y minus that of none")
        assert NO_LINE not in page.text
        for name in list(EFFECTS)[1:]:
            assert sum((label or "").startswith(f"{name}: ") for label in page.figures()) == 2
        assert page.text.count("(an axis of its own)") == 2  # of the broken one

    def test_provenance(self, page: Page) -> None:
        for text in (
            f"study file: studies/made up.json, sha256 {'5' * 64}",
            f"base: options/base.json, sha256 {'b' * 64}",
            f"teacher: teacher.safetensors, sha256 {'7' * 64}",
            "command: swinlet study made.json",
        ):
            assert text in page.text
        assert page.text.count("swinlet train --opt ") == 75

    def test_it_needs_nothing_else(self, page: Page, page_file: Path) -> None:
        html = page_file.read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"'<>]+", html)) <= {"http://www.w3.org/2000/svg"}
        assert len(page.all("script")) == 1
        assert not {"curves", "scores", "runs", "options"} & {attributes.get("id") for _, attributes in page.tags}
        assert "Missing on this page" not in page.text

    def test_anchors_lead_somewhere(self, page: Page) -> None:
        places = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
        links = [link["href"] or "" for link in page.all("a")]
        assert len(links) == 7
        assert {link[1:] for link in links} <= places


class TestKinds:
    def test_a_real_study(self, photos: Path, teacher_file: Path, tmp_path: Path) -> None:
        path = write_study(tmp_path / "real", photos, teacher_file, {"checkpoint_test": 3})
        with pytest.MonkeyPatch.context() as patch:
            train_here(patch, [])
            assert study(path)[0] == 0
        results = read_results(path.parent / "out")
        page = make(tmp_path / "x.html", path.parent / "out")
        assert results.testsets[0].variants[1].verdict in page.text
        (found,) = results.testsets[0].variants[1:]
        assert found.difference is not None
        assert found.difference.over_seeds is not None
        label = spoken(page, "response: PSNR-Y minus that of none")
        ends = (found.difference.mean, min(found.difference.values), max(found.difference.values))
        assert "{:.2f} dB ({:.2f} to {:.2f}) at iteration 6".format(*ends) in label
        assert results.study_sha256 in page.text
        assert results.runs[0].command in page.text

    def test_studies_beside_runs(self, big: Path, tmp_path: Path) -> None:
        (tmp_path / "train.log").write_text(KAIR_LOG)
        one, two = (write_results(tmp_path / name, FEW) for name in ("one", "two"))
        words = [tmp_path / "train.log", one / "results.json", f"other={two}", one]
        page = make(tmp_path / "x.html", *words, "--curves-only")
        assert "A: train.log · Study made up · Study other · Study made up (2)" in page.text
        for name in ("made up", "other", "made up (2)"):
            assert f"Study: {name} 3 variants" in page.text
        ids = [attributes["id"] or "" for _, attributes in page.tags if "id" in attributes]
        ids = [
            name for name in ids if not re.fullmatch(r"s\w{10}-\d+", name)
        ]  # those of figures follow from the content
        assert len(set(ids)) == len(ids) > 10
        assert "PSNR-RGB, test set" in page.figures()

    def test_the_folder_may_have_moved(self, tmp_path: Path) -> None:
        write_results(tmp_path / "old", FEW).rename(tmp_path / "new")
        (study_,), problems = open_studies([(None, tmp_path / "new")])
        assert not problems
        assert list(study_.scores) == list(FEW)
        assert study_.notes == []

    def test_the_results_alone_find_their_runs(self, tmp_path: Path) -> None:
        out = write_results(tmp_path / "out", FEW)
        (tmp_path / "copy.json").write_bytes((out / "results.json").read_bytes())
        (study_,), _ = open_studies([(None, tmp_path / "copy.json")])
        assert list(study_.scores) == list(FEW)

    def test_runs_without_logs(self, tmp_path: Path) -> None:
        out = write_results(tmp_path / "out", FEW, curves=False)
        page = make(tmp_path / "x.html", out)
        assert "No curves: no run has its metrics.jsonl any more, or no tests in it." in page.text
        assert spoken(page, "Difference to none on Set5")
        assert len(page.figures()) == 1
        some = write_results(tmp_path / "some", FEW)
        (some / "runs/response/seed_2/metrics.jsonl").unlink()
        (some / "runs/feature/seed_1/metrics.jsonl").write_text('{"type": "start"\n')
        with (some / "runs/none/seed_1/metrics.jsonl").open("a") as file:
            file.write('{"type": "te')
        page = make(tmp_path / "y.html", some)
        assert "Lines of none, seed 1 that could not be read, and are not in its curve: 1." in page.text
        assert (
            "Not in the curves, as there is no metrics.jsonl any more, or no tests in it: response, seed 2."
            in page.text
        )
        assert re.search(r"No curve of feature, seed 1: .*no losses and no scores in it", page.text)
        assert page.text.count("(2 of 3 seeds)") == 4

    def test_a_study_that_is_going_on(self, tmp_path: Path) -> None:
        missing = [("none", 3), ("feature", 1), ("feature", 2), ("feature", 3)]
        out = write_results(tmp_path / "out", FEW, missing=missing, problems=("Set14: no such folder",))
        page = make(tmp_path / "x.html", out)
        assert "5 of 9 runs complete" in page.text
        assert "none, seed 3: 500 of 2000" in page.text
        assert "Set14: no such folder" in page.text
        assert "feature and none cannot be compared on Set5" in page.text
        assert "Not in the curves, as they are not complete: none, seed 3." in page.text
        assert "In the curves as far as they are: feature, seed 1; feature, seed 2; feature, seed 3." in page.text
        assert "at iteration 500" in spoken(page, "feature: PSNR-Y while training")
        assert "of 2 seeds" in spoken(page, "response: PSNR-Y minus")

    def test_nothing_is_complete_yet(self, tmp_path: Path) -> None:
        missing = [(name, seed) for name in FEW for seed in (1, 2, 3)]
        out = write_results(tmp_path / "out", FEW, missing=missing, curves=False)
        page = make(tmp_path / "x.html", out)
        assert "Missing; all means, pairs and ranks are of what is complete: 9" in page.text
        assert "No ranking on Set5" in page.text
        assert page.figures() == []

    def test_raw_weights(self, tmp_path: Path) -> None:
        out = write_results(tmp_path / "out", FEW)
        before = open_studies([(None, out)])[0][0].scores["none"].mean[-1]
        content = json.loads((out / "results.json").read_text())
        for run in content["runs"]:
            run["weights"] = run["weights"].replace("_E.pth", "_G.pth")
        change(out, weights="G", runs=content["runs"])
        (study_,), _ = open_studies([(None, out)])
        assert study_.scores["none"].mean[-1] == pytest.approx(before - 0.2)

    def test_a_control_of_equal_time_has_no_difference_by_iteration(self, tmp_path: Path) -> None:
        out = write_results(tmp_path / "out", FEW)
        content = json.loads((out / "results.json").read_text())
        content["variants"][2] |= {"equal_time": "response", "total_iter": STEPS + 500}
        change(out, variants=content["variants"])
        page = make(tmp_path / "x.html", out)
        assert "so that no iteration of theirs is to be compared with one of none: feature." in page.text
        assert not any("feature: PSNR-Y minus" in (label or "") for label in page.figures())

    @pytest.mark.parametrize("lost", [False, True])
    def test_one_test_in_each_run_makes_no_curve(self, tmp_path: Path, lost: bool) -> None:
        """The note stands alone, also where a run has none at all, or is on its way."""
        out = write_results(tmp_path / "out", FEW, missing=[("feature", 3)] if lost else ())
        keep_tests(out, lambda _, step: step in (500, STEPS) if lost else step == STEPS)
        for file in out.glob("runs/*/*/metrics.jsonl"):  # a test of each kind of weights
            file.write_text("".join(file.read_text().splitlines(keepends=True)[-2:]))
        if lost:
            (out / "runs/response/seed_1/metrics.jsonl").unlink()
        (study_,), _ = open_studies([(None, out)])
        assert (study_.scores, study_.differences, study_.notes) == ({}, {}, [NO_LINE])
        page = make(tmp_path / "x.html", out)
        assert f"Curves {NO_LINE} Variants" in page.text
        assert len(page.figures()) == 1  # the differences

    def test_two_tests_make_a_curve(self, tmp_path: Path) -> None:
        out = write_results(tmp_path / "out", FEW)
        keep_tests(out, lambda name, step: step == STEPS or (step == 100 and name == "response"))
        (study_,), _ = open_studies([(None, out)])
        assert [len(band.steps) for band in study_.scores.values()] == [1, 2, 1]
        assert study_.notes == []

    def test_the_reference_alone_and_one_seed(self, tmp_path: Path) -> None:
        page = make(tmp_path / "x.html", write_results(tmp_path / "alone", {"none": 0.0}))
        assert [(label or "").partition(",")[0] for label in page.figures()] == ["none: PSNR-Y while training"]
        page = make(tmp_path / "y.html", write_results(tmp_path / "single", FEW, (7,)))
        assert "with seed 7: one seed tells nothing of another." in page.text
        assert "No ranking on Set5: only seed 7 is shared by all, and one seed ranks nothing." in page.text


class TestBadInput:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"format": 2}', "its format is 2, this swinlet reads 1"),
            ('{"format": 1, "study": "x', "it is torn, or not JSON"),
            ("", "it is torn, or not JSON"),
            ("[]", "1 values are not as expected, the first is 'all of it'"),
            ('{"testsets": [], "models": []}', "values are not as expected, the first is 'study'"),
        ],
    )
    def test_no_results(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/results.json").write_text(content)
        for word in ("out", "out/results.json"):
            result = call(tmp_path / "x.html", tmp_path / word)
            assert result.exit_code == 2
            assert "Traceback" not in result.output
            assert "results.json: no results of a study: " in result.stderr
            assert message in result.stderr
            assert "name a study's out folder, or write them with swinlet study --results-only" in result.stderr
            assert not (tmp_path / "x.html").exists()

    def test_a_study_that_has_no_results_yet(self, tmp_path: Path) -> None:
        (tmp_path / "out/runs/none/seed_1").mkdir(parents=True)
        result = call(tmp_path / "x.html", tmp_path / "out")
        assert result.exit_code == 2
        assert "results.json: no results of a study: No such file or directory" in result.stderr

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("reference",), "nobody"),
            (("runs", 0, "variant"), "nobody"),
            (("testsets", 0, "variants", 1, "variant"), "nobody"),
            (("variants", 1, "name"), "none"),
            (("testsets", 0, "variants", 1, "difference", "values"), [0.1]),
            (("testsets", 0, "variants", 1, "difference", "mean"), 1e300),
            (("testsets", 0, "variants", 1, "difference", "mean"), float("nan")),
            (("testsets", 0, "variants", 1, "difference", "share", "share"), 1e307),
            (("comparisons",), 10**400),
        ],
    )
    def test_values_that_do_not_agree(self, tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
        out = write_results(tmp_path / "out", FEW, curves=False)
        content = json.loads((out / "results.json").read_text())
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (out / "results.json").write_text(json.dumps(content))
        studies, (problem,) = open_studies([(None, out)])
        assert studies == []
        assert re.search(r"no results of a study: \d+ values are not as expected", problem)

    def test_one_of_two(self, tmp_path: Path) -> None:
        good = write_results(tmp_path / "good", FEW, curves=False)
        (tmp_path / "bad.json").write_text("{")
        result = call(tmp_path / "x.html", tmp_path / "bad.json", good)
        assert result.exit_code == 2
        page = Page((tmp_path / "x.html").read_text())
        assert "Missing on this page: " in page.text
        assert "bad.json: no results of a study: it is torn, or not JSON" in page.text
        assert spoken(page, "Difference to none on Set5")

    def test_everything_is_text(self, tmp_path: Path) -> None:
        bad = "<img src=x onerror=alert(1)>&amp;\"'"
        effects = {bad: 0.0, f"{bad}{{{{ 7 * 7 }}}}": 0.1, "$x_1$ \\frac": 0.2}
        out = write_results(tmp_path / "out", effects, sets=(bad,), missing=[(bad, 3)], problems=(f"{bad}\u202e",))
        content = json.loads((out / "results.json").read_text())
        content["runs"][0] |= {"command": f"</pre>{bad}", "hosts": [bad], "options_sha256": bad}
        content["variants"][0]["changes"] = [bad]
        content["testsets"][0] |= {"low_resolution": bad}
        content["testsets"][0]["variants"][1]["verdict"] = bad
        content["testsets"][0]["teacher"]["label"] = bad
        change(
            out,
            **{key: content[key] for key in ("runs", "variants", "testsets")},
            study=f"x/{bad}.json",
            study_sha256=bad,
            provenance={bad: {"deep": [bad]}, "command": "\x1b[31m"},
        )
        page = make(tmp_path / "x.html", out, f"<b onclick>&={out / 'results.json'}")
        assert "Study <b onclick>&" in page.text
        assert not page.all("b")
        assert page.all("img") == []
        assert len(page.all("script")) == 1
        assert not any(name.startswith("on") for tag, attributes in page.tags for name in attributes if tag != "button")
        assert page.text.count(bad) > 40
        assert f"{bad}{{{{ 7 * 7 }}}}" in page.text
        assert not {"\u202e", "\x1b"} & set((tmp_path / "x.html").read_text())

    def test_numbers_of_strangers_in_curves(self, tmp_path: Path) -> None:
        out = write_results(tmp_path / "out", FEW)
        for seed, value in ((1, 1e308), (2, -1e308), (3, 1e308)):
            record = {"type": "test", "set": "test", "step": 100, "weights": "E", "mean": {"psnr_y": value}}
            (out / f"runs/response/seed_{seed}/metrics.jsonl").write_text(json.dumps(record))
        page = make(tmp_path / "x.html", out)
        assert "or no tests in it: response, seed 1; response, seed 2; response, seed 3." in page.text

    @pytest.mark.parametrize("folder", ["a" * 5000, "x\0y", "", "../" * 50, "/dev/stdin"])
    def test_folders_of_strangers(self, tmp_path: Path, folder: str) -> None:
        out = write_results(tmp_path / "out", FEW, curves=False)
        content = json.loads((out / "results.json").read_text())
        for run in content["runs"]:
            run["folder"] = folder
        change(out, runs=content["runs"])
        (study_,), _ = open_studies([(None, out)])
        assert study_.notes == [
            "No curves: no run has its metrics.jsonl any more, or no tests in it. Scores are those of the results."
        ]


class TestParts:
    def test_bands_by_hand(self) -> None:
        found = band({1: Curve((10, 20, 30), (1.0, 2.0, 3.0)), 4: Curve((20, 30, 40), (4.0, 3.5, 9.0))})
        assert found is not None
        assert (found.seeds, found.steps) == ((1, 4), (20, 30))
        assert (found.mean, found.low, found.high) == ((3.0, 3.25), (2.0, 3.0), (4.0, 3.5))
        assert found.extent(25) == (3.0, 3.5)
        assert found.extent(99) == (3.0, 3.5)
        assert band({}) is None
        assert band({1: Curve((1,), (1.0,)), 2: Curve((2,), (1.0,))}) is None

    def test_pairs_by_hand(self) -> None:
        ours = {1: Curve((10, 20), (1.0, 2.0)), 2: Curve((10, 20), (3.0, 5.0)), 3: Curve((10,), (0.0,))}
        theirs = {2: Curve((10, 20), (1.0, 1.0)), 1: Curve((10, 20, 30), (1.0, 1.0, 1.0))}
        found = paired_band(ours, theirs)
        assert found is not None
        assert (found.seeds, found.steps, found.mean) == ((1, 2), (10, 20), (1.0, 2.5))
        assert paired_band({3: ours[3]}, theirs) is None

    def test_limits(self) -> None:
        near = [(0.0, 0.1), (-0.1, 0.1), (-0.05, 0.2)]
        assert common_limits(near) == pytest.approx((-0.118, 0.218))
        assert common_limits([*near, (-9.0, -8.0)], 8) == pytest.approx((-0.118, 0.218))
        assert common_limits([*near, (-0.7, 0.0)], 8) == pytest.approx((-0.754, 0.254))
        assert common_limits([(2.0, 2.0)]) == pytest.approx((1.98, 2.02))
        assert common_limits([(0.0, 0.0)]) == (-0.01, 0.01)

    def test_what_lies_far_off_is_told_by_an_arrow(self) -> None:
        rows = [Difference(f"v{i}", "", "--better", (0.1, 0.12), 0.11, (0.05, 0.2)) for i in range(4)]
        far = Difference("far", "", "--worse", (-9.0, -9.1), -9.05, (-9.2, -9.0))
        found = forest("x", "dB", [*rows, far], ("teacher", 0.9))
        svg = found.svg
        assert found.has_arrows
        assert forest("x", "dB", [*rows, far]).has_arrows
        assert forest("x", "dB", rows, ("teacher", 0.9)).has_arrows
        assert not forest("x", "dB", rows).has_arrows
        assert len(re.findall(r"<use [^>]*var\(--worse\)", svg)) == 1  # neither bar nor dots nor diamond
        assert "teacher \N{RIGHTWARDS ARROW}" in svg
        near = forest("x", "dB", rows, ("teacher", 0.3))
        assert "\N{RIGHTWARDS ARROW}" not in near.svg
        assert not near.has_arrows
        assert near == forest("x", "dB", rows, ("teacher", 0.3))

    @pytest.mark.parametrize("size", [(2.5, 1.75), (4.6, 3.1)])
    @pytest.mark.parametrize("step", [0, 1, STEPS])
    def test_a_dot_at_the_edge_is_whole(self, size: tuple[float, float], step: int) -> None:
        """And, at the right, the end of a line, which is less wide."""
        line = Series("line", "--model-0", (0, STEPS), (1.0, 2.0))
        dot = Series("dot", "--model-1", (step,), (1.5,))
        svg = panel("x", [line, dot], ((0, STEPS), (0.9, 2.1)), size=size, zero=False)
        (x,) = re.findall(r'<use [^>]*x="([\d.]+)"[^>]*var\(--model-1\)', svg)
        boxes = re.findall(r'<clipPath[^>]*>\s*<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
        assert boxes
        for left, width in boxes:
            assert float(left) + 2.5 <= float(x) <= float(left) + float(width) - 2.5  # half a dot of 5 units
        assert re.findall(">([^<]*)</text>", svg)[:5] == ["0", "0.5k", "1k", "1.5k", "2k"]


@pytest.mark.parametrize("width", [1280, 400])
def test_long_names_wrap(browser: webdriver.Chrome, tmp_path: Path, width: int) -> None:
    """Of test sets, variants and the study, without a space in them."""
    effects = {LONG + name: effect for name, effect in FEW.items()}
    out = write_results(tmp_path / "out", effects, sets=(LONG,), missing=[(f"{LONG}none", 3)])
    make(tmp_path / "x.html", f"{LONG}={out}", write_results(tmp_path / "other", FEW, curves=False))
    view = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
    browser.get((tmp_path / "x.html").as_uri())
    look(browser, "document.querySelectorAll('details').forEach(e => e.open = true)")
    assert look(browser, "return document.documentElement.scrollWidth") <= width
    outside = look(
        browser,
        """
        const text = e => { const range = document.createRange(); range.selectNodeContents(e); return range; };
        const sticks = e => text(e).getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right + 1;
        return [...document.querySelectorAll('nav a, h1, h2, h3, p, li, figcaption')].filter(sticks)
            .concat([...document.querySelectorAll('tbody th')].filter(e => e.scrollWidth > e.clientWidth))
            .map(e => e.tagName + ' ' + e.textContent.slice(0, 30));
        """,
    )
    assert outside == []


@pytest.mark.parametrize("width", [1280, 390])
class TestInABrowser:
    @pytest.fixture(autouse=True)
    def _load(self, browser: webdriver.Chrome, page_file: Path, width: int) -> None:
        view = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
        browser.get(page_file.as_uri())
        look(browser, "document.querySelectorAll('details').forEach(e => e.open = true)")

    def test_nothing_sticks_out_or_complains(self, browser: webdriver.Chrome, width: int) -> None:
        assert look(browser, "return document.documentElement.scrollWidth") <= width
        assert browser.get_log("browser") == []
        texts = look(
            browser,
            """
            return [...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect())
                .filter(b => b.left < 0 || b.right > innerWidth).length;
            """,
        )
        assert texts == 0

    def test_nothing_overlaps(self, browser: webdriver.Chrome) -> None:
        overlaps = look(
            browser,
            """
            const items = [...document.querySelectorAll('svg, h2, h3, p, li, caption, figcaption, pre, summary, nav')];
            const boxes = items.map(e => e.getBoundingClientRect());
            const meet = (a, b) => a.width && b.width && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
            const name = e => e.tagName + ' ' + (e.getAttribute('aria-label') || e.textContent).slice(0, 30);
            return items.flatMap((a, i) => items.slice(i + 1).map((b, k) => [b, boxes[i + 1 + k]])
                .filter(([b, box]) => meet(boxes[i], box)).map(([b]) => name(a) + ' meets ' + name(b)));
            """,
        )
        assert overlaps == []

    def test_texts_of_a_figure_keep_apart(self, browser: webdriver.Chrome) -> None:
        overlaps = look(
            browser,
            """
            return [...document.querySelectorAll('svg')].flatMap(svg => {
                const texts = [...svg.querySelectorAll('text')];
                const boxes = texts.map(t => t.getBoundingClientRect());
                return texts.flatMap((t, i) => texts.slice(i + 1).filter((o, k) => {
                    const [a, b] = [boxes[i], boxes[i + 1 + k]];
                    return Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0 &&
                        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
                }).map(o => t.textContent + ' meets ' + o.textContent));
            });
            """,
        )
        assert overlaps == []

    def test_figures_are_large_enough_to_read(self, browser: webdriver.Chrome) -> None:
        sizes = look(
            browser, "return [...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
        )
        assert min(sizes) > 9
