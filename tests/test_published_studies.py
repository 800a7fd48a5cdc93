"""docs/studies: files that can be run again, pages that say what their results.json holds."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swinlet.cli import app
from swinlet.evaluation.tables import piped
from swinlet.options import read_option_file
from swinlet.study.results import read_results
from swinlet.study.spec import load_study
from swinlet.study.tables import score_table, seed_table

STUDIES = Path(__file__).parents[1] / "docs/studies"
NAMES = sorted(path.stem for path in (STUDIES / "results").glob("*.json"))


def test_every_study_has_results() -> None:
    files = {path.stem for path in STUDIES.glob("*.json") if "variants" in read_option_file(path)}
    assert files == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_the_results_of_its_study(name: str) -> None:
    study, results = load_study(STUDIES / f"{name}.json"), read_results(STUDIES / f"results/{name}.json")
    assert results.study_sha256 == study.sha256
    assert results.base_sha256 == study.base_sha256
    assert [variant.name for variant in results.variants] == [variant.name for variant in study.variants]
    assert (results.seeds, results.missing, results.problems) == (study.seeds, (), ())
    page = (STUDIES / f"{name}.md").read_text(encoding="utf-8")
    for testset in results.testsets:
        assert piped(score_table(testset)) in page
        assert piped(seed_table(testset, results)) in page
    for kind in ("curves", "differences"):
        assert (STUDIES / f"{name}_{kind}.png").is_file()
        assert f"({name}_{kind}.png)" in page
    assert f"[{name}]({name}.md)" in (STUDIES / "README.md").read_text(encoding="utf-8")


def test_results_can_be_looked_at_without_the_runs(tmp_path: Path) -> None:
    """The two commands of docs/studies/README.md, one of which gives the page of study 2 its intervals."""
    results = STUDIES / "results/distillation.json"
    shown = CliRunner().invoke(app, ["report", str(results), "--out", str(tmp_path / "page.html")])
    assert shown.exit_code == 0, shown.output
    assert "No curves: " in (tmp_path / "page.html").read_text(encoding="utf-8")
    script = Path(__file__).parents[1] / "scripts/compare_variants.py"
    command = [sys.executable, str(script), str(results), "frequency", "frequency_truth"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Set5: frequency - frequency_truth: +0.161 (+0.023 to +0.299, 5 seeds)\n" in told.stdout
    wrong = subprocess.run([*command[:-1], "fourier"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "'fourier' is no variant of this study: 'none', 'response'," in wrong.stderr
    assert "0.161 dB on Set5 (0.023 to 0.299)" in (STUDIES / "distillation.md").read_text(encoding="utf-8")
