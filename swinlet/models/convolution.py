"""The 3x3 convolution of all networks here."""

from torch import Tensor, nn

from swinlet import kernels


class Conv3x3(nn.Conv2d):
    """A convolution with zero padding that keeps the size; computed by ``swinlet.kernels`` where they can serve."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.packed = kernels.PackedCache()

    def forward(self, input: Tensor, plus: Tensor | None = None) -> Tensor:  # torch's own name
        """(N, ``inputs``, H, W) -> (N, ``outputs``, H, W), to which ``plus`` is added."""
        bias = self.bias
        assert bias is not None
        if kernels.serve_convolution(input, self.weight, bias):
            return kernels.convolve(input, self.weight, bias, plus, self.packed)
        return _sum(super().forward(input), plus)


class Bottleneck3x3(nn.Sequential):
    """The lighter end of a residual group: 3x3 to a quarter of the channels, 1x1, and 3x3 back."""

    def __init__(self, dim: int) -> None:
        narrow = dim // 4
        super().__init__(
            Conv3x3(dim, narrow),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, narrow, 1),
            nn.LeakyReLU(0.2),
            Conv3x3(narrow, dim),
        )

    def forward(self, input: Tensor, plus: Tensor | None = None) -> Tensor:  # torch's own name
        """(N, ``dim``, H, W) -> the same, to which ``plus`` is added."""
        for layer in self:
            input = layer(input)
        return _sum(input, plus)


def _sum(image: Tensor, plus: Tensor | None) -> Tensor:
    if plus is None:
        return image
    # Added pixel by pixel: exported otherwise, OpenVINO 2026.4 makes it part of the convolution, with wrong results.
    return (plus.permute(0, 2, 3, 1) + image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
