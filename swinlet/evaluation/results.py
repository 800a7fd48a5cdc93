"""What an evaluation finds: scores, costs, comparisons, and where they come from."""

from dataclasses import dataclass, field
from typing import Any, Literal

from swinlet.metrics import Scores
from swinlet.statistics import Comparison

PUBLISHED_BICUBIC, BICUBIC, INPUT = "bicubic", "bicubic of LR", "input"
"""Rows without a network: the protocol of papers; the LR image enlarged; at scale 1 the degraded image itself."""

TEACHER = "teacher"
RESERVED = frozenset({PUBLISHED_BICUBIC, BICUBIC, INPUT, TEACHER, "HR"})
"""Labels that no student gets."""

COMPARED = "psnr_y"
"""The metric of paired comparisons."""


@dataclass(frozen=True)
class Latency:
    """Time for one image.

    Attributes:
        milliseconds: the median.
        runs: how many were timed, after one that was not.
        size: side of the square input in LR pixels.
    """

    milliseconds: float
    runs: int
    size: int


@dataclass
class ModelCard:
    """A network that was scored.

    Attributes:
        net_type: of the option files, or the name of a foreign architecture.
        multiply_adds: for an output of 1280x720; None: of a foreign network, which nobody has counted.
        latency: None where it was not asked for.
    """

    label: str
    role: Literal["student", "teacher"]
    path: str
    sha256: str
    net_type: str
    in_chans: int
    parameters: int
    multiply_adds: int | None
    latency: Latency | None = None


@dataclass
class TestSetResult:
    """Scores on one test set.

    Attributes:
        name, folder: of the test set.
        low_resolution: where the LR images come from, for people.
        rows: one for each way to restore; their labels are ``PUBLISHED_BICUBIC``, ``BICUBIC`` or ``INPUT``, and those
            of the models.
        comparisons: of each pair of students, by ``COMPARED``.
    """

    __test__ = False  # not for pytest

    name: str
    folder: str
    low_resolution: str
    rows: list[Scores]
    comparisons: list[Comparison] = field(default_factory=list[Comparison])

    @property
    def images(self) -> list[str]:
        """Names of the images scored."""
        return list(self.rows[0].images) if self.rows else []


@dataclass
class Evaluation:
    """All that one call of ``swinlet evaluate`` found.

    Attributes:
        scale: of all models and test sets.
        sets: in the order given.
        models: students, then the teacher.
        problems: what could not be scored, and why, one message each.
        provenance: versions, device, settings, command line.
    """

    scale: int
    sets: list[TestSetResult]
    models: list[ModelCard]
    problems: list[str]
    provenance: dict[str, Any]

    def card(self, label: str) -> ModelCard | None:
        """The model of a row, None for bicubic rows."""
        return next((model for model in self.models if model.label == label), None)
