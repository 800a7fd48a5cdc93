"""The results as text."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.targets import TARGETS, reached

_COLUMNS = ["", "ms (quartiles)", "it/s", "images/s", "GFLOP/s", "of peak"]


def as_text(results: dict[str, Any]) -> str:
    """A block for each run and workload, then the targets."""
    parts: list[str] = []
    for run in results["runs"]:
        parts.append(_heading(run))
        parts += [_measurement(entry) for entry in run["measurements"]]
        parts += [_memory(entry) for entry in run["memory"]]
        if run["loading"]:
            parts.append(_loading(run["loading"]))
        parts.append("\n".join(_absent(run)))
    if results["settings"]["line_up"] == "cpu" and results["settings"]["sizes"] != "tiny":
        parts.append(_targets(results["runs"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def quartiles(values: dict[str, float], digits: int | None = None) -> str:
    """Median, and the quartiles in brackets."""
    if digits is None:
        digits = 0 if values["median"] >= 100 else 1 if values["median"] >= 10 else 2
    median, low, high = (f"{values[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def _heading(run: dict[str, Any]) -> str:
    peaks = [
        f"{name} {value:.0f} GFLOP/s" if value else f"{name} not measured"
        for name, value in run["peak_gflop_per_second"].items()
    ]
    title = f"Allocator: {run['allocator']}; {run['threads']} threads; best torch.mm: {', '.join(peaks)}"
    return f"{title}\n{'=' * len(title)}"


def _measurement(entry: dict[str, Any]) -> str:
    bases = list(dict.fromkeys(base for row in entry["contestants"] for base in row["times_as_fast_as"]))
    rows = [[*_COLUMNS, *(f"x {base}" for base in bases)]]
    for row in entry["contestants"]:
        share = "-" if row["share_of_peak"] is None else f"{100 * row['share_of_peak']:.0f} %"
        milliseconds = {key: 1000 * value for key, value in row["seconds"].items()}
        iterations = row["per_second"] / entry["batch"]
        cells = [row["label"], quartiles(milliseconds), f"{iterations:.3g}", f"{row['per_second']:.3g}"]
        cells += [f"{row['gflop_per_second']:.0f}", share]
        ratios = row["times_as_fast_as"]
        cells += ["-" if base not in ratios or base == row["label"] else quartiles(ratios[base], 2) for base in bases]
        rows.append(cells)
    rounds = f"{entry['rounds']} round{'s' * (entry['rounds'] != 1)}"
    warmed = "" if entry["warmed_up"] else ", without a warm-up"
    return f"{entry['name']}: {entry['gflop']:.3g} GFLOP, {rounds}{warmed}\n{aligned(rows)}"


def _memory(entry: dict[str, Any]) -> str:
    if "absent" in entry:
        return f"memory of {entry['name']}: {entry['absent']}"
    base = next((peak["mib"] for peak in entry["peaks"] if peak["label"] == "reference fp32"), None)
    rows = [["", "peak MiB", "of reference", "whole process"]]
    for peak in entry["peaks"]:
        mib = peak["mib"]
        share = f"{mib / base:.2f}" if base and mib is not None else "-"
        if mib is None:
            rows.append([peak["label"], "-", "-", peak["reason"]])
        else:
            rows.append([peak["label"], f"{mib:.0f}", share, f"{peak['process_mib']:.0f}"])
    return f"memory of {entry['name']}\n{aligned(rows)}"


def _loading(found: dict[str, Any]) -> str:
    rows = [["", "ms a sample", "x whole"]]
    for way, milliseconds in found["ms_per_sample"].items():
        rows.append([way, f"{milliseconds:.3f}", f"{found['ratio_to_whole'][way]:.1f}"])
    return f"loading (benchmarks/loader.py says what the ways are)\n{aligned(rows)}"


def _absent(run: dict[str, Any]) -> Iterator[str]:
    """One line for each reason."""
    reasons: dict[str, dict[str, None]] = {}
    for measurement in run["measurements"]:
        for entry in measurement["absent"]:
            reasons.setdefault(entry["reason"], {})[entry["label"]] = None
    for reason, labels in reasons.items():
        yield f"not measured: {', '.join(labels)}: {reason}"


def _targets(runs: list[dict[str, Any]]) -> str:
    rows = [["target", "at least", *(f"allocator {run['allocator']}" for run in runs)]]
    for target in TARGETS:
        found = [reached(run, target) for run in runs]
        cells = ["-" if value is None else f"{value:.2f}{'' if value >= target.least else ' (!)'}" for value in found]
        rows.append([f"{target.name}: {target.label} against {target.base}", f"{target.least:.1f}", *cells])
    return f"Targets; (!) is missed, - was not measured\n{aligned(rows)}"
