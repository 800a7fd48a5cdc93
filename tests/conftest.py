"""Shared fixtures: where the reference values and photographs are."""

import os
import random
import shutil
import signal
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

# Set before torch is imported, and inherited by the processes that tests start: networks this small lose time
# with several threads, and much of it where other work runs on the machine.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options as ChromeOptions
from selenium.webdriver.chrome.service import Service

from swinlet import kernels
from swinlet.kernels.library import PathChoice
from swinlet.models.select_network import define_G
from tests.fuzz import SOAK, TRIED
from tests.native import levels, needs_native
from tests.small_run import TEACHER

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(__file__).resolve().parents[2] / "shared"


def _seed(name: str) -> None:
    """Random numbers are the same in every run, whichever tests ran before: each test and fixture has its own."""
    seed = zlib.crc32(name.encode())
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """What a module makes when it is imported."""
    _seed(collector.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> None:
    """See ``_seed``."""
    _seed(fixturedef.argname)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """See ``_seed``."""
    _seed(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A seed for the random profile, before hypothesis and other processes (pytest-xdist) look for one."""
    if config.getoption("--hypothesis-profile") == SOAK and config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


def pytest_report_header(config: pytest.Config) -> str | None:
    """How to try the cases of a random run once more."""
    seed = config.getoption("--hypothesis-seed")
    return None if seed is None else f"random cases; the same once more: --hypothesis-seed={seed}"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images of tests, and of the processes that they start, stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWINLET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def hanging_up_counts() -> Iterator[None]:
    """SIGHUP as a terminal's processes know it, where the tests are run under nohup, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden values and photographs; tests that need it skip where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"needs the reference data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of the demo's photographs: train/ and test/HR."""
    folder = tmp_path_factory.mktemp("photos")
    crops = {
        "train/coffee.png": (100, 100, 180, 164),
        "train/china.jpg": (200, 150, 264, 230),
        "train/rocket.jpg": (250, 200, 320, 270),
        "test/HR/chelsea.png": (120, 80, 171, 128),
    }
    for name, box in crops.items():
        source = ROOT / "demo" / "images" / name.replace("/HR", "")
        target = (folder / name).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(source).convert("RGB").crop(box).save(target)
    return folder


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save({"params_ema": define_G(TEACHER | {"window_size": 4}).state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium, which keeps its console and its requests; the tests that need it skip where it is absent."""
    program, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = program
    flags = ["headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"]
    flags += ["disable-component-update", "disable-sync", "disable-dev-shm-usage"]
    for flag in [*flags, f"user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


NOT_PERMITTED = "not permitted here: "
"""What the reason of a skip begins with where the system, a container without rights for instance, forbids a test."""


def _forbidden_skips(reporter: pytest.TerminalReporter) -> int:
    """Tests skipped though SWINLET_NO_SKIPS=1 wants all that this system permits: nothing may be missing here."""
    if os.environ.get("SWINLET_NO_SKIPS") != "1":
        return 0
    return sum(NOT_PERMITTED not in str(report.longrepr) for report in reporter.stats.get("skipped", []))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has shown is sent between processes (pytest-xdist) as UTF-8, whatever it is."""
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    return report


def pytest_testnodedown(node: Any) -> None:
    """Add up what the fuzzers of each process (pytest-xdist) have tried."""
    for what, outcomes in getattr(node, "workeroutput", {}).get("tried", {}).items():
        TRIED[what].update(outcomes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many cases the fuzzers tried; with SWINLET_NO_SKIPS=1 (continuous integration), that skipped tests fail."""
    for what, outcomes in sorted(TRIED.items()):
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
        terminalreporter.write_line(f"tried: {what}: {counts}")
    if skipped := _forbidden_skips(terminalreporter):
        terminalreporter.write_line(f"{skipped} tests skipped, which SWINLET_NO_SKIPS=1 forbids", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """See pytest_terminal_summary and pytest_testnodedown."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = {what: dict(outcomes) for what, outcomes in TRIED.items()}
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and _forbidden_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(params=levels())
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each build of the native kernels, in use."""
    monkeypatch.setenv("SWINLET_KERNELS_LEVEL", request.param)
    with kernels.using("native"):
        yield request.param


@pytest.fixture(scope="module", params=["torch", "native"])
def path(request: pytest.FixtureRequest) -> Iterator[PathChoice]:
    """Each way to compute, in use; a module that takes it is run in both."""
    if request.param == "native":
        needs_native()
    with kernels.using(request.param):
        yield request.param
