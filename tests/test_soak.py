"""Trainings that are killed lose nothing: tests/soak.py, briefly."""

import os
from pathlib import Path

import pytest

from tests.fork_server import Command


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_eight_instants_and_resumed(tmp_path: Path) -> None:
    with (tmp_path / "said").open("w+") as said:
        command = Command(
            *("-m", "tests.soak", "--kills", "8", "--seed", "1", "--out", str(tmp_path / "soak")), stdout=said
        )
        errors = command.communicate(timeout=300)
        said.seek(0)
        answer = said.read()
    assert command.returncode == 0, answer + errors
    assert "8 kills" in answer
    assert "equal bit for bit" in answer
    assert "lost: nothing" in answer
