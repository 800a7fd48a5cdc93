"""The teacher: built from its checkpoint, checked against the options and the student, frozen."""

import logging

from swinlet.errors import OptionError
from swinlet.models.image_network import ImageNetwork
from swinlet.models.network_swinir import SwinIR
from swinlet.models.open_network import open_any_network
from swinlet.models.select_network import define_G
from swinlet.options import NetworkOptions, Options
from swinlet.weights import read_weight_file

LOGGER = logging.getLogger("swinlet")


def define_teacher(opt: Options, student: SwinIR) -> ImageNetwork:
    """Build the frozen teacher, in eval mode, on the CPU.

    Its architecture is read off ``path.pretrained_netTeacher``: a SwinIR, with which a ``netTeacher`` section must
    agree, or any network that spandrel knows. Without a checkpoint it is a SwinIR with random weights, for a caller who
    loads them.

    Raises:
        OptionError: the section contradicts the checkpoint, or the teacher does not fit the student.
        CheckpointError: the file cannot be read, or is no network for super-resolution that is known.
    """
    path = opt.path.pretrained_netTeacher
    if path is None:
        section = opt.netTeacher or NetworkOptions(net_type="swinir")
        teacher = define_G(opt.completed(section), "netTeacher")
        LOGGER.warning("the teacher has random weights: path.pretrained_netTeacher is not set")
    else:
        file = read_weight_file(path, "path.pretrained_netTeacher")
        teacher = open_any_network(file, default_type="swinir", section=opt.netTeacher, section_name="netTeacher")
    _check_fit(teacher, student, opt, path or "netTeacher")
    return teacher.requires_grad_(False).eval()


def _check_fit(teacher: ImageNetwork, student: SwinIR, opt: Options, source: object) -> None:
    for key, option in (("upscale", "scale"), ("in_chans", "n_channels")):
        its, ours = getattr(teacher, key), getattr(student, key)
        if its == ours:
            continue
        hint = f"choose another teacher, or change {option} and netG.{key}"
        if (
            key == "upscale"
            and isinstance(teacher, SwinIR)
            and teacher.upsampler == "nearest+conv"
            and {its, ours} == {2, 3}
        ):
            hint = f"its weights serve x2 and x3: if it is x{ours}, say so in netTeacher.upscale"
        raise OptionError(f"{source}: the teacher's {key} is {its}, the student's {ours}: {hint}")
    if opt.train.teacher_precision not in teacher.precisions:
        raise OptionError(
            f"train.teacher_precision: {source} does not compute in {opt.train.teacher_precision}: use "
            f"{' or '.join(teacher.precisions)}"
        )
