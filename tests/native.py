"""For tests of the native kernels."""

import pytest

from swinlet import kernels
from swinlet.errors import OptionError
from swinlet.kernels import library


def needs_native() -> None:
    """Skip where they were not built."""
    with kernels.using("auto"):
        status = kernels.status()
    if status.path != "native":
        pytest.skip(f"needs the native kernels: {status.reason}")


def levels() -> list[str]:
    """The builds that this processor can run."""
    found = []
    for level in ("generic", "avx2", "avx512", "avx512_bf16"):
        try:
            if not isinstance(library._find(level), str):
                found.append(level)
        except OptionError:
            break
    return found
