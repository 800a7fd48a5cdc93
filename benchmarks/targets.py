"""What this project promises, beside what was measured."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """How many times as fast as ``base`` (for memory: how many times as much ``base`` takes) is promised at least."""

    name: str
    label: str
    base: str
    least: float


TARGETS = [
    Target("student-128", "native fp32", "reference fp32", 3.5),
    Target("student-256", "native fp32", "reference fp32", 4.0),
    Target("student-128", "native bf16", "reference fp32", 5.5),
    Target("student-256", "native bf16", "reference fp32", 6.0),
    Target("student-128", "native bf16", "openvino bf16", 1.5),
    Target("teacher-64", "native fp32", "reference fp32", 2.1),
    Target("teacher-64", "native bf16", "reference fp32", 3.5),
    Target("step-32-batch8", "native bf16 teacher", "reference fp32", 2.7),
    Target("step-32-batch8", "native bf16", "reference fp32", 3.0),
    Target("memory of student-256", "native fp32", "reference fp32", 2.0),
    Target("loading", "prepared", "whole", 300.0),
]


def reached(run: dict[str, Any], target: Target) -> float | None:
    """The ratio that one run found; None: not measured."""
    for measurement in run["measurements"]:
        for row in measurement["contestants"]:
            if (measurement["name"], row["label"]) == (target.name, target.label):
                ratio = row["times_as_fast_as"].get(target.base)
                return ratio["median"] if ratio else None
    if target.name == "loading":
        return run["loading"]["ratio_to_whole"][target.label] if run["loading"] else None
    for entry in run["memory"]:
        peaks = {peak["label"]: peak["mib"] for peak in entry["peaks"]}
        if target.name == f"memory of {entry['name']}" and peaks.get(target.base) and peaks.get(target.label):
            return peaks[target.base] / peaks[target.label]
    return None
