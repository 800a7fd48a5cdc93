"""The student: SwinIR with 1/12 of the teacher's parameters."""

from typing import Any

from swinlet.models.network_swinir import SwinIR

STUDENT_PRESET: dict[str, Any] = {"embed_dim": 60, "depths": (4, 4, 4, 4), "num_heads": (6, 6, 6, 6)}


class SwinIRStudent(SwinIR):
    """SwinIR 60 wide with four RSTBs of four blocks (988,959 parameters at x4); any argument can be overridden."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**(STUDENT_PRESET | config))
