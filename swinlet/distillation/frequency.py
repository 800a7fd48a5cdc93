"""Frequency distillation: the spectra of student and teacher approach each other.

A loss in the frequency domain weighs all patterns of an image by their amplitude, wherever they stand: Cho et al.,
"Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (ICCV 2021, arXiv:2108.05054), there against the truth.
"""

from typing import cast

import torch
from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.utils.device import autocast


class FrequencyDistillation(Distillation):
    """mean |rfft2(S(x)) - rfft2(T(x))|, of orthonormal transforms."""

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_frequency``."""
        assert lesson.teacher_image is not None
        return {"l_g_frequency": spectral_distance(lesson.E, lesson.teacher_image)}


class FrequencyWithoutTeacher(Distillation):
    """The same loss against H: a control, to tell what the teacher adds from what the loss does."""

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_frequency_truth``."""
        return {"l_g_frequency_truth": spectral_distance(lesson.E, lesson.H)}


def spectral_distance(images: Tensor, targets: Tensor) -> Tensor:
    """mean |rfft2(images - targets)|, orthonormal, in fp32; images (N, C, H, W)."""
    with autocast(images.device, "fp32"):
        difference = images.float() - targets.float()
        return cast("Tensor", torch.fft.rfft2(difference, norm="ortho")).abs().mean()
