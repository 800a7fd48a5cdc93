"""What is measured: networks, sizes, batches, and how much work that is."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.settings import Settings
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.models.select_network import define_G

Kind = Literal["student", "teacher", "step"]

NETWORKS: dict[str, dict[str, Any]] = {
    "student": {"net_type": "swinir_student"},
    "teacher": {"net_type": "swinir"},
}
_TINY: dict[str, dict[str, Any]] = {
    "student": {"net_type": "swinir_student", "embed_dim": 12, "depths": [2], "num_heads": [2]},
    "teacher": {"net_type": "swinir", "embed_dim": 16, "depths": [2], "num_heads": [2]},
}


@dataclass(frozen=True)
class Workload:
    """A forward pass of one network, or a feature-distillation step, on square LR images.

    Attributes:
        side: of the LR images in pixels.
        tiny: with networks that only test the benchmark.
    """

    kind: Kind
    side: int
    batch: int
    tiny: bool = False

    @property
    def name(self) -> str:
        """student-128, step-32-batch8."""
        return f"{self.kind}-{self.side}" + (f"-batch{self.batch}" if self.batch > 1 else "")

    def section(self, network: str) -> dict[str, Any]:
        """The options of "student" or "teacher"."""
        return (_TINY if self.tiny else NETWORKS)[network]

    def network(self, network: str | None = None) -> SwinIR:
        """The network with the same first weights at every call, on the CPU, in training mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return define_G(self.section(network or self.kind))

    def images(self, scale: int = 1) -> Tensor:
        """Noise (batch, 3, side * scale, side * scale) in [0, 1], the same at every call."""
        shape = (self.batch, 3, self.side * scale, self.side * scale)
        return torch.rand(shape, generator=torch.Generator().manual_seed(scale))

    def gflop(self) -> float:
        """Work in GFLOP, counted without computing: matrix products and convolutions of the networks as written.

        A way to compute that needs fewer is credited with these all the same. Additions, norms and softmax count
        nothing, nor does the optimiser.
        """
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            x = torch.empty(self.batch, 3, self.side, self.side)
            if self.kind == "step":
                _step(self.network("student"), self.network("teacher"), x)
            else:
                with torch.no_grad():
                    self.network()(x)
        return counter.get_total_flops() / 1e9


def workloads(settings: Settings) -> list[Workload]:
    """Those of the settings, in the order in which they are measured."""
    found = [Workload(*entry, tiny=settings.sizes == "tiny") for entry in _TABLE[settings.line_up, settings.sizes]]
    return [workload for workload in found if settings.wants(workload.name)]


def memory_workloads(settings: Settings) -> list[Workload]:
    """Those whose peak memory is measured."""
    if settings.sizes == "quick" or not settings.wants("memory"):
        return []
    tiny = settings.sizes == "tiny"
    return [Workload("student", 96 if tiny else 256, 1, tiny)]


_TABLE: dict[tuple[str, str], list[tuple[Kind, int, int]]] = {
    ("cpu", "full"): [
        *[(kind, side, 1) for kind in ("student", "teacher") for side in (64, 128, 256)],
        *[("step", 32, batch) for batch in (4, 8)],
    ],
    ("cpu", "quick"): [("student", 64, 1), ("step", 32, 1)],
    ("cuda", "full"): [
        *[(kind, side, 1) for kind in ("student", "teacher") for side in (64, 128, 256)],
        *[(kind, side, 32) for kind in ("student", "teacher", "step") for side in (24, 32)],
    ],
    ("cuda", "quick"): [("student", 64, 1), ("step", 32, 32)],
    ("cpu", "tiny"): [("student", 16, 1), ("teacher", 16, 1), ("step", 8, 2)],
    ("cuda", "tiny"): [("student", 16, 1), ("student", 8, 2), ("step", 8, 2)],
}


def _step(student: SwinIR, teacher: SwinIR, x: Tensor) -> None:
    with torch.no_grad():
        image, features = teacher.eval()(x, return_features=True)
    estimate, own = student(x, return_features=True)
    taught = features[: len(own)]
    translated = Translator([(tokens.shape[2], own[0].shape[2]) for tokens in taught])(taught)
    torch.stack(
        [(estimate - image).sum(), *((a - b).sum() for a, b in zip(own, translated, strict=True))]
    ).sum().backward()
