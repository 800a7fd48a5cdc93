"""The optimiser, and taking over the state of another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from swinlet.errors import CheckpointError
from swinlet.options import TrainOptions
from swinlet.weights import read_pth

_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
_MOMENTS = ("exp_avg", "exp_avg_sq")


def define_optimizer(train: TrainOptions, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam or AdamW; fused where torch has a kernel that knows all we need, loss scaling included."""
    return _OPTIMIZERS[train.G_optimizer_type](
        parameters,
        lr=train.G_optimizer_lr,
        betas=train.G_optimizer_betas,
        weight_decay=train.G_optimizer_wd,
        fused=parameters[0].device.type in ("cpu", "cuda"),
    )


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Both moments of each parameter that has some, by its number and their name."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": moments[name] for index, moments in state.items() for name in _MOMENTS}


def load_moments(optimizer: torch.optim.Optimizer, path: Path, key: str) -> None:
    """Take over steps and moments; learning rate, betas, weight decay and kernel stay those of the optimiser.

    Raises:
        CheckpointError: the file, which ``key`` names, is no state of Adam, or one of other networks.
    """
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    saved = cast("dict[str, Any]", read_pth(path, key))
    try:
        state = {index: {name: entry[name] for name in ("step", *_MOMENTS)} for index, entry in saved["state"].items()}
        shapes = {(index, tuple(entry[name].shape)) for index, entry in state.items() for name in _MOMENTS}
        steps = [float(entry["step"]) for entry in state.values()]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{key}: {path} holds no state of Adam") from error
    if any(index not in range(len(parameters)) or shape != parameters[index].shape for index, shape in shapes):
        raise CheckpointError(f"{key}: {path} belongs to other networks: its tensors do not fit the optimiser's")
    for (index, entry), step in zip(state.items(), steps, strict=True):
        # The fused kernel walks through memory: moments have to lie there as their parameter does.
        entry |= {name: torch.empty_like(parameters[index]).copy_(entry[name]) for name in _MOMENTS}
        entry["step"] = torch.tensor(step)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
