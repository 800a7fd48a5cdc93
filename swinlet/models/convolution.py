"""The 3x3 convolution of all networks here."""

from torch import Tensor, nn

from swinlet import kernels


class Conv3x3(nn.Conv2d):
    """A convolution with zero padding that keeps the size; computed by ``swinlet.kernels`` where they can serve."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.packed = kernels.PackedCache()

    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """(N, ``inputs``, H, W) -> (N, ``outputs``, H, W)."""
        bias = self.bias
        assert bias is not None
        if kernels.serve_convolution(input, self.weight, bias):
            return kernels.convolve(input, self.weight, bias, self.packed)
        return super().forward(input)
