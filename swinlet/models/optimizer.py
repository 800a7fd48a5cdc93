"""The optimiser, and taking over the state of another."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from swinlet.errors import CheckpointError
from swinlet.options import TrainOptions
from swinlet.weights import is_finite, is_plain, read_pth

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


def _are_moments(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and is_plain(tensor) and is_finite(tensor)


def _value(saved: Any) -> Any:
    """A tensor that was saved as one to be trained is a value here."""
    return saved.detach() if isinstance(saved, torch.Tensor) else saved


def load_moments(optimizer: torch.optim.Optimizer, path: Path, key: str) -> None:
    """Take over steps and moments; learning rate, betas, weight decay and kernel stay those of the optimiser.

    Raises:
        CheckpointError: the file, which ``key`` names, is no state of Adam, or one of other networks.
    """
    take_moments(optimizer, cast("dict[str, Any]", read_pth(path, key)), f"{key}: {path}")


def take_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any], source: str) -> None:
    """As ``load_moments``, from what was read from the file that ``source`` names."""
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        names = "step", *_MOMENTS
        state = {index: {name: _value(entry[name]) for name in names} for index, entry in saved["state"].items()}
        shapes = {(index, tuple(entry[name].shape)) for index, entry in state.items() for name in _MOMENTS}
        steps = [float(entry["step"]) for entry in state.values()]
        broken = [
            f"{index}.{name}" for index, entry in state.items() for name in _MOMENTS if not _are_moments(entry[name])
        ]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{source} holds no state of Adam") from error
    if broken or not all(0 <= step < math.inf for step in steps):
        where = broken[0] if broken else "step"
        raise CheckpointError(f"{source}: {where} holds values that are no moments of Adam")
    if any(index not in range(len(parameters)) or shape != parameters[index].shape for index, shape in shapes):
        raise CheckpointError(f"{source} belongs to other networks: its tensors do not fit the optimiser's")
    for (index, entry), step in zip(state.items(), steps, strict=True):
        # The fused kernel walks through memory: moments have to lie there as their parameter does.
        entry |= {name: torch.empty_like(parameters[index]).copy_(entry[name]) for name in _MOMENTS}
        entry["step"] = torch.tensor(step)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
