"""The interface of a distillation type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from swinlet.models.image_network import Featured, ImageNetwork
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.options import TrainOptions


@dataclass(frozen=True)
class Lesson:
    """What one step offers for comparison; images (N, C, h, w) in [0, 1], features (N, H*W, width) per RSTB.

    Attributes:
        step: iteration, from 1.
        L, H, E: low- and high-resolution patches, and the student's images of L.
        student_features, teacher_features: of L, where the distillation type needs "features", in the precision of
            their network; they may be views in which the tokens do not lie one after the other.
        grid: rows and columns of the token maps.
        teacher_image: of L, where the distillation type needs "images" or "features".
        teacher_is_stored: whether that was computed before the run: the mean of 8 views for ``response_tta``.
        U: patches as large as L of photographs that have no high-resolution partner, where there are some.
        ask_student: the student's images of other images.
        ask_teacher: the teacher's, without gradient, where the distillation type needs the "network".
        random: for each sample so many numbers in [0, 1), (N, count) on its device, which depend on nothing but the
            run's seed, the iteration and the sample: draw all that a type needs at once.
    """

    step: int
    L: Tensor
    H: Tensor
    E: Tensor
    student_features: Sequence[Tensor]
    teacher_image: Tensor | None
    teacher_features: Sequence[Tensor]
    grid: tuple[int, int]
    teacher_is_stored: bool
    U: Tensor | None
    ask_student: Callable[[Tensor], Tensor]
    ask_teacher: Callable[[Tensor], Tensor]
    random: Callable[[int], Tensor]


def restored(network: ImageNetwork, L: Tensor, with_features: bool) -> tuple[Tensor, list[Tensor]]:
    """A network's image of L and, where wanted, its features; else an empty list."""
    return network(L, return_features=True) if with_features else (network(L), [])


class Distillation(nn.Module):
    """Learning from the ground truth alone: distillation type "none", and the base of all others.

    A distillation type builds what it trains beside the student in ``__init__``, and returns its losses from
    ``forward``. What it asks the teacher for stands in the table of names (``swinlet/options/names.py``).

    Attributes:
        default_weight: factor on its losses, where neither ``train.distillation`` nor ``default_share`` says another.
        default_share: the weight is chosen, at the type's start, so that its gradient has this share of the pixel
            loss's.

    Args:
        train: the ``train`` section.
        student, teacher: looked at for their widths and stages, never kept or changed; the teacher is None where
            the type needs "nothing", or its stored images will do.

    Raises:
        OptionError: the options do not fit the networks.
    """

    default_weight: ClassVar[float] = 1.0
    default_share: ClassVar[float | None] = None

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__()
        self.train_options = train

    @property
    def translator(self) -> Translator | None:
        """The module saved as ``netP``, where there is one; trained with the student."""
        return None

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """Losses by the name under which they are logged: scalars, to be summed, before the type's weight.

        They are means over the samples: a batch may come in parts, whose losses are averaged.
        """
        return {}
