"""The teacher: built from its checkpoint, checked against the options and the student, frozen."""

import logging
from typing import Any

from swinlet.checkpoint import load_into, read_weights
from swinlet.errors import OptionError
from swinlet.models.architecture import NOT_IN_WEIGHTS, read_architecture
from swinlet.models.network_swinir import SwinIR
from swinlet.models.select_network import NETWORKS, define_G, given_config
from swinlet.options import NetworkOptions, Options

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
        source = f"path.pretrained_netTeacher: {path}"
        state = read_weights(path, "path.pretrained_netTeacher")
        config = read_architecture(state, source)
        net_type = "swinir"
        if opt.netTeacher is not None:
            net_type = opt.netTeacher.net_type
            config = _agreed(config, opt.netTeacher, source)
        teacher = NETWORKS[net_type](**config)
        load_into(teacher, state, strict=True, source=source)
    _check_fit(teacher, student, path or "netTeacher")
    return teacher.requires_grad_(False).eval()


def _agreed(found: dict[str, Any], section: NetworkOptions, source: str) -> dict[str, Any]:
    """The checkpoint's architecture, completed by the section where weights say nothing."""
    given = given_config(section)
    # One enlarging convolution serves x2 and x3: there, the section decides.
    undecided = {*NOT_IN_WEIGHTS}
    # img_size matters only to a position table, and to whether windows shift at all.
    shifts = [size > found["window_size"] for size in (found["img_size"], given.get("img_size", 0))]
    if not found["ape"] and shifts[0] == shifts[1]:
        undecided.add("img_size")
    if found["upsampler"] == "nearest+conv" and {found["upscale"], given.get("upscale")} == {2, 3}:
        undecided.add("upscale")
    faults = [
        f"netTeacher.{name}: {value}, but {source} has {found[name]}"
        for name, value in given.items()
        if name not in undecided and value != found[name]
    ]
    if faults:
        raise OptionError("\n".join(faults))
    return found | {name: value for name, value in given.items() if name in undecided}


def _check_fit(teacher: SwinIR, student: SwinIR, source: object) -> None:
    for key, option in (("upscale", "scale"), ("in_chans", "n_channels")):
        if teacher.config[key] != student.config[key]:
            raise OptionError(
                f"{source}: the teacher's {key} is {teacher.config[key]}, the student's {student.config[key]}: "
                f"choose another teacher, or change {option} and netG.{key}"
            )
