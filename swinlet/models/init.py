"""First weights of a network: ``netG.init_type``."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from swinlet.models.init_interpolation import start_from_interpolation
from swinlet.models.network_swinir import SwinIR, zero_bias

DEFAULT_GAIN = 0.2  # the reference's init_gain

_INITIALISERS: dict[str, Callable[[Tensor, float], object]] = {
    "normal": lambda weight, gain: nn.init.normal_(weight, 0.0, 0.1).clamp_(-1, 1).mul_(gain),
    "uniform": lambda weight, gain: nn.init.uniform_(weight, -0.2, 0.2).mul_(gain),
    "xavier_normal": lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain),
    "xavier_uniform": lambda weight, gain: nn.init.xavier_uniform_(weight, gain=gain),
    "kaiming_normal": lambda weight, gain: nn.init.kaiming_normal_(weight, nonlinearity="relu").mul_(gain),
    "kaiming_uniform": lambda weight, gain: nn.init.kaiming_uniform_(weight, nonlinearity="relu").mul_(gain),
    "orthogonal": lambda weight, gain: nn.init.orthogonal_(weight, gain=gain),
}


@torch.no_grad()
def init_weights(network: SwinIR, init_type: str, gain: float | None = None) -> None:
    """Set the first weights in place.

    Args:
        network: freshly built, that is with the official initialisation.
        init_type: "default" keeps it, and so does "teacher", for the teacher's weights follow
            (``start_from_teacher``); "interpolation" starts as bilinear upsampling; the others fill the weights of all
            convolutions and linear layers as in KAIR and set their biases to zero.
        gain: factor of the latter, default 0.2.
    """
    if init_type == "interpolation":
        start_from_interpolation(network)
    elif init_type not in ("default", "teacher"):
        fill = _INITIALISERS[init_type]
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fill(module.weight, DEFAULT_GAIN if gain is None else gain)
                zero_bias(module)
