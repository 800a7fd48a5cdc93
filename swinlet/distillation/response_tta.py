"""Response distillation with a better target: the mean of the teacher's images of eight views of the patch.

Averaging over flips and quarter turns ("x8", or "+" in the tables of papers) is due to Timofte et al., "Seven ways to
improve example-based single image super resolution" (CVPR 2016, arXiv:1511.02228).
"""

from torch import Tensor

from swinlet.distillation.base import Lesson
from swinlet.distillation.response import ResponseDistillation
from swinlet.utils.dihedral import VIEWS, turned, turned_back


class ResponseOfViews(ResponseDistillation):
    """weight * loss(S(x), mean over the views k of k^-1 T(k x)); stored answers are that mean already."""

    def target(self, lesson: Lesson) -> Tensor:
        """The mean over the views."""
        target = super().target(lesson)
        if lesson.teacher_is_stored:
            return target
        others = [turned_back(lesson.ask_teacher(turned(lesson.L, view)), view) for view in range(1, VIEWS)]
        return sum(others, target) / VIEWS
