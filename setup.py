"""The native kernels: one shared library for each instruction set, none of them required.

Everything else about the package is in pyproject.toml. SWINLET_NATIVE=0 leaves the kernels out.
"""

import copy
import os
import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("swinlet/kernels/native")
FLAGS = [
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-g0",
]
LEVELS = {"generic": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"]
    LEVELS |= {"avx2": ["-mavx2", "-mfma"], "avx512": AVX512, "avx512_bf16": [*AVX512, "-mavx512bf16"]}


def extension(level: str, flags: list[str]) -> Extension:
    """A library that Python does not import but ctypes loads; where it cannot be compiled, pip goes on without it."""
    sources = ["block.cpp", *(["processor.cpp"] if level == "generic" else [])]
    return Extension(
        f"swinlet.kernels._{level}",
        sources=[str(NATIVE / source) for source in sources],
        depends=[str(path) for path in sorted(NATIVE.glob("*.h"))],
        extra_compile_args=[*FLAGS, *flags],
        language="c++",
        optional=True,
    )


class BuildApart(build_ext):
    """Object files of each library in a folder of its own: all are compiled from the same source, at the same time."""

    def build_extension(self, ext: Extension) -> None:
        """Build one library; called by several threads at once."""
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        super(BuildApart, own).build_extension(ext)


setup(
    cmdclass={"build_ext": BuildApart},
    ext_modules=[extension(*item) for item in LEVELS.items()] if os.environ.get("SWINLET_NATIVE") != "0" else [],
    options={"build_ext": {"parallel": os.cpu_count()}},
)
