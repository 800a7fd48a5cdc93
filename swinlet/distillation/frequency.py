"""Frequency distillation: the spectra of student and teacher approach each other.

A loss in the frequency domain weighs all patterns of an image by their amplitude, wherever they stand: Cho et al.,
"Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (ICCV 2021, arXiv:2108.05054), there against the truth.
"""

import torch
from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.utils.device import autocast


class FrequencyDistillation(Distillation):
    """mean |rfft2(S(x)) - rfft2(T(x))|, of orthonormal transforms."""

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_frequency``."""
        target = self.target(lesson)
        with autocast(lesson.E.device, "fp32"):
            difference = lesson.E.float() - target.float()
            return {"l_g_frequency": torch.fft.rfft2(difference, norm="ortho").abs().mean()}

    def target(self, lesson: Lesson) -> Tensor:
        """The teacher's image (N, C, h * scale, w * scale)."""
        assert lesson.teacher_image is not None
        return lesson.teacher_image


class FrequencyWithoutTeacher(FrequencyDistillation):
    """The same loss against H: a control, to tell what the teacher adds from what the loss does."""

    def target(self, lesson: Lesson) -> Tensor:
        """The ground truth."""
        return lesson.H
