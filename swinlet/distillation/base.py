"""The interface of a distillation type."""

from collections.abc import Sequence
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

    The features are there where the distillation type ``needs_features``, in the precision of their network, and may
    be views in which the tokens do not lie one after the other.
    """

    step: int
    L: Tensor
    H: Tensor
    E: Tensor
    student_features: Sequence[Tensor]
    teacher_image: Tensor | None
    teacher_features: Sequence[Tensor]


def restored(network: ImageNetwork, L: Tensor, with_features: bool) -> tuple[Tensor, list[Tensor]]:
    """A network's image of L and, where wanted, its features; else an empty list."""
    return network(L, return_features=True) if with_features else (network(L), [])


class Distillation(nn.Module):
    """Learning from the ground truth alone: distillation type "none", and the base of all others.

    A distillation type sets the class attributes, builds what it trains beside the student in ``__init__``, and
    returns its losses from ``forward``.

    Args:
        train: the ``train`` section.
        student, teacher: looked at for their widths and stages, never kept or changed; the teacher is None where
            ``needs_teacher`` is False, or its stored images will do.

    Raises:
        OptionError: the options do not fit the networks.
    """

    needs_teacher: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__()
        self.train_options = train

    @property
    def translator(self) -> Translator | None:
        """The module saved as ``netP``, where there is one; trained with the student."""
        return None

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """Losses by the name under which they are logged: scalars, their weights applied, to be summed.

        They are means over the samples: a batch may come in parts, whose losses are averaged.
        """
        return {}
