"""What all engines have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swinlet.errors import CheckpointError, SwinletError

Backend = Literal["onnx", "openvino"]
EnginePrecision = Literal["fp32", "bf16", "fp16"]

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, C, h, w) -> (N, C, h * scale, w * scale); the result is the caller's."""

_OUT_OF_MEMORY = ("bad allocation", "bad_alloc", "allocate memory")


@dataclass(frozen=True)
class Engine:
    """A network that an engine computes: call it with images.

    Attributes:
        name: of the engine.
        source: what it was loaded from, for messages.
        upscale: the scale.
        in_chans: channels of images, 1 or 3.
        window_size: side of the attention windows.
        bytes_per_pixel: memory it takes for each LR pixel, at most.
        run: computes.
    """

    name: str
    source: str
    upscale: int
    in_chans: int
    window_size: int
    bytes_per_pixel: int
    run: Run

    def __call__(self, image: Tensor) -> Tensor:
        """Restore float32 (N, in_chans, h, w) in [0, 1], on the CPU, any size from 1x1; several threads may call.

        Returns:
            float32 (N, in_chans, h * upscale, w * upscale), not clamped.

        Raises:
            CheckpointError: the engine cannot compute the model, or it does not compute such an image.
            MemoryError: there is too little of it.
        """
        n, _, h, w = image.shape
        try:
            restored = self.run(image.numpy())
        except Exception as error:  # the engines raise their own classes, and RuntimeError
            if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
                raise MemoryError(f"{self.name}: {first_line(error)}") from error
            raise CheckpointError(f"{self.source}: {self.name} cannot compute it: {first_line(error)}") from error
        expected = (n, self.in_chans, h * self.upscale, w * self.upscale)
        if restored.shape != expected or restored.dtype != np.float32:
            raise CheckpointError(
                f"{self.source}: makes {restored.dtype} {restored.shape} of an image {tuple(image.shape)}, not "
                f"float32 {expected}, as it says of itself"
            )
        return torch.from_numpy(restored)


def package(name: str) -> Any:
    """Import a package of the extra ``engines``.

    Raises:
        SwinletError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise SwinletError(f"the package {name} is missing: pip install 'swinlet[engines]'") from error


def first_line(error: Exception) -> str:
    """What an engine says, without its C++ places."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:300]
