"""The student's second version: every transformer block adds its original input once more."""

from torch import Tensor

from swinlet.models.network_swinir import SwinTransformerBlock
from swinlet.models.network_swinir_student import SwinIRStudent


class SwinTransformerBlockV2(SwinTransformerBlock):
    """x -> block(x) + x, on top of the two residuals inside the block."""

    def forward(self, x: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        return super().forward(x, size, mask) + x


class SwinIRStudentV2(SwinIRStudent):
    """Same parameters and names as ``SwinIRStudent``, another function: weights are not interchangeable."""

    block = SwinTransformerBlockV2
