"""The optimiser, and taking over the state of another."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from swinlet.errors import CheckpointError
from swinlet.options import TrainOptions
from swinlet.weights import is_finite, is_plain, read_pth

_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
_MOMENTS = ("exp_avg", "exp_avg_sq")
_NAMES = ("step", *_MOMENTS)


def define_optimizer(train: TrainOptions, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam or AdamW; fused where torch has a kernel that knows all we need, loss scaling included."""
    return _OPTIMIZERS[train.G_optimizer_type](
        parameters,
        lr=train.G_optimizer_lr,
        betas=train.G_optimizer_betas,
        weight_decay=train.G_optimizer_wd,
        fused=parameters[0].device.type in ("cpu", "cuda"),
    )


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Both moments of each parameter that has some, by its number and their name."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": moments[name] for index, moments in state.items() for name in _MOMENTS}


def load_moments(optimizer: torch.optim.Optimizer, path: Path, key: str) -> None:
    """Take over steps and moments; learning rate, betas, weight decay and kernel stay those of the optimiser.

    Raises:
        CheckpointError: the file, which ``key`` names, is no state of Adam, or one of other networks.
    """
    take_moments(optimizer, read_pth(path, key), f"{key}: {path}")


def take_moments(optimizer: torch.optim.Optimizer, saved: object, source: str) -> None:
    """As ``load_moments``, from what was read from the file that ``source`` names."""
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = _read_state(saved, source)
    broken = next((f"{index}.{fault}" for index, entry in state.items() for fault in _faults(entry)), None)
    if broken is not None:
        raise CheckpointError(f"{source}: {broken} holds values that are no moments of Adam")
    for index, entry in state.items():
        if index not in range(len(parameters)) or any(entry[k].shape != parameters[index].shape for k in _MOMENTS):
            raise CheckpointError(f"{source} belongs to other networks: its tensors do not fit the optimiser's")
        # The fused kernel walks through memory: moments have to lie there as their parameter does.
        entry |= {name: torch.empty_like(parameters[index]).copy_(entry[name]) for name in _MOMENTS}
        entry["step"] = entry["step"].reshape(()).float()
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _read_state(saved: object, source: str) -> dict[int, dict[str, Tensor]]:
    """Step and moments, all of them tensors, by the number of the parameter."""
    entries = cast("dict[object, object]", saved).get("state") if isinstance(saved, dict) else None
    if not isinstance(entries, dict):
        raise CheckpointError(f"{source} holds no state of Adam")
    found: dict[int, dict[str, Tensor]] = {}
    for index, entry in cast("dict[object, object]", entries).items():
        named = cast("dict[object, object]", entry) if isinstance(entry, dict) else {}
        # Those that were saved as tensors to be trained are values here; steps of old versions are plain numbers.
        values = {name: _tensor(named.get(name), is_step=name == "step") for name in _NAMES}
        tensors = {name: tensor for name, tensor in values.items() if tensor is not None}
        if type(index) is not int or len(tensors) < len(_NAMES):
            raise CheckpointError(f"{source} holds no state of Adam")
        found[index] = tensors
    return found


def _tensor(value: object, *, is_step: bool) -> Tensor | None:
    if is_step and type(value) in (int, float) and 0 <= cast("float", value) < 2**53:
        return torch.tensor(value, dtype=torch.float64)
    if not isinstance(value, Tensor) or (is_step and value.numel() != 1):
        return None
    return value.detach()


def _faults(entry: Mapping[str, Tensor]) -> Iterator[str]:
    """Names of what cannot be moments, or a number of steps."""
    for name, tensor in entry.items():
        is_step = name == "step"
        is_real = is_plain(tensor) and (tensor.is_floating_point() or (is_step and not tensor.is_complex()))
        if not is_real or not is_finite(tensor) or (is_step and tensor.item() < 0):
            yield name
