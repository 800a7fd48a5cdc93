"""What a network costs: parameters, and multiply-adds as papers count them."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from swinlet.models.network_swinir import SwinIR

OUTPUT = (720, 1280)
"""Height and width of the output that multiply-adds are given for."""


def parameter_count(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: SwinIR) -> int:
    """Multiply-adds of matrix products and convolutions for an output of 1280x720, the input rounded to whole pixels.

    Counted by torch's ``FlopCounterMode`` on a copy without data, so nothing is computed. What comes to the input by
    padding to whole windows counts, and the upsampler as it was trained; additions, normalisations and activations do
    not.
    """
    height, width = (round(side / network.upscale) for side in OUTPUT)
    with torch.device("meta"), torch.inference_mode():
        copy = type(network)(**network.config).eval()
        copy.fold_upsampler = False
        image = torch.empty(1, network.config["in_chans"], height, width)
        with FlopCounterMode(display=False) as counter:
            copy(image)
    return counter.get_total_flops() // 2
