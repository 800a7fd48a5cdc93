"""The student: SwinIR with 1/12 of the teacher's parameters."""

from typing import Any

from swinlet.models.network_swinir import SwinIR
from swinlet.options.names import PRESETS


class SwinIRStudent(SwinIR):
    """SwinIR 60 wide with four RSTBs of four blocks (988,959 parameters at x4); any argument can be overridden."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**(PRESETS["swinir_student"] | config))
