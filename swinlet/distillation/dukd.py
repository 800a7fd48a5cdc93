"""Data upcycling: the teacher is asked about images that have no ground truth, or another one.

Zhang et al., "Data Upcycling Knowledge Distillation for Image Super-Resolution" (arXiv:2309.14162; AugKD, AAAI 2025).
The public code takes two optimiser steps in an iteration and undoes the changes of an image in the order in which they
were made; here all losses are summed for one step, and changes are undone in reverse order.
"""

from torch import Tensor

from swinlet.distillation.base import Distillation, Lesson
from swinlet.distillation.losses import select_loss
from swinlet.distillation.views import OPERATIONS, restored_changed, windows, zoomed_out
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.options import TrainOptions
from swinlet.options.schema import UpcyclingOptions


class UpcyclingDistillation(Distillation):
    """Zoom-in, label consistency, zoom-out; L1 throughout.

    With u a random window of H, as large as L and taken for a low-resolution image; g random operations (invert,
    mirror, turn upside down, transpose); v the bicubically downscaled L, left out where it is smaller than a window of
    the student:

    zoom_in * |S(u) - T(u)| + consistency * |g^-1 S(g u) - T(u)| + zoom_out * (|S(v) - x| + |S(v) - T(v)|)
    """

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        options = train.method("dukd")
        assert isinstance(options, UpcyclingOptions)
        self._options = options
        self._loss = select_loss("l1")
        self._smallest = student.window_size
        self._scale = student.upscale

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """``l_g_zoom_in``, ``l_g_consistency`` and ``l_g_zoom_out``, those whose weight is not 0."""
        draws = lesson.random(2 + OPERATIONS)
        height, width = lesson.L.shape[2:]
        u = windows(lesson.H, height, width, draws[:, :2])
        target = lesson.ask_teacher(u)
        losses: dict[str, Tensor] = {}
        if self._options.zoom_in:
            losses["l_g_zoom_in"] = self._options.zoom_in * self._loss(lesson.ask_student(u), target)
        if self._options.consistency:
            answer = restored_changed(lesson.ask_student, u, draws[:, 2:])
            losses["l_g_consistency"] = self._options.consistency * self._loss(answer, target)
        pair = zoomed_out(lesson.L, self._scale, self._smallest) if self._options.zoom_out else None
        if pair is not None:
            v, truth = pair
            answer = lesson.ask_student(v)
            loss = self._loss(answer, truth) + self._loss(answer, lesson.ask_teacher(v))
            losses["l_g_zoom_out"] = self._options.zoom_out * loss
        return losses or {"l_g_zoom_in": 0 * lesson.E.sum()}
