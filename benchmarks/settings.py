"""What a run of the benchmark was asked for; handed to its processes as JSON."""

import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from typing import Literal

Size = Literal["full", "quick", "tiny"]


@dataclass(frozen=True)
class Settings:
    """One request.

    Attributes:
        device: torch's name.
        line_up: whose contestants and workloads: those for a CPU or for a GPU.
        sizes: all workloads, the smallest ones, or the smallest ones of tiny networks (a test of the benchmark).
        reference: the official network_swinir.py.
        only: patterns (``student-*``) of the measurements wanted; none: all.
        seconds: about how long the timed rounds of one workload may take.
        repeats: the most rounds.
        force_bf16: measure bf16 on a processor without instructions for it.
        compile: measure ``torch.compile``.
        scratch: folder for what the processes share.
    """

    scratch: str
    device: str = "cpu"
    line_up: Literal["cpu", "cuda"] = "cpu"
    sizes: Size = "full"
    reference: str | None = None
    only: tuple[str, ...] = ()
    seconds: float = 15.0
    repeats: int = 20
    force_bf16: bool = False
    compile: bool = True

    def wants(self, measurement: str) -> bool:
        """Whether a measurement of this name was asked for."""
        return not self.only or any(fnmatch(measurement, pattern) for pattern in self.only)

    def to_json(self) -> str:
        """For a process's command line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Settings":
        """The inverse of ``to_json``."""
        fields = json.loads(text)
        return Settings(**fields | {"only": tuple(fields["only"])})
