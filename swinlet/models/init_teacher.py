"""First weights from the teacher: a student of the teacher's width takes over stages and blocks of it.

So DistilBERT starts, of every second layer of its teacher (Sanh et al., arXiv:1910.01108, section 3).
"""

import json
import re

import torch

from swinlet.errors import OptionError
from swinlet.models.image_network import ImageNetwork
from swinlet.models.network_swinir import SwinIR

_SAME = (
    "embed_dim",
    "num_heads",
    "window_size",
    "mlp_ratio",
    "upscale",
    "in_chans",
    "upsampler",
    "resi_connection",
    "qkv_bias",
    "patch_norm",
    "ape",
)
_LAYER = re.compile(r"layers\.(\d+)\.(?:residual_group\.blocks\.(\d+)\.)?")


def source_stage(stage: int, stages: int, of: int) -> int:
    """The teacher's stage, of so many, that one of the student's ``stages`` is copied from: spread evenly, with the
    first and the last, on which what is around them relies; 0..3 of 4 are 0, 2, 3, 5 of 6. One alone is the last."""
    return (2 * stage * (of - 1) + stages - 1) // (2 * (stages - 1)) if stages > 1 else of - 1


def source_block(block: int, blocks: int, of: int) -> int:
    """The same for the blocks of a stage. Every second has shifted windows, and stays what it is; of its kind each is
    the one that ends at the same share of the depth, or next after: 0, 1 of 2 are 2, 3 of 4."""
    shifted = block % 2
    alike, alike_of = (count + 1 - shifted for count in (blocks, of))
    return 2 * (-(-(block // 2 + 1) * (alike_of // 2) // (alike // 2)) - 1) + shifted


@torch.no_grad()
def start_from_teacher(student: SwinIR, teacher: ImageNetwork) -> None:
    """Copy the teacher's weights: all outside of the stages, and of these those that ``source_stage`` and
    ``source_block`` name.

    Raises:
        OptionError: the two differ in more than their depths, or the student is deeper.
    """
    if not isinstance(teacher, SwinIR):
        raise OptionError(f"netG.init_type: 'teacher' takes the weights of a SwinIR, but the teacher is {teacher.kind}")
    if student.block is not teacher.block:
        raise OptionError(
            f"netG.init_type: 'teacher' takes blocks over, but those of {type(student).__name__} compute something "
            f"else than those of {type(teacher).__name__}, the teacher's: choose another net_type, or another init_type"
        )
    depths = own, others = student.config["depths"], teacher.config["depths"]
    stages = [source_stage(stage, len(own), len(others)) for stage in range(len(own))]
    if len(own) > len(others) or any(own[s] > others[t] for s, t in enumerate(stages)):
        raise OptionError(
            f"netG.init_type: 'teacher' leaves blocks out, but netG.depths {list(own)} are more than the teacher's "
            f"{list(others)}"
        )
    wanted = teacher.config | {"num_heads": tuple(teacher.config["num_heads"][stage] for stage in stages)}
    for key in (*_SAME, "img_size") if student.config["ape"] else _SAME:
        ours, theirs = student.config[key], wanted[key]
        if ours != theirs:
            raise OptionError(
                f"netG.init_type: 'teacher' takes the teacher's weights, so netG.{key} has to be {json.dumps(theirs)}, "
                f"not {json.dumps(ours)}; or choose another init_type"
            )
    given = teacher.state_dict()
    student.load_state_dict({name: given[_source(name, *depths)] for name in student.state_dict()})


def _source(name: str, own: tuple[int, ...], others: tuple[int, ...]) -> str:
    """The name of the teacher's weight."""

    def renamed(match: re.Match[str]) -> str:
        own_stage = int(match[1])
        stage = source_stage(own_stage, len(own), len(others))
        if match[2] is None:
            return f"layers.{stage}."
        block = source_block(int(match[2]), own[own_stage], others[stage])
        return f"layers.{stage}.residual_group.blocks.{block}."

    return _LAYER.sub(renamed, name, count=1)
