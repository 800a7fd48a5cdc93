"""Shared fixtures: where the reference values and photographs are."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden values and photographs; tests that need it skip where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"needs the reference data in {SHARED}")
    return SHARED
