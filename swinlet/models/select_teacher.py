"""The teacher: built from its checkpoint, checked against the options and the student, frozen."""

import logging

from swinlet.errors import OptionError
from swinlet.models.network_swinir import SwinIR
from swinlet.models.open_network import open_network
from swinlet.models.select_network import define_G
from swinlet.options import NetworkOptions, Options
from swinlet.weights import read_weight_file

LOGGER = logging.getLogger("swinlet")


def define_teacher(opt: Options, student: SwinIR) -> SwinIR:
    """Build the frozen teacher, in eval mode, on the CPU.

    Its architecture is read off ``path.pretrained_netTeacher``; a ``netTeacher`` section must agree with it. Without
    a checkpoint the network keeps random weights, for a caller who loads them.

    Raises:
        OptionError: the section contradicts the checkpoint, or the teacher does not fit the student.
        CheckpointError: the file cannot be read, or is no SwinIR.
    """
    path = opt.path.pretrained_netTeacher
    if path is None:
        section = opt.netTeacher or NetworkOptions(net_type="swinir")
        teacher = define_G(opt.completed(section), "netTeacher")
        LOGGER.warning("the teacher has random weights: path.pretrained_netTeacher is not set")
    else:
        file = read_weight_file(path, "path.pretrained_netTeacher")
        teacher = open_network(file, default_type="swinir", section=opt.netTeacher, section_name="netTeacher")
    _check_fit(teacher, student, path or "netTeacher")
    return teacher.requires_grad_(False).eval()


def _check_fit(teacher: SwinIR, student: SwinIR, source: object) -> None:
    for key, option in (("upscale", "scale"), ("in_chans", "n_channels")):
        if teacher.config[key] == student.config[key]:
            continue
        hint = f"choose another teacher, or change {option} and netG.{key}"
        if key == "upscale" and teacher.upsampler == "nearest+conv" and {teacher.upscale, student.upscale} == {2, 3}:
            hint = f"its weights serve x2 and x3: if it is x{student.upscale}, say so in netTeacher.upscale"
        raise OptionError(
            f"{source}: the teacher's {key} is {teacher.config[key]}, the student's {student.config[key]}: {hint}"
        )
