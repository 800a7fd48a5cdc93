"""A study's plan and results for people: text for the terminal, Markdown that can be committed as it is."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from swinlet.evaluation.tables import HEADINGS, aligned, piped
from swinlet.metrics import shave_of
from swinlet.study.plan import PlannedRun
from swinlet.study.results import Baseline, Interval, Rank, RunRecord, StudyResults, TestSetResults, VariantScores
from swinlet.study.verdict import percent, signed

Table = list[list[str]]
"""Cells, the first row being headings."""

_METRICS = ("psnr_y", "psnr_rgb", "ssim_y")
_NONE = "-"


def plan_text(planned: Sequence[PlannedRun]) -> str:
    """All runs, a line each, those of other shards in brackets."""
    table = [["run", "variant", "seed", "iterations", "state", "folder"]]
    for row in planned:
        total = row.progress.total_iter
        number = str(row.run.position + 1)
        table.append(
            [
                number if row.is_here else f"({number})",
                row.run.variant.name,
                str(row.run.seed),
                "?" if total is None else f"{total:,}",
                row.state,
                str(row.run.folder),
            ]
        )
    return aligned(table)


def as_text(results: StudyResults) -> str:
    """Aligned columns for a terminal: verdicts and tables of each test set, costs, notes."""
    parts: list[str] = []
    for testset in results.testsets:
        parts += [
            f"{set_title(testset, results)}\n{aligned(score_table(testset))}",
            aligned(seed_table(testset, results)),
        ]
        parts.append(_listed([*verdicts(testset), *ranking_sentences(testset)]))
    parts.append(aligned(cost_table(results)))
    parts += [f"{heading}\n{_listed(lines)}" for heading, lines in _sections(results)]
    return "\n\n".join(parts)


def as_markdown(results: StudyResults) -> str:
    """The same as Markdown, with what each variant is, all runs with their checksums, and the provenance."""
    parts = [f"# Study {Path(results.study).stem}", introduction(results)]
    for testset in results.testsets:
        parts += [f"## {set_title(testset, results)}", _bullets([*verdicts(testset), *ranking_sentences(testset)])]
        parts += [piped(score_table(testset)), "PSNR-Y of each seed, and its difference to the reference (dB):"]
        parts.append(piped(seed_table(testset, results)))
    parts += ["## Cost", piped(cost_table(results))]
    for heading, lines in _sections(results):
        parts += [f"## {heading}", _bullets(lines)]
    parts += ["## Variants", _bullets(list(variant_lines(results))), "## Runs", piped(run_table(results.runs))]
    parts.append("Each was trained by (checksums are the beginnings of sha256; results.json has them whole):")
    parts.append("\n".join(["```text", *(run.command for run in results.runs), "```"]))
    parts += ["## Provenance", _bullets(provenance_lines(results))]
    return "\n\n".join(parts) + "\n"


def introduction(results: StudyResults) -> str:
    """What was compared, and how much of it is there."""
    names = ", ".join(variant.name for variant in results.variants)
    scored = sum(run.state == "scored" for run in results.runs)
    return (
        f"{len(results.variants)} variants ({names}), {_count(len(results.seeds), 'seed')}, {scored} of "
        f"{len(results.runs)} runs complete; reference: {results.reference}. Variants of one seed share first weights, "
        "samples and number of iterations, but for what is said below; all numbers are of the last iteration's weights."
    )


def set_title(testset: TestSetResults, results: StudyResults) -> str:
    """Heading of a test set."""
    images = _count(testset.images, "image")
    return f"{testset.name} x{results.scale}, {images} (LR: {testset.low_resolution})"


def score_table(testset: TestSetResults) -> Table:
    """Means over seeds, differences to the reference with their intervals, share of the teacher's gap, rank."""
    headings = ["", "seeds", *(HEADINGS[metric] for metric in _METRICS), "sd over seeds"]
    headings += ["difference", "95 % over seeds", "95 % over images", "of the gap", "rank"]
    table = [headings, *(_baseline_row(row) for row in testset.baselines)]
    ranking = testset.ranking
    ranked = ranking.ranks if ranking is not None and len(ranking.seeds) > 1 else ()
    ranks = {rank.variant: _places(rank) for rank in ranked}
    no_share = _NONE if testset.teacher is None else "no gap"
    table += [_variant_row(scores, ranks.get(scores.variant, _NONE), no_share) for scores in testset.variants]
    if testset.teacher is not None:
        row = _baseline_row(testset.teacher)
        table.append([*row[:6], _NONE if testset.gap is None else signed(testset.gap), *row[7:]])
    return table


def _baseline_row(baseline: Baseline) -> list[str]:
    return [baseline.label, _NONE, *_values(baseline), *[_NONE] * 6]


def _variant_row(scores: VariantScores, rank: str, no_share: str) -> list[str]:
    deviation = _NONE if scores.deviation is None else f"{scores.deviation:.3f}"
    row = [scores.variant, str(len(scores.seeds)), *_values(scores), deviation]
    found = scores.difference
    if found is None:
        return [*row, *[_NONE] * 4, rank]
    share = no_share
    if found.share is not None:
        share = f"{percent(found.share.share)} %"
        if found.share.low is not None and found.share.high is not None:
            share += f" ({percent(found.share.low)} to {percent(found.share.high)})"
    return [*row, signed(found.mean), _interval(found.over_seeds), _interval(found.over_images), share, rank]


def _values(scores: Baseline | VariantScores) -> list[str]:
    values = [getattr(scores, metric) for metric in _METRICS]
    decimals = [3 if metric.startswith("psnr") else 4 for metric in _METRICS]
    return [_NONE if value is None else f"{value:.{places}f}" for value, places in zip(values, decimals, strict=True)]


def _interval(interval: Interval | None) -> str:
    return _NONE if interval is None else f"{signed(interval.low)} to {signed(interval.high)}"


def seed_table(testset: TestSetResults, results: StudyResults) -> Table:
    """PSNR-Y of each run, and its difference to the reference of the same seed."""
    table = [["", *(f"seed {seed}" for seed in results.seeds)]]
    for scores in testset.variants:
        found = scores.difference
        by_seed = {score.seed: score.psnr_y for score in scores.seeds}
        differences = {} if found is None else dict(zip(found.seeds, found.values, strict=True))
        row = [scores.variant]
        for seed in results.seeds:
            value = by_seed.get(seed)
            paired = f" ({signed(differences[seed])})" if seed in differences else ""
            row.append(_NONE if value is None else f"{value:.3f}{paired}")
        table.append(row)
    return table


def verdicts(testset: TestSetResults) -> list[str]:
    """Each variant's difference in words."""
    return [scores.verdict for scores in testset.variants if scores.verdict]


def ranking_sentences(testset: TestSetResults) -> list[str]:
    """The order, as far as there is one."""
    ranking = testset.ranking
    if ranking is None:
        return [f"No ranking on {testset.name}: there is no seed that all variants with runs share."]
    seeds = ", ".join(map(str, ranking.seeds))
    if len(ranking.seeds) < 2:
        return [f"No ranking on {testset.name}: only seed {seeds} is shared by all, and one seed ranks nothing."]
    order = "; ".join(f"{_places(rank)} {rank.variant}" for rank in ranking.ranks)
    unclear = any(rank.best < rank.worst for rank in ranking.ranks)
    note = " Places that cannot be told apart are ranges: not all pairs differ clear of zero." if unclear else ""
    return [f"Ranking on {testset.name} (PSNR-Y, seeds {seeds}): {order}.{note}"]


def _places(rank: Rank) -> str:
    return str(rank.best) if rank.best == rank.worst else f"{rank.best} to {rank.worst}"


def cost_table(results: StudyResults) -> Table:
    """What an iteration of each variant takes."""
    table = [["", "iterations", "ms per iteration", f"over {results.reference}", "machines"]]
    for variant in results.variants:
        hosts = dict.fromkeys(host for run in results.runs if run.variant == variant.name for host in run.hosts)
        seconds, cost = variant.seconds_per_step, variant.cost
        table.append(
            [
                variant.name,
                _NONE if variant.total_iter is None else f"{variant.total_iter:,}",
                _NONE if seconds is None else f"{1000 * seconds:.1f}",
                _NONE if cost is None else f"{cost:.2f}",
                ", ".join(hosts) or _NONE,
            ]
        )
    return table


def run_table(runs: Sequence[RunRecord]) -> Table:
    """All runs and what tells whether their files are still the same."""
    table = [["variant", "seed", "iterations", "option file", "train.log", "weights", "machines"]]
    for run in runs:
        sums = [run.options_sha256, run.log_sha256, run.weights_sha256]
        total = "?" if run.total_iter is None else str(run.total_iter)
        iterations = f"{run.step} of {total}" if run.state == "missing" else str(run.step)
        shown = [_NONE if value is None else value[:16] for value in sums]
        table.append([run.variant, str(run.seed), iterations, *shown, ", ".join(run.hosts) or _NONE])
    return table


def variant_lines(results: StudyResults) -> Iterator[str]:
    """What each variant is."""
    for variant in results.variants:
        text = f"{variant.name}: {', '.join(variant.changes) or 'the base as it is'}"
        if variant.has_untrained_teacher:
            text += "; its teacher has random weights"
        if variant.equal_time is not None:
            total = "not decided yet" if variant.total_iter is None else f"{variant.total_iter:,}"
            text += f"; as many iterations as take the time of {variant.equal_time}: {total}"
        if variant.has_own_first_weights:
            text += "; its first weights are its own, so that more than this differs from the reference"
        yield f"{text}."


def provenance_lines(results: StudyResults) -> list[str]:
    """Files with their checksums, versions, device, settings."""
    files = [
        f"study file: {results.study}, sha256 {results.study_sha256}",
        f"base: {results.base}, sha256 {results.base_sha256}",
    ]
    if results.teacher is not None:
        files.append(f"teacher: {results.teacher}, sha256 {results.teacher_sha256}")
    settings = [f"{key}: {value}" for key, value in results.provenance.items() if value not in (None, False)]
    return [*files, *settings]


def _sections(results: StudyResults) -> Iterator[tuple[str, list[str]]]:
    if results.missing:
        yield "Missing", [*results.missing, "All means, pairs and ranks are of what is complete."]
    if results.problems:
        yield "Problems", list(results.problems)
    yield "How to read this", list(reading_notes(results))


def reading_notes(results: StudyResults) -> Iterator[str]:
    """What the numbers mean, and what they do not."""
    yield (
        "95 % over seeds: Student's t interval of the paired differences, what another training would give. "
        "95 % over images: bootstrap of the mean over seeds, what other images would give. Differences are in dB of "
        f"PSNR-Y to {results.reference} with the same seed. Of the gap: mean over seeds of a seed's difference over "
        "the teacher's lead with that seed, and its t interval."
    )
    if results.comparisons > 1:
        yield (
            f"{results.comparisons} intervals were looked at: 5 % of them, {results.comparisons / 20:.1f}, would look "
            "clear by luck. Those of several test sets are of the same trainings, and ranks look at all pairs."
        )
    yield (
        f"Scores: 8 bits, {shave_of(results.scale)} pixels shaved, mean over images, PSNR in dB; weights "
        f"{results.weights} ({'moving average' if results.weights == 'E' else 'raw'}) of the last iteration."
    )
    yield "Times are medians of what the runs logged; the noise of the machine, and of what else ran there, is in them."
    own = [variant.name for variant in results.variants if variant.has_own_first_weights]
    if own:
        yield f"Not paired by first weights, which are their own: {', '.join(own)}."


def _bullets(lines: Sequence[str]) -> str:
    """A list in Markdown; what would be markup in a line is text."""
    escaped = [re.sub(r"([\\*`<\[])", r"\\\1", line) for line in lines]
    return "\n".join(f"- {' '.join(line.split())}" for line in escaped)


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
