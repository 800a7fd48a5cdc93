"""The fuzzers themselves: every run of the default profile tries the same cases."""

import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests import conftest
from tests.fuzz import SOAK, checksum_of_cases

ROOT = Path(__file__).resolve().parents[1]

# The second process has another order of sets, other modules of the package, and did other things before.
OTHER_PROCESS = """
import random
import swinlet.options
from tests.fuzz import checksum_of_cases
random.seed()
print(checksum_of_cases())
"""


def test_every_run_tries_the_same_cases() -> None:
    assert settings().derandomize
    assert checksum_of_cases() == checksum_of_cases()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "CI": "true"}
    command = [sys.executable, "-c", OTHER_PROCESS]
    other = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == checksum_of_cases()


def test_the_soak_tries_others_and_more() -> None:
    soak = settings.get_profile(SOAK)
    assert not soak.derandomize
    assert soak.max_examples >= 10 * settings.get_profile("default").max_examples
    assert soak.print_blob


@pytest.mark.parametrize(("profile", "given_seed"), [(SOAK, None), (SOAK, "7"), (None, None), (None, "7")])
def test_the_seed_of_a_random_run_is_said(profile: str | None, given_seed: str | None) -> None:
    words = {"--hypothesis-profile": profile, "--hypothesis-seed": given_seed}
    option = SimpleNamespace(hypothesis_seed=given_seed)
    config: Any = SimpleNamespace(option=option, getoption=words.__getitem__)
    conftest.pytest_configure(config)
    assert (option.hypothesis_seed is None) == (profile is None and given_seed is None)
    assert given_seed in (None, option.hypothesis_seed)
    words["--hypothesis-seed"] = option.hypothesis_seed
    said = conftest.pytest_report_header(config)
    assert said is None if option.hypothesis_seed is None else f"--hypothesis-seed={option.hypothesis_seed}" in said


def draws() -> list[float]:
    return [random.random(), float(np.random.random()), float(torch.rand(()))]


@pytest.fixture(scope="module")
def drawn() -> list[float]:
    return draws()


def test_random_numbers_depend_on_no_other_test(drawn: list[float], request: pytest.FixtureRequest) -> None:
    before = draws()
    conftest.pytest_runtest_call(request.node)
    assert draws() == before
    conftest.pytest_fixture_setup(SimpleNamespace(argname="drawn"))  # pyright: ignore[reportArgumentType]
    assert draws() == drawn != before
