"""For tests of the native kernels."""

import pytest

from swinlet import kernels


def needs_native() -> None:
    """Skip where they were not built."""
    with kernels.using("auto"):
        status = kernels.status()
    if status.path != "native":
        pytest.skip(f"needs the native kernels: {status.reason}")
