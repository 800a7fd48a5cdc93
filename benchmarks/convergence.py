"""Whether training in bf16 ends where training in fp32 does: paired runs, the same data and first weights for one seed.

    python -m benchmarks.convergence --data HR/ --testset Set5/ [--steps 2000] [--seeds 1 2 3] [--out build/convergence]

A student of 2x2 blocks, 60 wide, learns from the teacher in demo/ by feature distillation (batches of 8, LR patches of
16x16). Prints the PSNR-Y of the moving average at the end for each precision and seed, the differences to fp32, and the
seconds for a step; ``result.json`` in the folder holds them with every test on the way. Finished runs are not repeated.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, describe

PRECISIONS = {
    "fp32": {},
    "bf16 teacher": {"teacher_precision": "bf16"},
    "bf16": {"precision": "bf16", "teacher_precision": "bf16"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Training in bf16 against fp32.")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="HR images to train on")
    parser.add_argument("--testset", required=True, type=Path, metavar="DIR", help="folder with HR/ and LR_bicubic/X4/")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("build/convergence"), metavar="DIR")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for seed in given.seeds:  # side by side in time, so that a machine whose speed drifts does so for all
        for name in PRECISIONS:
            found.setdefault(name, {})[seed] = run(given, name, seed)
    result = {"machine": describe("cpu"), "steps": given.steps, "runs": found}
    (given.out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(found))


def run(given: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Train, or go on, or read what was found; returns the curve and the seconds for a step."""
    task = f"{name.replace(' ', '_')}_seed{seed}"
    file = given.out / f"{task}.json"
    file.write_text(json.dumps(options(given, name, task, seed), indent=1) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, str(ROOT / "main_train_student.py"), "--opt", str(file)], check=True)
    metrics = (given.out / task / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in metrics]
    tests = [entry for entry in entries if entry["type"] == "test" and entry["weights"] == "E"]
    paces = [1 / entry["it_per_s"] for entry in entries if entry["type"] == "train"]
    return {
        "psnr_y": {entry["step"]: entry["mean"]["psnr_y"] for entry in tests},
        "seconds_per_step": statistics.median(paces),
    }


def options(given: argparse.Namespace, name: str, task: str, seed: int) -> dict[str, Any]:
    every = max(given.steps // 4, 1)
    return {
        "task": task,
        "model": "plain",
        "gpu_ids": None,
        "scale": 4,
        "path": {"root": str(given.out), "pretrained_netTeacher": str(ROOT / "demo" / "teacher_x4.safetensors")},
        "datasets": {
            "train": {
                "dataset_type": "sr",
                "dataroot_H": str(given.data.resolve()),
                "H_size": 64,
                "dataloader_batch_size": 8,
                "dataloader_num_workers": 0,
            },
            "test": {
                "dataset_type": "sr",
                "dataroot_H": str((given.testset / "HR").resolve()),
                "dataroot_L": str((given.testset / "LR_bicubic" / "X4").resolve()),
            },
        },
        "netG": {"net_type": "swinir_student", "depths": [2, 2], "num_heads": [6, 6], "init_type": "interpolation"},
        "train": {
            "total_iter": given.steps,
            "manual_seed": seed,
            "distillation_type": "feature",
            "feature_pairs": [[0, 1], [1, 3]],
            "E_decay": 0.995,
            "G_optimizer_lr": 5e-4,
            "G_scheduler_type": "cosine",
            "G_scheduler_warmup_iter": min(50, every),
            "checkpoint_test": every,
            "checkpoint_save": every,
            "checkpoint_print": every,
            **PRECISIONS[name],
        },
    }


def table(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """PSNR-Y at the end by precision and seed, the differences to fp32, and the pace."""
    seeds = list(found["fp32"])
    head = f"{'':14}" + "".join(f"{f'seed {seed}':>9}" for seed in seeds) + "     mean   worst difference   s/step"
    lines = [head]
    for name, runs in found.items():
        ends = [_end(runs[seed]) for seed in seeds]
        worst = max((end - _end(found["fp32"][seed]) for end, seed in zip(ends, seeds, strict=True)), key=abs)
        pace = statistics.median(entry["seconds_per_step"] for entry in runs.values())
        values = "".join(f"{end:9.3f}" for end in ends)
        lines.append(f"{name:14}{values}{statistics.mean(ends):9.3f}{worst:19.3f}{pace:9.3f}")
    return "\n".join(lines)


def _end(entry: dict[str, Any]) -> float:
    return list(entry["psnr_y"].values())[-1]


if __name__ == "__main__":
    main()
