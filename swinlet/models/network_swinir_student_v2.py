"""The student's second version: every transformer block adds its original input once more."""

from swinlet.models.network_swinir_student import SwinIRStudent
from swinlet.models.transformer import SwinTransformerBlock


class SwinTransformerBlockV2(SwinTransformerBlock):
    """x -> block(x) + x, on top of the two residuals inside the block."""

    adds_input = True


class SwinIRStudentV2(SwinIRStudent):
    """Same parameters and names as ``SwinIRStudent``, another function: weights are not interchangeable."""

    block = SwinTransformerBlockV2
