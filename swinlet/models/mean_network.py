"""Several networks as one: the weighted mean of their images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from swinlet.models.image_network import ImageNetwork


class MeanNetwork(ImageNetwork):
    """The weighted mean of the images of several networks, which have one scale and one number of channels.

    Args:
        networks: at least one.
        weights: positive, one for each; they count in proportion to their sum.
    """

    def __init__(self, networks: Sequence[ImageNetwork], weights: Sequence[float]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.upscale, self.in_chans = networks[0].upscale, networks[0].in_chans
        self.precisions = tuple(name for name in self.precisions if all(name in one.precisions for one in networks))
        self.shares = [weight / sum(weights) for weight in weights]
        self._all = tuple(networks)
        self._kinds = ", ".join(network.kind for network in networks)

    @property
    def kind(self) -> str:
        """Those of the networks."""
        return f"mean of {self._kinds}"

    @property
    def bytes_per_pixel(self) -> int:
        """Of the network that takes most."""
        return max(network.bytes_per_pixel for network in self._all)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, h, w) in [0, 1] -> float32 (N, in_chans, h * upscale, w * upscale)."""
        images = [share * network(x).float() for share, network in zip(self.shares, self._all, strict=True)]
        return torch.stack(images).sum(0)
