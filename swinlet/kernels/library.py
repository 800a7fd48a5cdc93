"""Which build of the native kernels serves this processor, and whether it is to be used.

The kernels are plain C functions in shared libraries that ``pip install`` compiles where it finds a C++ compiler, one
for each instruction set (``native/interface.h``); ctypes calls them, so they depend on no version of torch or Python.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from swinlet.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Generator

LOGGER = logging.getLogger("swinlet")

PathChoice = Literal["torch", "native", "auto"]
Level = Literal["generic", "avx2", "avx512", "avx512_bf16"]

PATH_VARIABLE, LEVEL_VARIABLE = "SWINLET_KERNELS", "SWINLET_KERNELS_LEVEL"
_CHOICES: tuple[PathChoice, ...] = get_args(PathChoice)
_LEVELS: tuple[Level, ...] = get_args(Level)


class Shape(ctypes.Structure):
    """``SwinletShape`` of ``interface.h``."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("images", "height", "width")),
        *(
            (name, ctypes.c_int32)
            for name in ("channels", "heads", "window", "shift", "hidden", "again", "half", "threads")
        ),
    ]


class Convolution(ctypes.Structure):
    """``SwinletConvolution`` of ``interface.h``."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("images", "height", "width")),
        *((name, ctypes.c_int32) for name in ("inputs", "outputs", "threads")),
    ]


class Arrays(ctypes.Structure):
    """``SwinletWeights`` and ``SwinletGradients`` of ``interface.h``: pointers in the order of ``FoldedWeights``."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in (
            "qkv_weight",
            "qkv_bias",
            "bias",
            "proj_weight",
            "proj_bias",
            "fc1_weight",
            "fc1_bias",
            "fc2_weight",
            "fc2_bias",
        )
    ]


@dataclass(frozen=True)
class Status:
    """Which path computes transformer blocks and convolutions on the CPU, and why.

    Attributes:
        path: "native" or "torch".
        level: instruction set of the native build; None where there is none.
        reason: in words.
    """

    path: Literal["native", "torch"]
    level: Level | None
    reason: str


class Library:
    """A loaded build.

    Attributes:
        level: its instruction set.
        has_bf16: whether it has instructions for products of bf16 values; without them float32 is as fast, and exact.
    """

    def __init__(self, level: Level, path: Path) -> None:
        self.level: Level = level
        self.has_bf16 = level == "avx512_bf16"
        library = ctypes.CDLL(str(path))
        pointer, shape = ctypes.c_void_p, ctypes.POINTER(Shape)
        self.packed_size = library.swinlet_packed_size
        self.packed_size.argtypes, self.packed_size.restype = [shape], ctypes.c_int64
        self.pack = library.swinlet_pack
        self.pack.argtypes, self.pack.restype = [shape, ctypes.POINTER(Arrays), pointer], None
        self.checksum = library.swinlet_checksum
        self.checksum.argtypes, self.checksum.restype = [pointer, ctypes.c_int64, ctypes.c_uint64], ctypes.c_uint64
        self.forward = library.swinlet_forward
        self.forward.argtypes, self.forward.restype = [shape, *[pointer] * 6], ctypes.c_int
        self.backward = library.swinlet_backward
        self.backward.argtypes = [shape, ctypes.POINTER(Arrays), *[pointer] * 3, ctypes.POINTER(Arrays), *[pointer] * 3]
        self.backward.restype = ctypes.c_int
        convolution = ctypes.POINTER(Convolution)
        self.packed_convolution_size = library.swinlet_packed_convolution_size
        self.packed_convolution_size.argtypes, self.packed_convolution_size.restype = [convolution], ctypes.c_int64
        self.pack_convolution = library.swinlet_pack_convolution
        self.pack_convolution.argtypes, self.pack_convolution.restype = [convolution, *[pointer] * 3], None
        self.convolve = library.swinlet_convolve
        self.convolve.argtypes, self.convolve.restype = [convolution, *[pointer] * 5], ctypes.c_int


_chosen: list[PathChoice] = []  # by using(), innermost last


@contextmanager
def using(path: PathChoice) -> Generator[None]:
    """Choose the path for blocks and convolutions on the CPU inside the ``with`` block, whatever SWINLET_KERNELS says.

    Args:
        path: "torch", "native" (an error where there is no native build), or "auto" (native where it can serve).

    Raises:
        OptionError: no such path, or there is no native build.
    """
    _check(path, "using()")
    _chosen.append(path)
    try:
        if path == "native":
            library()
        yield
    finally:
        _chosen.pop()


def _check(path: str, source: str) -> PathChoice:
    for choice in _CHOICES:
        if path == choice:
            return choice
    raise OptionError(f"{source}: {path!r} is none of {', '.join(_CHOICES)}")


def _wanted() -> PathChoice:
    return _chosen[-1] if _chosen else _check(os.environ.get(PATH_VARIABLE) or "auto", PATH_VARIABLE)


def library() -> Library | None:
    """The build to use, or None for the torch path.

    Raises:
        OptionError: SWINLET_KERNELS or SWINLET_KERNELS_LEVEL ask for what is not there.
    """
    wanted = _wanted()
    if wanted == "torch":
        return None
    found = _find(os.environ.get(LEVEL_VARIABLE, ""))
    if isinstance(found, str):
        if wanted == "native":
            raise OptionError(f"{PATH_VARIABLE}=native: {found}")
        return None
    return found


def status() -> Status:
    """The path in use.

    Raises:
        OptionError: as ``library``.
    """
    wanted, found = _wanted(), library()
    if found is not None:
        return Status("native", found.level, f"{PATH_VARIABLE} is {wanted}, and there is a build for {found.level}")
    if wanted == "torch":
        return Status("torch", None, f"{PATH_VARIABLE} is torch")
    reason = _find(os.environ.get(LEVEL_VARIABLE, ""))
    assert isinstance(reason, str)
    return Status("torch", None, reason)


@functools.cache
def _find(level: str) -> Library | str:
    """The best build for this processor, or that of ``level``; or why there is none."""
    if level and level not in _LEVELS:
        raise OptionError(f"{LEVEL_VARIABLE}: {level!r} is none of {', '.join(_LEVELS)}")
    files: dict[Level, Path] = {name: path for name in _LEVELS if (path := _file(name)) is not None}
    if "generic" not in files:
        return "the native kernels were not built: install a C++ compiler (GCC or Clang), then swinlet again"
    detect = ctypes.CDLL(str(files["generic"])).swinlet_processor_level
    detect.argtypes, detect.restype = [], ctypes.c_int
    possible: tuple[Level, ...] = _LEVELS[: detect() + 1]
    if level and level not in possible:
        raise OptionError(f"{LEVEL_VARIABLE}: this processor has no {level}, only {', '.join(possible)}")
    wanted: tuple[Level, ...] = tuple(name for name in possible if name in files and level in ("", name))
    for name in reversed(wanted):
        try:
            return Library(name, files[name])
        except (OSError, AttributeError) as error:
            return f"{files[name]} cannot be used ({error}): install swinlet again"
    return f"{LEVEL_VARIABLE}: there is no build for {level}: install swinlet again"


def _file(level: Level) -> Path | None:
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_{level}{suffix}")
        if path.is_file():
            return path
    return None


@functools.cache
def parallel() -> int | None:
    """Address of ``GOMP_parallel`` in the OpenMP runtime that torch has loaded: two pools of threads would fight."""
    try:
        function = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):  # TypeError: Windows wants a name
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
