"""The teacher: built from its checkpoint, checked against the options and the student, frozen."""

import logging
from pathlib import Path

from swinlet.errors import OptionError
from swinlet.models.image_network import ImageNetwork
from swinlet.models.mean_network import MeanNetwork
from swinlet.models.network_swinir import SwinIR
from swinlet.models.open_network import open_any_network
from swinlet.models.select_network import define_G
from swinlet.models.taps import TappedNetwork, fitting_modules
from swinlet.options import DatasetOptions, NetworkOptions, Options
from swinlet.weights import read_weight_file

_NAMED = 8  # modules in a message
LOGGER = logging.getLogger("swinlet")


def define_teacher(opt: Options, student: SwinIR, *, with_features: bool = False) -> ImageNetwork:
    """Build the frozen teacher, in eval mode, on the CPU.

    Its architecture is read off ``path.pretrained_netTeacher``: a SwinIR, with which a ``netTeacher`` section must
    agree, or any network that spandrel knows; of several files it is the mean network. Without a checkpoint it is a
    SwinIR with random weights, for a caller who loads them.

    Args:
        opt: of the run.
        student: what it is to fit.
        with_features: the teacher has to offer some: a SwinIR's own, or those of ``train.feature_taps``.

    Raises:
        OptionError: the section contradicts the checkpoint, or the teacher does not fit the student.
        CheckpointError: the file cannot be read, or is no network for super-resolution that is known.
    """
    paths = opt.path.teachers
    teachers = [open_teacher(path, opt) for path in paths] or [_random(opt)]
    for teacher, source in zip(teachers, paths or ["netTeacher"], strict=True):
        _check_fit(teacher, student, opt, source)
    shares = opt.train.teacher_weights
    teacher = teachers[0] if len(teachers) == 1 else MeanNetwork(teachers, shares or [1.0] * len(teachers))
    teacher.requires_grad_(False).eval()
    return _with_features(teacher, student, opt) if with_features else teacher


def open_teacher(path: Path, opt: Options) -> ImageNetwork:
    """The network of a teacher's weight file, with which a ``netTeacher`` section has to agree."""
    file = read_weight_file(path, "path.pretrained_netTeacher")
    return open_any_network(file, default_type="swinir", section=opt.netTeacher, section_name="netTeacher")


def _random(opt: Options) -> SwinIR:
    section = opt.netTeacher or NetworkOptions(net_type="swinir")
    LOGGER.warning("the teacher has random weights: path.pretrained_netTeacher is not set")
    return define_G(opt.completed(section), "netTeacher")


def _check_fit(teacher: ImageNetwork, student: SwinIR, opt: Options, source: object) -> None:
    for key, option in (("upscale", "scale"), ("in_chans", "n_channels")):
        its, ours = getattr(teacher, key), getattr(student, key)
        if its == ours:
            continue
        hint = f"choose another teacher, or change {option} and netG.{key}"
        serves_both = isinstance(teacher, SwinIR) and teacher.upsampler == "nearest+conv" and {its, ours} == {2, 3}
        if key == "upscale" and serves_both:
            hint = f"its weights serve x2 and x3: if it is x{ours}, say so in netTeacher.upscale"
        raise OptionError(f"{source}: the teacher's {key} is {its}, the student's {ours}: {hint}")
    if opt.train.teacher_precision not in teacher.precisions:
        raise OptionError(
            f"train.teacher_precision: {source} does not compute in {opt.train.teacher_precision}: use "
            f"{' or '.join(teacher.precisions)}"
        )


def _with_features(teacher: ImageNetwork, student: SwinIR, opt: Options) -> ImageNetwork:
    """The teacher, or a tapped one; looked at with a patch of the training set."""
    taps, train = opt.train.feature_taps, opt.datasets.train
    side = (train.H_size if train is not None else DatasetOptions.model_fields["H_size"].default) // opt.scale
    grid = range(student.token_grid(side), student.token_grid(side) + 1)
    if taps is not None:
        return TappedNetwork(teacher, taps, side, grid).requires_grad_(False).eval()
    if not teacher.feature_widths:
        fitting = fitting_modules(teacher, side, grid)
        names = ", ".join(fitting[:_NAMED])
        advice = f"name modules whose outputs are token maps, such as {names}" if fitting else "no module of it fits"
        raise OptionError(f"train.feature_taps: missing; {teacher.kind} does not say which features it has: {advice}")
    return teacher
