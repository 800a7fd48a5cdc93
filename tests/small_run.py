"""Option trees of trainings that take seconds."""

import json
from pathlib import Path
from typing import Any

from swinlet.options import Options, parse_options

NET: dict[str, Any] = {"embed_dim": 12, "depths": [2, 1], "num_heads": [2, 2], "window_size": 4}
TEACHER: dict[str, Any] = {"net_type": "swinir", "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]}


def tree(photos: Path, root: Path, teacher_file: Path | None = None, **train_keys: Any) -> dict[str, Any]:
    """A feature distillation (with a teacher) or plain training of six iterations."""
    return {
        "task": "run",
        "gpu_ids": None,
        "path": {"root": str(root), "pretrained_netTeacher": teacher_file and str(teacher_file)},
        "datasets": {
            "train": {
                "dataroot_H": str(photos / "train"),
                "H_size": 32,
                "dataloader_batch_size": 2,
                "dataloader_num_workers": 0,
            },
            "test": {"dataroot_H": str(photos / "test" / "HR")},
        },
        "netG": NET,
        "train": {
            "total_iter": 6,
            "distillation_type": "feature" if teacher_file else "none",
            "G_optimizer_lr": 1e-3,
            "G_scheduler_milestones": [4],
            "checkpoint_print": 2,
            "checkpoint_test": 3,
            "checkpoint_save": 2,
            **train_keys,
        },
    }


def options(*args: Any, **kwargs: Any) -> Options:
    return parse_options(json.loads(json.dumps(tree(*args, **kwargs))))
