"""Start from interpolation: first weights with which SwinIR computes bilinear upsampling.

The network is unchanged. A few channels carry the image past the transformer body (whose last convolution is zero)
and through the upsampler; all others keep their usual first weights and learn the residual. Bilinear upsampling by
2, 3, 4 or 8 (half-pixel centres, as ``F.interpolate(mode="bilinear", align_corners=False)``) comes out exactly, away
from the border where zero padding is seen.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from swinlet.models.network_swinir import SwinIR, doubling_steps, zero_bias

# A LeakyReLU of slope s lets a pair (+x, -x) through: lrelu(x) - lrelu(-x) = (1 + s) x.
BEFORE_UPSAMPLE_SLOPE = 0.01
NEAREST_SLOPE = 0.2


@torch.no_grad()
def start_from_interpolation(network: SwinIR) -> None:
    """Set the weights in place so that the network upsamples bilinearly; without an upsampler, is the identity.

    Raises:
        ValueError: the network is too narrow to carry the image (embed_dim below in_chans).
    """
    colours: int = network.config["in_chans"]
    if network.config["embed_dim"] < colours:
        raise ValueError(f"embed_dim: init_type 'interpolation' needs at least {colours}")
    body_end = network.conv_after_body
    _zero(_conv(body_end[-1] if isinstance(body_end, nn.Sequential) else body_end))
    if network.upsampler == "":
        _zero(network.conv_last)
        return
    _own_channels(network.conv_first, range(colours))
    for c in range(colours):
        network.conv_first.weight[c, c, 1, 1] = 1.0
    if network.upsampler == "pixelshuffledirect":
        conv = _conv(network.upsample[0])
        _zero(conv)
        _set_phases(conv, network.upscale, network.upscale, [[(c, 1.0)] for c in range(colours)])
        return
    before = _conv(network.conv_before_upsample[0])
    _own_channels(before, range(2 * colours))
    for c in range(colours):
        before.weight[2 * c, c, 1, 1] = 1.0
        before.weight[2 * c + 1, c, 1, 1] = -1.0
    _zero(network.conv_last)
    if network.upsampler == "pixelshuffle":
        _through_pixelshuffle(network, colours)
    else:
        _through_nearest(network, colours)


def _conv(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _zero(conv: nn.Conv2d) -> None:
    nn.init.zeros_(conv.weight)
    zero_bias(conv)


def _own_channels(conv: nn.Conv2d, channels: Sequence[int]) -> None:
    """Clear some output channels for the image's own use."""
    index = list(channels)
    conv.weight[index] = 0.0
    assert conv.bias is not None
    conv.bias[index] = 0.0


def bilinear_taps(scale: int) -> Tensor:
    """(scale, 3): weights of the left, own and right pixel for each of the ``scale`` positions inside a pixel."""
    offset = (torch.arange(scale) + 0.5) / scale - 0.5
    return torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], dim=1)


def _pairs(colours: int, slope: float) -> list[list[tuple[int, float]]]:
    """How each colour is read back from its (+x, -x) channels behind a LeakyReLU."""
    return [[(2 * c, 1 / (1 + slope)), (2 * c + 1, -1 / (1 + slope))] for c in range(colours)]


def _set_phases(conv: nn.Conv2d, scale: int, step: int, sources: Sequence[Sequence[tuple[int, float]]]) -> None:
    """Let a convolution in front of PixelShuffle(step) compute all of a bilinear enlargement by ``scale``.

    Where scale > step, the positions that later steps will unfold leave as channels: colour c's position (i, j)
    inside the coarse pixel of this step is channel c * fine**2 + i * fine + j, with fine = scale // step.
    ``sources`` names for each colour the input channels that hold it, with their factors.
    """
    fine = scale // step
    taps = bilinear_taps(scale)
    for c, source in enumerate(sources):
        for y in range(scale):
            for x in range(scale):
                channel = c * fine**2 + (y % fine) * fine + x % fine
                phase = channel * step**2 + (y // fine) * step + x // fine
                _own_channels(conv, [phase])
                for index, factor in source:
                    conv.weight[phase, index] = factor * torch.outer(taps[y], taps[x])


def _unfold_phases(conv: nn.Conv2d, fine_before: int, step: int, colours: int) -> None:
    """Let a later convolution in front of PixelShuffle(step) move positions from channels into space."""
    fine = fine_before // step
    for c in range(colours):
        for y in range(fine_before):
            for x in range(fine_before):
                channel = c * fine**2 + (y % fine) * fine + x % fine
                phase = channel * step**2 + (y // fine) * step + x // fine
                _own_channels(conv, [phase])
                conv.weight[phase, c * fine_before**2 + y * fine_before + x, 1, 1] = 1.0


def _through_pixelshuffle(network: SwinIR, colours: int) -> None:
    sources = _pairs(colours, BEFORE_UPSAMPLE_SLOPE)
    remaining = network.upscale
    for i, step in enumerate(doubling_steps(network.upscale)):
        conv = _conv(network.upsample[2 * i])
        if i == 0:
            _set_phases(conv, network.upscale, step, sources)
            sources = [[(c, 1.0)] for c in range(colours)]
        else:
            _unfold_phases(conv, remaining, step, colours)
        remaining //= step
    _read(network.conv_last, sources, torch.tensor([0.0, 1.0, 0.0]))


def _through_nearest(network: SwinIR, colours: int) -> None:
    """Nearest-neighbour steps, smoothed: bilinear by 2**n is nearest by 2**n filtered with (1 2 1)/4 on the finest
    grid and (1 0 1)/2 on every grid from the second on; by 3, nearest filtered with (1 1 1)/3."""
    identity = torch.tensor([0.0, 1.0, 0.0])
    gap = torch.tensor([0.5, 0.0, 0.5])
    last = {1: identity, 3: torch.full((3,), 1 / 3)}.get(network.upscale, torch.tensor([0.25, 0.5, 0.25]))
    sources = _pairs(colours, BEFORE_UPSAMPLE_SLOPE)
    behind = _pairs(colours, NEAREST_SLOPE)
    for i, _ in enumerate(doubling_steps(network.upscale), start=1):
        _write_pairs(_conv(network.get_submodule(f"conv_up{i}")), sources, identity if i == 1 else gap)
        sources = behind
    _write_pairs(network.conv_hr, sources, identity)
    _read(network.conv_last, behind, last)


def _write_pairs(conv: nn.Conv2d, sources: Sequence[Sequence[tuple[int, float]]], taps: Tensor) -> None:
    _own_channels(conv, range(2 * len(sources)))
    for c, source in enumerate(sources):
        for index, factor in source:
            conv.weight[2 * c, index] = factor * torch.outer(taps, taps)
            conv.weight[2 * c + 1, index] = -factor * torch.outer(taps, taps)


def _read(conv: nn.Conv2d, sources: Sequence[Sequence[tuple[int, float]]], taps: Tensor) -> None:
    for c, source in enumerate(sources):
        for index, factor in source:
            conv.weight[c, index] = factor * torch.outer(taps, taps)
