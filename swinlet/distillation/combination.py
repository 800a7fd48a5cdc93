"""All distillation types of a run, each with its weight and schedule."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from swinlet.distillation.base import Distillation, Lesson
from swinlet.errors import OptionError
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.models.network_translator import Translator
from swinlet.options import TrainOptions
from swinlet.options.names import DISTILLATIONS, named_class


class Combination(Distillation):
    """The sum of the losses of ``train.distillation_type``, of none, one or several.

    Attributes:
        measured: weights that were measured (``Distillation.default_share``), by type; part of a checkpoint.

    Raises:
        OptionError: two types train maps that are saved as netP; a weight is to be measured without a pixel loss.
    """

    def __init__(self, train: TrainOptions, student: SwinIR, teacher: Featured | None) -> None:
        super().__init__(train, student, teacher)
        names = train.distillation_types
        self.methods = nn.ModuleDict(
            {name: named_class(DISTILLATIONS, name)(train, student, teacher) for name in names}
        )
        self.measured: dict[str, float] = {}
        translated = [name for name in names if self._method(name).translator is not None]
        if len(translated) > 1:
            raise OptionError(f"train.distillation_type: {' and '.join(translated)} each train a netP: choose one")
        self._translated = translated[0] if translated else None
        shares = [name for name in names if self.share(name) is not None]
        if shares and not train.G_lossfn_weight:
            raise OptionError(
                f"train.distillation.{shares[0]}: its weight is measured against the pixel loss, whose weight is 0 "
                "(train.G_lossfn_weight): give it a weight"
            )

    def _method(self, name: str) -> Distillation:
        return cast("Distillation", self.methods[name])

    @property
    def translator(self) -> Translator | None:
        """That of the one type that has one."""
        return None if self._translated is None else self._method(self._translated).translator

    def share(self, name: str) -> float | None:
        """Which share of the pixel loss's gradient that of a type is to have; None: its weight is given."""
        options = self.train_options.method(name)
        if options.weight is not None:
            return None
        return options.gradient_share or self._method(name).default_share

    def unmeasured(self, step: int) -> Sequence[str]:
        """Types that act in an iteration, and whose weight has to be measured before."""
        names = self.train_options.distillation_types
        wanted = [name for name in names if self.share(name) is not None and name not in self.measured]
        return [name for name in wanted if self.train_options.method(name).factor(step)]

    @property
    def shares(self) -> dict[str, float | None]:
        """The shares that the measured weights were measured for, part of a checkpoint as well."""
        return {name: self.share(name) for name in self.measured}

    def resume(self, measured: Mapping[str, float], shares: Mapping[str, float]) -> None:
        """Take over the weights of a checkpoint; one whose share has changed since is measured again."""
        self.measured |= {name: weight for name, weight in measured.items() if shares.get(name) == self.share(name)}

    def weight(self, name: str) -> float:
        """Factor on the losses of a type, before its schedule; 0 where it could not be measured yet."""
        if self.share(name) is not None:
            return self.measured.get(name, 0.0)
        given = self.train_options.method(name).weight
        return self._method(name).default_weight if given is None else given

    def alone(self, name: str, lesson: Lesson) -> Tensor:
        """The loss of one type, before its weight."""
        return torch.stack(list(self._method(name)(lesson).values())).sum()

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """Those of all types whose schedule is not at zero, weights applied.

        Raises:
            OptionError: two types name a loss alike; one would be lost.
        """
        found: dict[str, Tensor] = {}
        for name in self.train_options.distillation_types:
            factor = self.train_options.method(name).factor(lesson.step)
            if factor:
                factor *= self.weight(name)
                losses = self._method(name)(lesson)
                if twice := sorted(found.keys() & losses):
                    raise OptionError(
                        f"train.distillation_type: {name} has losses that another type of the list names alike "
                        f"({', '.join(twice)}): choose other names in its forward"
                    )
                found |= {key: factor * loss for key, loss in losses.items()}
        return found
