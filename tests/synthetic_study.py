"""Studies of any size without a training: made-up scores and curves, put through the analysis of real ones."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swinlet.study.analysis import Images, SetData, analyse
from swinlet.study.results import JSON_FILE, RunRecord, StudyResults, VariantRecord

STEPS = 2000
TEACHER_LEAD = 0.9


def write_results(
    out: Path,
    effects: Mapping[str, float],
    seeds: Sequence[int] = (1, 2, 3),
    sets: Sequence[str] = ("Set5",),
    *,
    images: int = 6,
    missing: Sequence[tuple[str, int]] = (),
    curves: bool = True,
    **changes: Any,
) -> Path:
    """Write results.json and, for each run, metrics.jsonl.

    Args:
        out: the study's folder.
        effects: what each variant gains, in dB; the first one is the reference.
        seeds, sets: of the study.
        images: of each test set.
        missing: variant and seed of runs that are not complete.
        curves: write metrics.jsonl.
        changes: to the results, by attribute.
    """
    draw = random.Random(0)
    reference = next(iter(effects))
    luck = {seed: draw.gauss(0, 0.04) for seed in seeds}
    final = {(name, seed): 29 + effects[name] + luck[seed] + draw.gauss(0, 0.02) for name in effects for seed in seeds}
    done = [key for key in final if key not in missing]
    testsets = [
        analyse(
            SetData(
                name=name,
                folder=f"testsets/{name}",
                identity=f"{i:064x}",
                low_resolution="LR_bicubic/X4",
                bicubic={"bicubic": _images(27.0 - i, images, draw)},
                teacher=_images(29 + TEACHER_LEAD - i, images, draw),
                runs={
                    variant: {
                        seed: _images(final[variant, seed] - i, images, draw)
                        for seed in seeds
                        if (variant, seed) in done
                    }
                    for variant in effects
                },
            ),
            reference,
        )
        for i, name in enumerate(sets)
    ]
    runs = [_run(out, name, seed, (name, seed) in done) for seed in seeds for name in effects]
    results = StudyResults(
        study="studies/made up.json",
        study_sha256="5" * 64,
        base="options/base.json",
        base_sha256="b" * 64,
        out=str(out),
        reference=reference,
        seeds=tuple(seeds),
        weights="E",
        scale=4,
        teacher="teacher.safetensors",
        teacher_sha256="7" * 64,
        variants=tuple(_variant(out, name, i) for i, name in enumerate(effects)),
        runs=tuple(runs),
        testsets=tuple(testsets),
        comparisons=len(sets) * (len(effects) - 1),
        missing=tuple(f"{name}, seed {seed}: 500 of {STEPS}" for name, seed in missing),
        problems=(),
        provenance={"swinlet": "0.1.0", "torch": "2.14.1", "device": "cpu: none", "command": "swinlet study made.json"},
    ).model_copy(update=changes)
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON_FILE).write_text(results.model_dump_json(indent=1))
    if curves:
        for run in runs:
            _write_curve(run, final[run.variant, run.seed], draw)
    return out


def _images(mean: float, count: int, draw: random.Random) -> Images:
    spread = [3 * math.sin(i) + draw.gauss(0, 0.005) for i in range(count)]
    middle = sum(spread) / count
    return {
        f"image{i}": {"psnr_y": mean + value - middle, "psnr_rgb": mean + value - middle - 1.5, "ssim_y": 0.8}
        for i, value in enumerate(spread)
    }


def _run(out: Path, name: str, seed: int, is_done: bool) -> RunRecord:
    root = out / "runs" / _folder(name)
    return RunRecord(
        variant=name,
        seed=seed,
        state="scored" if is_done else "missing",
        step=STEPS if is_done else 500,
        total_iter=STEPS,
        folder=str(root / f"seed_{seed}"),
        options_file=str(root / f"seed_{seed}.json"),
        options_sha256="0" * 64,
        log_sha256="1" * 64,
        weights=str(root / f"seed_{seed}/models/{STEPS}_E.pth") if is_done else None,
        weights_sha256="e" * 64 if is_done else None,
        command=f"swinlet train --opt {root / f'seed_{seed}.json'}",
        seconds_per_step=0.1,
        hosts=("made-up",),
    )


def _folder(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name)


def _variant(out: Path, name: str, place: int) -> VariantRecord:
    return VariantRecord(
        name=name,
        folder=str(out / "runs" / _folder(name)),
        changes=(f'train.distillation_type: "{name}"',),
        total_iter=STEPS,
        equal_time=None,
        has_own_first_weights=False,
        has_untrained_teacher=False,
        seconds_per_step=0.1 + 0.01 * place,
        cost=1 + 0.1 * place,
    )


def _write_curve(run: RunRecord, final: float, draw: random.Random) -> None:
    """Tests of the moving average and, 0.2 dB below, of the raw weights."""
    records: list[dict[str, Any]] = []
    for step in range(100, run.step + 1, 100):
        value = final - 3 * math.exp(-step / 300) + (draw.gauss(0, 0.01) if step < STEPS else 0)
        for weights, score in (("E", value), ("G", value - 0.2)):
            mean = {"psnr_y": score, "psnr_rgb": score - 1.5, "ssim_y": 0.8, "ssim_rgb": 0.8}
            records.append({"type": "test", "set": "test", "step": step, "weights": weights, "mean": mean})
    folder = Path(run.folder)
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
