"""Which of the student's token maps is compared with which of the teacher's."""

from swinlet.errors import OptionError
from swinlet.models.image_network import Featured
from swinlet.models.network_swinir import SwinIR
from swinlet.options import TrainOptions


def paired_stages(
    train: TrainOptions, student: SwinIR, teacher: Featured, *, by_depth: bool = False
) -> list[tuple[int, int]]:
    """(student stage, teacher stage) of each pair; stages may be taps, or stored features.

    Args:
        train: whose ``feature_pairs`` are taken where there are some.
        student, teacher: of the run.
        by_depth: pair the end of each student stage with the teacher stage that ends at the same share of the depth, or
            next after: 0..3 of 4 with 1, 2, 4, 5 of 6. Else stages with equal numbers.

    Raises:
        OptionError: they cannot be paired so.
    """
    stages = len(student.feature_widths), len(teacher.feature_widths)
    if isinstance(teacher, SwinIR) and student.window_size != teacher.window_size:
        raise OptionError(
            f"netG.window_size: feature distillation compares token maps, so it must be the teacher's "
            f"({teacher.window_size}), not {student.window_size}"
        )
    if train.feature_pairs is None:
        if by_depth:
            return [(s, -(-(s + 1) * stages[1] // stages[0]) - 1) for s in range(stages[0])]
        if stages[0] > stages[1] or (not isinstance(teacher, SwinIR) and stages[0] < stages[1]):
            raise OptionError(
                f"train.feature_pairs: the student has {stages[0]} stages, the teacher {stages[1]}: "
                "say which to pair, e.g. [[0, 0], [1, 1]]"
            )
        return [(i, i) for i in range(stages[0])]
    for pair in train.feature_pairs:
        if pair[0] >= stages[0] or pair[1] >= stages[1]:
            raise OptionError(
                f"train.feature_pairs: {list(pair)} is out of range; stages count from 0, the student has "
                f"{stages[0]}, the teacher {stages[1]}"
            )
    return list(train.feature_pairs)
