"""Pictures with transparency, for networks that know none.

A network looks at neighbours, so colours that nobody sees (black under transparent pixels) would be drawn into the
edges of what is visible. The picture is therefore laid over a smooth background of its own colours, enlarged like any
other, and the background is taken away again.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_HIDDEN = 1 / 255  # alpha up to which a colour counts as unseen: it changes what is seen by one level at most
_LEAST_SHARE = 1 / 8  # divided by: below, errors of the network would outweigh the colour
_FINEST = 2  # level of the pyramid, whose pixels are means of 4x4: the background holds no detail


def visible_share(alpha: Tensor) -> Tensor:
    """How much of a pixel's own colour counts, in [0, 1], for alpha in [0, 1]."""
    return (alpha - _HIDDEN).clamp_(min=0).div_(1 - _HIDDEN)


def spread_colour(colour: Tensor, share: Tensor) -> Tensor:
    """A smooth background of the colours that are visible near each pixel.

    Weighted means over the smallest squares of a pyramid that hold enough weight; what is missing to that is filled up
    from the next larger ones ("pull-push": Gortler et al., The Lumigraph, 1996). Weights are the third power of the
    share: many half transparent pixels must not outvote a few opaque ones.

    Args:
        colour: (N, C, h, w), float32.
        share: (N, 1, h, w), float32 in [0, 1].

    Returns:
        As ``colour``.
    """
    weights = [share**3]
    totals = [colour * weights[0]]
    while max(weights[-1].shape[-2:]) > 1:
        totals.append(_halved(totals[-1]))
        weights.append(_halved(weights[-1]))
    background = _mean(totals[-1], weights[-1])
    for level in reversed(range(len(weights) - 1)):
        total, weight = totals[level], weights[level]
        height, width = weight.shape[-2:]
        background = F.interpolate(background, scale_factor=2, mode="bilinear")[..., :height, :width]
        if level >= _FINEST:
            background = torch.lerp(background, _mean(total, weight), weight.clamp(max=1))
    return background


def laid_over(background: Tensor, colour: Tensor, share: Tensor) -> Tensor:
    """What is seen of a colour over a background."""
    return torch.lerp(background, colour, share)


def taken_off(image: Tensor, background: Tensor, share: Tensor) -> Tensor:
    """The colour that is seen as an image when laid over a background: the inverse of ``laid_over``.

    Args:
        image: (N, C, H, W); is overwritten with the result.
        background: (N, C, h, w), enlarged by interpolation here.
        share: (N, 1, H, W).

    Returns:
        (N, C, H, W) in [0, 1]; close to the background where the share is small.
    """
    share = share.clamp(min=_LEAST_SHARE)
    for i in range(image.shape[1]):  # results are large, so one plane at a time
        plane = image[:, i : i + 1]
        behind = F.interpolate(background[:, i : i + 1], size=image.shape[-2:], mode="bicubic")
        plane.sub_(behind).div_(share).add_(behind)
    return image.clamp_(0, 1)


def _mean(total: Tensor, weight: Tensor) -> Tensor:
    return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)


def _halved(image: Tensor) -> Tensor:
    """Sums of 2x2 pixels."""
    height, width = image.shape[-2:]
    return F.avg_pool2d(F.pad(image, (0, width % 2, 0, height % 2)), 2, divisor_override=1)
