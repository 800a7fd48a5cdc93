"""Who competes: this project's ways to compute, the reference, other engines; and who cannot, and why."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks import engines, ours, paths, reference
from benchmarks.measure import Call
from benchmarks.settings import Settings
from benchmarks.workloads import Workload
from swinlet.utils.device import has_bf16_instructions

NO_BF16 = "this processor has no bf16 instructions; --force-bf16 measures it all the same"


@dataclass(frozen=True)
class Contestant:
    """One way to compute a workload, in one precision.

    Attributes:
        prepare: builds what the workload needs, and returns the call to be timed.
        missing: why it cannot compete here; ``prepare`` is not called then.
        optional: where ``prepare`` fails, that is noted and the others go on.
    """

    name: str
    precision: str
    prepare: Callable[[], Call]
    missing: str | None = None
    optional: bool = False

    @property
    def label(self) -> str:
        """reference fp32."""
        return f"{self.name} {self.precision}"


def line_up(settings: Settings, workload: Workload) -> list[Contestant]:
    """All for a workload, those that cannot compete too."""
    return [_reference(settings, workload), *(_steps if workload.kind == "step" else _forwards)(settings, workload)]


def lacks_bf16(settings: Settings) -> str | None:
    """Why bf16 is not measured; None: it is."""
    on_cpu = torch.device(settings.device).type == "cpu"
    return NO_BF16 if on_cpu and not (has_bf16_instructions() or settings.force_bf16) else None


def _reference(settings: Settings, workload: Workload) -> Contestant:
    make = reference.step_call if workload.kind == "step" else reference.forward_call
    path, device = str(settings.reference), torch.device(settings.device)
    missing = None if settings.reference else "no --reference FILE was given"
    return Contestant("reference", "fp32", partial(make, path, workload, device), missing)


def _forwards(settings: Settings, workload: Workload) -> Iterator[Contestant]:
    device = torch.device(settings.device)
    for precision in ("fp32", "bf16"):
        lacking = lacks_bf16(settings) if precision == "bf16" else None
        for way in ours.ways(settings):
            prepare = partial(ours.forward_call, workload, way, precision, device)
            missing = lacking or way.closed(settings, workload)
            yield Contestant(way.name, precision, prepare, missing, optional=way.own or way.compile is not None)
        for engine in engines.engines(settings):
            if precision == "bf16" and not engine.bf16:
                continue
            prepare = partial(engine.prepare, workload, precision, settings.scratch)
            yield Contestant(engine.name, precision, prepare, lacking or engine.missing, optional=True)


def _steps(settings: Settings, workload: Workload) -> Iterator[Contestant]:
    device = torch.device(settings.device)
    for precision, train in paths.step_precisions().items():
        lacking = lacks_bf16(settings) if precision != "fp32" else None
        for way in ours.ways(settings):
            if way.forward_only:
                continue
            prepare = partial(ours.step_call, workload, way, train, device)
            missing = lacking or way.closed(settings, workload)
            yield Contestant(way.name, precision, prepare, missing, optional=way.own or way.compile is not None)
