"""Rarely used regularisers of the reference (``G_regularizer_orthstep``, ``G_regularizer_clipstep``)."""

from typing import cast

import torch
from torch import Tensor, nn

STEP = 1e-4


@torch.no_grad()
def push_singular_values(network: nn.Module, low: float = 0.5, high: float = 1.5) -> None:
    """Move the singular values of every convolution (kernel*inputs x outputs) a step towards [low, high]."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            matrix = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])
            u, s, vh = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(matrix, full_matrices=False))
            s = s - STEP * (s > high) + STEP * (s < low)
            kernel = (u * s) @ vh
            weight.copy_(kernel.view(*weight.shape[2:], weight.shape[1], weight.shape[0]).permute(3, 2, 0, 1))


@torch.no_grad()
def push_weights(network: nn.Module, limit: float = 1.5) -> None:
    """Move weights and biases of convolutions and linear layers beyond +-limit a step towards it."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            for parameter in module.parameters(recurse=False):
                parameter.sub_(STEP * (parameter > limit)).add_(STEP * (parameter < -limit))
