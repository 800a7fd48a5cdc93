"""Evaluations for people and programs: text, Markdown, CSV, JSON."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from swinlet.evaluation.results import BICUBIC, COMPARED, PUBLISHED_BICUBIC, Evaluation, TestSetResult
from swinlet.metrics import METRICS, shave_of
from swinlet.utils.finite import finite

HEADINGS = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "psnr_rgb": "PSNR-RGB", "ssim_rgb": "SSIM-RGB"}
_COSTS = ["parameters", "mult-adds", "latency"]

_NOTES = {
    PUBLISHED_BICUBIC: "Y as in papers since SRCNN (Y, in 8 bits, shrunk and enlarged without rounding in between; a "
    "gray file is its own Y)",
    BICUBIC: "the LR image enlarged, scored as the networks are",
}
SEEDS = "Intervals are over images: they tell nothing of another training seed. Compare runs of several seeds for that."


def as_text(evaluation: Evaluation) -> str:
    """Aligned columns for a terminal: a table for each test set, comparisons, notes."""
    parts = [f"{title(result, evaluation)}\n{aligned(score_table(result, evaluation))}" for result in evaluation.sets]
    for heading, lines in _sections(evaluation):
        parts.append("\n".join([heading, *(f"  {line}" for line in lines)]))
    return "\n\n".join(parts)


def as_markdown(evaluation: Evaluation) -> str:
    """The same as Markdown, with the PSNR-Y of each image and the provenance."""
    parts: list[str] = []
    for result in evaluation.sets:
        parts += [f"### {title(result, evaluation)}", piped(score_table(result, evaluation))]
        parts += [f"{HEADINGS['psnr_y']} of each image (dB):", piped(image_table(result))]
    for heading, lines in _sections(evaluation):
        parts.append("\n".join([f"{heading}:", "", *(f"- {line}" for line in lines)]))
    provenance = [f"- {key}: {value}" for key, value in evaluation.provenance.items() if value not in (None, False)]
    parts.append("\n".join(["Provenance:", "", *provenance]))
    return "\n\n".join(parts) + "\n"


def as_csv(evaluation: Evaluation) -> str:
    """One line for each test set, model and image, and one with the means, whose image is "(mean)"."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["testset", "scale", "model", "image", *METRICS, "parameters", "multiply_adds", "latency_ms", "sha256"]
    )
    for result in evaluation.sets:
        for row in result.rows:
            card = evaluation.card(row.label)
            costs: list[Any] = ["", "", "", ""]
            if card is not None:
                latency = f"{card.latency.milliseconds:.3f}" if card.latency else ""
                costs = [card.parameters, card.multiply_adds, latency, card.sha256]
            for image, scores in [*row.images.items(), ("(mean)", row.means())]:
                values = [f"{scores[metric]:.6f}" for metric in METRICS]
                writer.writerow([result.name, evaluation.scale, row.label, image, *values, *costs])
    return text.getvalue()


def as_json(evaluation: Evaluation) -> str:
    """Everything, with full precision; what is infinite or undefined becomes null."""
    sets = [
        {
            "name": result.name,
            "folder": result.folder,
            "low_resolution": result.low_resolution,
            "rows": [{"label": row.label, "mean": row.means(), "images": row.images} for row in result.rows],
            "comparisons": [
                {"metric": COMPARED, "difference": "b - a", **asdict(comparison)} for comparison in result.comparisons
            ],
        }
        for result in evaluation.sets
    ]
    content = {
        "scale": evaluation.scale,
        "models": [asdict(card) for card in evaluation.models],
        "testsets": sets,
        "problems": evaluation.problems,
        "provenance": evaluation.provenance,
    }
    return json.dumps(finite(content), indent=1) + "\n"


def title(result: TestSetResult, evaluation: Evaluation) -> str:
    """What a table is about."""
    images = len(result.images)
    return f"{result.name} x{evaluation.scale}, {images} image{'s' * (images != 1)} (LR: {result.low_resolution})"


def score_table(result: TestSetResult, evaluation: Evaluation) -> list[list[str]]:
    """Cells, the first row being headings: means over the images, and costs."""
    table = [["", *HEADINGS.values(), *_COSTS]]
    for row in result.rows:
        card = evaluation.card(row.label)
        costs = ["-", "-", "-"]
        if card is not None:
            latency = f"{card.latency.milliseconds:.0f} ms" if card.latency else "-"
            work = "-" if card.multiply_adds is None else f"{card.multiply_adds / 1e9:.1f} G"
            costs = [f"{card.parameters:,}", work, latency]
        table.append([row.label, *(cell(metric, row.mean(metric)) for metric in METRICS), *costs])
    return table


def image_table(result: TestSetResult) -> list[list[str]]:
    """Cells: a row for each image, a column for each way to restore; PSNR-Y."""
    table = [["", *(row.label for row in result.rows)]]
    table += [[image, *(cell(COMPARED, row.images[image][COMPARED]) for row in result.rows)] for image in result.images]
    return table


def cell(metric: str, value: float) -> str:
    """PSNR in dB with two decimals, SSIM with four; "-" where there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if metric.startswith("psnr") else f"{value:.4f}"


def comparison_sentences(evaluation: Evaluation) -> list[str]:
    """The paired comparisons in words."""
    return [comparison.sentence(result.name) for result in evaluation.sets for comparison in result.comparisons]


def comparison_notes(evaluation: Evaluation) -> list[str]:
    """What the sentences leave open."""
    count = sum(len(result.comparisons) for result in evaluation.sets)
    many = f"Of {count} comparisons at 95 %, about {count / 20:.1g} would look larger than chance by chance."
    return [SEEDS, *([many] if count > 2 else [])]


def notes(evaluation: Evaluation) -> list[str]:
    """How to read the tables."""
    labels = {row.label for result in evaluation.sets for row in result.rows}
    provenance = evaluation.provenance
    lines = [f"{label}: {text}" for label, text in _NOTES.items() if label in labels]
    if any(card.in_chans == 1 for card in evaluation.models):
        lines.append("gray networks: images become gray by Pillow's L (0 to 255), which stands under Y and RGB alike")
    lines.append(f"scores: 8 bits, {shave_of(evaluation.scale)} pixels shaved, mean over images; PSNR in dB")
    ways = [provenance["precision"]]
    ways += ["self-ensemble x8"] if provenance["self_ensemble"] else []
    ways += [f"tiles of {provenance['tile']}"] if provenance["tile"] else []
    lines.append(f"networks: {', '.join(ways)}; mult-adds for an output of 1280x720, one pass")
    latency = next((card.latency for card in evaluation.models if card.latency), None)
    if latency is not None:
        lines.append(
            f"latency: median of {latency.runs} for one {latency.size}x{latency.size} LR image, taking turns; "
            f"{provenance['device']}, {provenance['threads']} thread{'s' * (provenance['threads'] != 1)}, {ways[0]}"
        )
    return lines


def _sections(evaluation: Evaluation) -> Iterator[tuple[str, list[str]]]:
    sentences = comparison_sentences(evaluation)
    if sentences:
        yield "Paired comparison (PSNR-Y)", [*sentences, *comparison_notes(evaluation)]
    yield "Notes", notes(evaluation)
    if evaluation.models:
        yield (
            "Weights",
            [f"{card.label}: {card.net_type}, {card.path}, sha256 {card.sha256[:16]}" for card in evaluation.models],
        )


def aligned(table: Sequence[Sequence[str]]) -> str:
    """A table for a terminal, its first column to the left."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
    return "\n".join(line.rstrip() for line in lines)


def piped(table: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first row being headings."""
    rows = [[" ".join(re.sub(r"([\\|*_`<\[])", r"\\\1", text).split()) for text in row] for row in table]
    rows.insert(1, ["---", *["---:"] * (len(table[0]) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
