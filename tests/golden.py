"""Reading the reference values of ../shared/golden."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

# The names stand here, not read from the folder, so that a missing file fails.
NETWORKS = [
    "classical_x8_mlp4",
    "denoise_gray",
    "jpeg_w7",
    "lightweight_x3",
    "realworld_x2_3conv",
    "realworld_x4",
    "student_v2_x4",
    "student_x4",
    "teacher_classical_x2",
]
TRAININGS = ["none", "response", "feature", "feature_v2"]


@dataclass
class Golden:
    """One file: its metadata, and its tensors by name."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]

    def json(self, key: str) -> Any:
        return json.loads(self.metadata[key])

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name begins with the prefix, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    @property
    def network_options(self) -> dict[str, Any]:
        return {"net_type": self.metadata["net_type"], **self.json("config")}


def read_golden(path: Path) -> Golden:
    with safe_open(path, "pt") as file:
        return Golden(file.metadata(), {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
