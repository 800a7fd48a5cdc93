"""Which of the keys that a user wrote have no effect in this run, and why."""

from collections.abc import Iterable, Iterator

from swinlet.options.schema import Options, Section

_RESPONSES = frozenset({"response", "response_tta", "feature"})
_USERS = {
    "distill_lossfn_type": _RESPONSES | {"unlabelled"},
    "distill_lossfn_weight": _RESPONSES,
    "feature_lossfn_type": {"feature", "feature_norm"},
    "feature_lossfn_weight": {"feature"},
    "start_feature_iter": {"feature"},
}
"""Which distillation types a key of the ``train`` section is read by."""
_WINDOW = 8  # of all presets


def keys_without_effect(opt: Options, processes: int = 1) -> list[str]:
    """One text per key, ``key.path (reason)``, for keys that were given a value and change nothing.

    Keys left out of the option file, null, or false are not listed: they ask for nothing.

    Args:
        opt: of the run.
        processes: how many train it.
    """
    alone = _single(opt) if processes == 1 else ()
    return [*_top(opt), *alone, *_datasets(opt), *_networks(opt), *_distillation(opt), *_training(opt)]


def _given(section: Section, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name in section.model_fields_set and getattr(section, name) not in (None, False):
            yield name


def _top(opt: Options) -> Iterator[str]:
    for name in _given(opt, ("merge_bn", "merge_bn_startpoint")):
        yield f"{name} (SwinIR has no batch normalisation)"


def _single(opt: Options) -> Iterator[str]:
    for name in _given(opt, ("dist", "find_unused_parameters", "use_static_graph")):
        yield f"{name} (training runs in one process; torchrun starts several)"
    if isinstance(opt.gpu_ids, tuple) and len(opt.gpu_ids) > 1:
        yield f"gpu_ids[1:] (training runs in one process, on GPU {opt.gpu_ids[0]}; torchrun starts several)"


def _datasets(opt: Options) -> Iterator[str]:
    names = ("H_size", "dataroot_T", "dataloader_shuffle", "dataloader_num_workers", "dataloader_batch_size")
    for phase, section in (("test", opt.datasets.test), ("val", opt.datasets.val)):
        for name in _given(section, names) if section is not None else ():
            yield f"datasets.{phase}.{name} (its images are read whole, one after the other)"


def _networks(opt: Options) -> Iterator[str]:
    for section, network in (("netG", opt.netG), ("netTeacher", opt.netTeacher)):
        if network is None:
            continue
        for name in _given(network, ("init_bn_type",)):
            yield f"{section}.{name} (SwinIR has no batch normalisation)"
        if network.init_type in ("default", "interpolation", "teacher"):
            for name in _given(network, ("init_gain",)):
                yield f"{section}.{name} (init_type is {network.init_type!r})"
    if opt.netG.init_type != "default" and opt.path.pretrained_netG is not None and opt.train.G_param_strict:
        yield "netG.init_type (path.pretrained_netG gives all weights)"
    if opt.netTeacher is not None:
        if opt.netTeacher.init_type != "default":
            yield "netTeacher.init_type (the teacher's weights are loaded)"
        for name in _given(opt.netTeacher, ("drop_path_rate",)):
            yield f"netTeacher.{name} (the teacher is not trained)"


def _distillation(opt: Options) -> Iterator[str]:
    if len(opt.path.teachers) < 2:
        for name in _given(opt.train, ("teacher_weights",)):
            yield f"train.{name} (path.pretrained_netTeacher is no list of several)"
    train = opt.train
    reason = f"distillation_type is {train.distillation_label!r}"
    if not train.needs_teacher:
        for name in _given(train, ("teacher_precision",)):
            yield f"train.{name} ({reason})"
        for name in () if opt.starts_from_teacher else _given(opt.path, ("pretrained_netTeacher",)):
            yield f"path.{name} ({reason})"
        for name in () if opt.starts_from_teacher else _given(opt, ("netTeacher",)):
            yield f"{name} ({reason})"
        if opt.datasets.train is not None:
            for name in _given(opt.datasets.train, ("dataroot_T",)):
                yield f"datasets.train.{name} ({reason})"
    elif opt.teacher_is_stored:
        yield from () if opt.teacher_is_asked else _stored(opt)
    elif opt.datasets.train is not None:
        for name in _given(opt.datasets.train, ("dataroot_T",)):
            yield f"datasets.train.{name} ({reason}, which asks the teacher itself)"
    types = set(train.distillation_types)
    for name, users in _USERS.items():
        for given in () if types & users else _given(train, (name,)):
            yield f"train.{given} ({reason})"
    if not train.needs("features"):
        for name in _given(train, ("feature_pairs", "feature_taps")):
            yield f"train.{name} ({reason})"
    if not types & {"feature", "feature_norm"}:
        for name in _given(opt.path, ("pretrained_netP",)):
            yield f"path.{name} ({reason})"
    if "feature" in types and train.start_feature_iter > train.total_iter:
        yield f"train.start_feature_iter (the feature loss never starts: total_iter is {train.total_iter})"
    if "unlabelled" not in types:
        for name in _given(opt.datasets, ("unlabelled",)):
            yield f"datasets.{name} ({reason})"
    yield from _schedules(opt)


def _schedules(opt: Options) -> Iterator[str]:
    """Weights and schedules of distillation types that are not used, or never act."""
    types = opt.train.distillation_types
    for name in _given(opt.train.distillation, type(opt.train.distillation).model_fields):
        if name not in types:
            yield f"train.distillation.{name} (distillation_type is {opt.train.distillation_label!r})"
    for name in types:
        start = opt.train.method(name).start_iter
        if start > opt.train.total_iter:
            yield f"train.distillation.{name}.start_iter (it never starts: total_iter is {opt.train.total_iter})"
    dukd, patches = opt.train.method("dukd"), opt.datasets.train
    window = opt.netG.window_size or _WINDOW
    if patches is not None and patches.H_size // opt.scale**2 < window:
        text = f"datasets.train.H_size {patches.H_size} makes patches of less than {window} pixels when scaled down"
        if "dukd" in types and getattr(dukd, "zoom_out", 0):  # its default asks for it, too
            yield f"train.distillation.dukd.zoom_out ({text})"
        if "augmentation" in types:
            yield f"zoom-out of distillation type augmentation ({text})"


def _stored(opt: Options) -> Iterator[str]:
    reason = "datasets.train.dataroot_T has the teacher's answers"
    network = (
        () if opt.starts_from_teacher else ((opt.path, "path.", ("pretrained_netTeacher",)), (opt, "", ("netTeacher",)))
    )
    for section, prefix, names in ((opt.train, "train.", ("teacher_precision",)), *network):
        for name in _given(section, names):
            yield f"{prefix}{name} ({reason})"


def _training(opt: Options) -> Iterator[str]:
    train = opt.train
    for name in train.perceptual_keys:
        yield f"train.{name} (there is no perceptual loss)"
    if train.G_lossfn_type != "charbonnier":
        for name in _given(train, ("G_charbonnier_eps",)):
            yield f"train.{name} (G_lossfn_type is {train.G_lossfn_type!r})"
    unused: dict[str, tuple[str, ...]] = {
        "MultiStepLR": ("G_scheduler_periods", "G_scheduler_restart_weights", "G_scheduler_eta_min"),
        "CosineAnnealingWarmRestarts": ("G_scheduler_milestones", "G_scheduler_gamma"),
        "cosine": (
            "G_scheduler_milestones",
            "G_scheduler_gamma",
            "G_scheduler_periods",
            "G_scheduler_restart_weights",
        ),
    }
    late = [milestone for milestone in train.G_scheduler_milestones if milestone > train.total_iter]
    if late and train.G_scheduler_type == "MultiStepLR" and "G_scheduler_milestones" in train.model_fields_set:
        yield f"train.G_scheduler_milestones {late} (never reached: total_iter is {train.total_iter})"
    for name in _given(train, unused[train.G_scheduler_type]):
        yield f"train.{name} (G_scheduler_type is {train.G_scheduler_type!r})"
    if opt.datasets.test is None and opt.datasets.val is None:
        for name in _given(train, ("checkpoint_test",)):
            yield f"train.{name} (neither datasets.test nor datasets.val is set)"
        for name in _given(train.keep_checkpoints, ("best",)) if train.keep_checkpoints is not None else ():
            yield f"train.keep_checkpoints.{name} (neither datasets.test nor datasets.val is set)"
    if opt.path.pretrained_optimizerG is not None and not train.G_optimizer_reuse:
        yield "path.pretrained_optimizerG (train.G_optimizer_reuse is false)"
    if opt.path.pretrained_netE is not None and train.E_decay == 0:
        yield "path.pretrained_netE (train.E_decay is 0)"
    for name in _given(train, ("E_warmup",)) if not (train.E_decay and opt.ema_warms_up) else ():
        reason = "path.pretrained_netE is what the EMA starts from" if train.E_decay else "E_decay is 0"
        yield f"train.{name} ({reason})"
