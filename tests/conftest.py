"""Shared fixtures: where the reference values and photographs are."""

import os
from pathlib import Path

# Set before torch is imported, and inherited by the processes that tests start: networks this small lose time
# with several threads, and much of it where other work runs on the machine.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden values and photographs; tests that need it skip where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"needs the reference data in {SHARED}")
    return SHARED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With SWINLET_NO_SKIPS=1 (continuous integration) a skipped test fails the run."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and os.environ.get("SWINLET_NO_SKIPS") == "1":
        terminalreporter.write_line(f"{len(skipped)} tests skipped, which SWINLET_NO_SKIPS=1 forbids", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """See pytest_terminal_summary."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("SWINLET_NO_SKIPS") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
