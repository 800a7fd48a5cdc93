"""The teacher: built from its checkpoint, checked against the options and the student, frozen."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from swinlet.errors import CheckpointError, OptionError
from swinlet.models.architecture import disagreements, read_architecture
from swinlet.models.network_swinir import SwinIR
from swinlet.models.select_network import check_recorded, define_G, given_config, select_network
from swinlet.options import NetworkOptions, Options
from swinlet.options.names import NETWORKS
from swinlet.weights import load_into, read_weights, recorded_network

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
        recorded = recorded_network(path)
        config = read_architecture(state, source)
        if recorded.img_range is not None:
            config["img_range"] = recorded.img_range
        net_type = recorded.net_type if recorded.net_type in NETWORKS else "swinir"
        if opt.netTeacher is not None:
            net_type = opt.netTeacher.net_type
            config = _agreed(state, config, opt.netTeacher, source)
        try:
            teacher = select_network(net_type)(**config)
        except ValueError as error:
            raise CheckpointError(f"{source}: these are not the weights of a SwinIR: {error}") from error
        load_into(teacher, state, strict=True, source=source)
        check_recorded(teacher, recorded, source)
    _check_fit(teacher, student, path or "netTeacher")
    return teacher.requires_grad_(False).eval()


def _agreed(state: Mapping[str, Tensor], found: dict[str, Any], section: NetworkOptions, source: str) -> dict[str, Any]:
    """The checkpoint's architecture, completed by the section where weights say nothing."""
    given = given_config(section)
    faults = [
        f"netTeacher.{name}: {value}, but {source} has {other}"
        for name, value, other in disagreements(state, found, given)
    ]
    if faults:
        raise OptionError("\n".join(faults))
    return found | given


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
