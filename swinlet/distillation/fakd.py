"""Feature-affinity distillation: which places of an image resemble each other, in the student's and the teacher's eyes.

He et al., "FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image Super-Resolution", ICIP 2020. No
map between the widths is needed: an affinity matrix has a row and a column for each token, whatever its width.

The matrices take 8 * L**2 bytes for each sample and pair of stages, and about as much again for gradients: token maps
are pooled to at most 32x32, so that L is at most 1024, and a batch of 32 with 4 pairs takes about 2 GB.
"""

import torch.nn.functional as F
from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.distillation.stages import paired_stages
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR, to_image, to_tokens
from swinlet.options import TrainOptions
from swinlet.utils.device import autocast

MAX_SIDE = 32  # tokens


class AffinityDistillation(Distillation):
    """Sum over pairs (s, t) of mean |A(F_student[s]) - A(F_teacher[t])|.

    A(F) = F^ F^T, (L, L), of tokens F^ that are normalised over their channels. The published weight, 10, is for images
    in [0, 255]: 10 / 255 for [0, 1].
    """

    default_weight = 10 / 255

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        assert teacher is not None
        self.pairs = paired_stages(train, student, teacher, by_depth=True)

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_fakd``."""
        with autocast(lesson.E.device, "fp32"):
            parts = [
                F.l1_loss(
                    affinity(lesson.student_features[s], lesson.grid), affinity(lesson.teacher_features[t], lesson.grid)
                )
                for s, t in self.pairs
            ]
        return {"l_g_fakd": sum(parts[1:], parts[0])}


def affinity(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cosines between all tokens (N, H*W, C) of a map of H x W, pooled to at most 32x32: float32 (N, L, L)."""
    tokens = tokens.float()
    if max(grid) > MAX_SIDE:
        height, width = (min(side, MAX_SIDE) for side in grid)
        tokens = to_tokens(F.adaptive_avg_pool2d(to_image(tokens.contiguous(), grid), (height, width)))
    directions = F.normalize(tokens, dim=-1, eps=1e-8)
    return directions @ directions.mT
