"""Trainings that are killed lose nothing: tests/soak.py, briefly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_eight_instants_and_resumed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--kills", "8", "--seed", "1", "--out", str(tmp_path / "soak")]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "8 kills" in answer.stdout
    assert "equal bit for bit" in answer.stdout
    assert "lost: nothing" in answer.stdout
