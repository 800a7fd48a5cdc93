"""The project manager: student, teacher, translator, moving average and one optimisation step."""

import copy
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import DistributedDataParallelKwargs
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from swinlet.checkpoint import SealedSet, write_best, write_set
from swinlet.distillation import Combination, TrainingTask, restored, stored_features
from swinlet.distillation.task import PIXEL
from swinlet.errors import CheckpointError, TrainingError
from swinlet.models.image_network import ImageNetwork
from swinlet.models.init_teacher import start_from_teacher
from swinlet.models.network_swinir import SwinIR, to_tokens
from swinlet.models.network_translator import Translator
from swinlet.models.optimizer import define_optimizer, load_moments, moments_of, take_moments
from swinlet.models.regularizers import push_singular_values, push_weights
from swinlet.models.select_network import check_recorded, define_G
from swinlet.models.select_teacher import define_teacher, open_teacher
from swinlet.models.transformer import DropPath
from swinlet.options import Options, PathOptions, Precision
from swinlet.schedules import ema_decay, learning_rate
from swinlet.utils.accelerator import join_processes, make_accelerator
from swinlet.utils.device import autocast, teacher_precision
from swinlet.weights import WeightFile, load_into, read_pth, read_weight_file

LOGGER = logging.getLogger("swinlet")

_Average = Callable[[list[Tensor], list[Tensor], int], None]


class ModelPlain:
    """A student that learns from ground truth and, where the options say so, from a frozen teacher.

    Attributes:
        netG: the student.
        netE: its exponential moving average (None with ``E_decay`` 0).
        netP: the translator (None unless a distillation type trains one).
        netTeacher: the frozen teacher (None unless something is distilled, or where stored answers will do).

        reads_are_free: reading values off the device makes nothing wait (it does on CUDA).
        processes: those of the run; each computes its share of every batch.
        updated: the last iteration whose update is whole; None before the first, and while one is under way.

    All networks are plain modules on ``device``; weights may be loaded into them before ``init_train``.

    Raises:
        OptionError, CheckpointError: the options are wrong, or the teacher does not fit.
        DataError: the teacher's features are to be read, and cannot.
    """

    def __init__(self, opt: Options) -> None:
        self.opt = opt
        self.processes = join_processes(opt.gpu_ids)
        self._accelerator = make_accelerator(opt.gpu_ids, opt.train.precision, _data_parallel(opt))
        self.device = self._accelerator.device
        with torch.random.fork_rng(devices=[]):  # same seed, same first weights, whatever was drawn before
            torch.manual_seed(opt.train.manual_seed)
            self.netG = define_G(opt)
            self.netG.activation_checkpointing = opt.train.activation_checkpointing
            stored = stored_features(opt, self.netG)
            self._with_features = opt.train.needs("features") and stored is None
            self.netTeacher: ImageNetwork | None = None
            if opt.teacher_is_asked:
                self.netTeacher = define_teacher(opt, self.netG, with_features=self._with_features)
            self._distillation = Combination(opt.train, self.netG, stored or self.netTeacher)
        if self.netTeacher is not None:
            self.netTeacher.to(self.device)
            self._teacher_precision: Precision = teacher_precision(opt.train.teacher_precision, self.device)
        self.netE: SwinIR | None = None
        if opt.train.E_decay > 0:
            self.netE = copy.deepcopy(self.netG).requires_grad_(False).eval().to(self.device)
        self.netP: Translator | None = self._distillation.translator
        task = TrainingTask(
            opt.train, self.netG, self._distillation, self._ask_network, teacher_is_stored=opt.teacher_is_stored
        )
        self._task = task.to(self.device)
        self._drop_paths = [module for module in self.netG.modules() if isinstance(module, DropPath)]
        self._images: dict[str, Tensor] = {}
        self._feature_keys = [f"F{i}" for i in range(len(stored.feature_widths))] if stored is not None else []
        self._features: list[Tensor] = []
        self._slots, self._batch = range(0), 0
        self.updated: int | None = None
        self._losses: dict[str, Tensor] = {}
        self.reads_are_free = self.device.type != "cuda"

    def init_train(self, *, pretrained: bool = True) -> None:
        """Load the weights that ``path`` names, make netE a copy of netG, and set up the optimiser.

        Args:
            pretrained: False leaves the named files alone, for a run that ``load_checkpoint`` continues.

        Raises:
            CheckpointError: a named file is missing, unreadable, or does not fit.
        """
        path = self.opt.path if pretrained else PathOptions()
        optimizer = self.processes.agree(lambda: self._start_from(path))
        prepared = cast("tuple[TrainingTask, torch.optim.Optimizer]", self._accelerator.prepare(self._task, optimizer))
        self._wrapped_task, self._optimizer = prepared
        self._is_good = torch.ones((), dtype=torch.bool, device=self.device)
        self._is_fused = bool(optimizer.param_groups[0]["fused"])
        optimizer.register_step_pre_hook(self._tell_kernel)
        self._task.train()
        if self.netE is not None:
            self._averages: list[Tensor] = list(self.netE.parameters())
            self._averaged: list[Tensor] = list(self.netG.parameters())

    def _start_from(self, path: PathOptions) -> torch.optim.Optimizer:
        """Load the files that ``path`` names; return the optimiser."""
        train = self.opt.train
        if self.opt.netG.init_type == "teacher" and path.pretrained_netG is None:
            for source in path.teachers:
                start_from_teacher(self.netG, open_teacher(source, self.opt))
                LOGGER.info("first weights: those of %s", source)
        if path.pretrained_netG is not None:
            _load(self.netG, path.pretrained_netG, "path.pretrained_netG", train.G_param_strict)
        if self.netP is not None and path.pretrained_netP is not None:
            _load(self.netP, path.pretrained_netP, "path.pretrained_netP", strict=True)
        if self.netE is not None:
            self.netE.load_state_dict(self.netG.state_dict())
            if path.pretrained_netE is not None:
                _load(self.netE, path.pretrained_netE, "path.pretrained_netE", train.E_param_strict)
        self._trained = list(self._task.parameters())
        optimizer = define_optimizer(train, self._trained)
        if path.pretrained_optimizerG is not None and train.G_optimizer_reuse:
            load_moments(optimizer, path.pretrained_optimizerG, "path.pretrained_optimizerG")
        return optimizer

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch.

        Args:
            data: ``L`` (N, C, h, w) and, except for testing without ground truth, ``H`` (N, C, h*scale, w*scale);
                float in [0, 1], or uint8, which is converted once here. ``slots``: which samples of the iteration's
                batch these are (a range), and ``batch``: how many it has; without them these are all. ``T``: the
                teacher's images, as H, where the options name stored ones; and ``F0``, ``F1``, ...: its features
                (N, width, h, w), in whatever precision. ``U``: patches of unlabelled photographs, as L. Other keys are
                ignored.
        """
        self._images = {key: self._to_device(data[key]) for key in ("L", "H", "T", "U") if key in data}
        stored = [data[key] for key in self._feature_keys if key in data]
        self._features = [to_tokens(maps.to(self.device, non_blocking=True)) for maps in stored]
        self._slots = data.get("slots", range(len(data["L"])))
        self._batch = data.get("batch", len(data["L"]))

    def _to_device(self, image: Tensor) -> Tensor:
        image = image.to(self.device, non_blocking=True)
        return image.float().div_(255) if image.dtype == torch.uint8 else image.float()

    def optimize_parameters(self, step: int) -> None:
        """One update of student, translator and moving average, with the learning rate of iteration ``step``.

        Where a loss or the norm of the gradient is no finite number, none of them changes, nor the optimiser's state.
        That is decided on the device, which is not waited for.
        """
        for name in self._distillation.unmeasured(step):
            self._measure(step, name)
        losses = self._differentiate(step)
        losses["G_loss"] = functools.reduce(torch.add, losses.values())
        values = self.processes.sum(torch.stack(list(losses.values())))
        self._losses = dict(zip(losses, values, strict=True))
        self._outcome = torch.cat([values, self._gradient_norm()[None]])
        self.updated = None
        self._is_good = self._outcome.isfinite().all()
        self._step_optimizer(step)
        self._regularize(step)
        self._update_ema(step)
        self.updated = step

    def _differentiate(self, step: int) -> dict[str, Tensor]:
        """Gradients of the whole batch, and this process's part of the losses."""
        self._optimizer.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        parts = self._parts()
        for part in parts:
            share = len(part) / self._batch
            # The wrapper takes the mean of the processes' gradients, with those of the last part.
            waits = nullcontext() if part is parts[-1] else self._accelerator.no_sync(self._wrapped_task)
            with waits:
                E, of_part = self._learn(step, part, self._wrapped_task)
                total = functools.reduce(torch.add, of_part.values())
                self._accelerator.backward(total * (share * self.processes.count))
            for name, loss in of_part.items():
                value = loss.detach() * share
                losses[name] = losses[name] + value if name in losses else value
            self._images.setdefault("E", E.detach())
        return losses

    def _parts(self) -> list[range]:
        return _split(self._slots, self.opt.train.gradient_accumulation_steps)

    def _measure(self, step: int, name: str) -> None:
        """Give a distillation type the weight with which its gradient has its share of the pixel loss's.

        Where the pixel loss or its gradient is not finite, the iteration will be skipped: the next one measures.

        Raises:
            TrainingError: one of the gradients is zero, or the type's is not finite.
        """
        pixel = self._student_gradient(step, PIXEL)
        if not math.isfinite(pixel):
            return
        own = self._student_gradient(step, name)
        share = self._distillation.share(name)
        assert share is not None, "only such types are measured"
        weight = share * pixel / own if pixel and own else math.inf
        if not math.isfinite(weight):
            raise TrainingError(
                f"train.distillation.{name}: its weight cannot be measured in iteration {step}: the norm of its "
                f"gradient is {own:.3g}, that of the pixel loss's {pixel:.3g}; give it a weight instead"
            )
        # Four digits: what the log tells is what is used, however many processes have summed the gradients.
        weight = self._distillation.measured[name] = float(f"{weight:.4g}")
        text = "weight of %s: %.4g, with which its gradient (%.3g) has %g of the pixel loss's norm (%.3g)"
        LOGGER.info(text, name, weight, own, share, pixel)

    def _student_gradient(self, step: int, which: str) -> float:
        """Norm of the gradient of one loss alone, by the student's weights, over the whole batch; infinite or not a
        number where the loss is."""
        weights = list(self.netG.parameters())
        total = torch.zeros(1 + sum(weight.numel() for weight in weights), device=self.device)
        for part in self._parts():
            loss = self._learn(step, part, self._task, which)[1][which] * (len(part) / self._batch)
            gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
            # The L1 loss of what is no number has a gradient of zero.
            total += torch.cat([0 * loss.detach()[None], *(gradient.flatten() for gradient in gradients)])
        return float(get_total_norm([self.processes.sum(total)]))

    def _learn(
        self, step: int, part: range, task: TrainingTask, only: str | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's images of a part of the batch, and its losses: see ``TrainingTask``."""
        seed_drop_path(self.opt.train.manual_seed, step)
        for module in self._drop_paths:
            module.part = (part.start, self._batch)
        here = slice(part.start - self._slots.start, part.stop - self._slots.start)
        L, H = self._images["L"][here], self._images["H"][here]
        U = self._images["U"][here] if "U" in self._images else None
        first = (step - 1) * self._batch
        positions = range(first + part.start, first + part.stop)
        share = len(part) / self._batch
        return task(step, L, H, *self._ask_teacher(step, here), share, U=U, positions=positions, only=only)

    def _gradient_norm(self) -> Tensor:
        """Of all that is trained, before it is clipped here where the options say so."""
        limit = self.opt.train.G_optimizer_clipgrad
        if limit:
            return cast("Tensor", self._accelerator.clip_grad_norm_(self._trained, limit))
        self._accelerator.unscale_gradients()
        return get_total_norm([weight.grad for weight in self._trained if weight.grad is not None])

    def _step_optimizer(self, step: int) -> None:
        """With loss scaling the scaler is asked in any case: it looks at the gradients, and lowers its scale."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.opt.train, step)
        if self._is_fused or self._scaler is not None or self._is_good:
            self._optimizer.step()

    def _tell_kernel(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Before each step: the fused kernel leaves weights, moments and counters alone where ``found_inf`` is 1.

        A loss scaler has set it from the gradients alone.
        """
        if self._is_fused:
            cast("Any", optimizer).found_inf = (~self._is_good).float()

    def _update_ema(self, step: int) -> None:
        """Move the average towards the student, unless the step was skipped."""
        if self.netE is None:
            return
        decay = ema_decay(self.opt, step)
        if self.reads_are_free:
            if self._is_good:
                cast("_Average", get_ema_multi_avg_fn(decay))(self._averages, self._averaged, 0)
            return
        on_all = cast("Any", torch)  # functions that torch keeps private, and has no replacement for
        with torch.no_grad():
            way = on_all._foreach_sub(self._averaged, self._averages)
            on_all._foreach_mul_(way, (1 - decay) * self._is_good)
            on_all._foreach_add_(self._averages, way)

    def _ask_teacher(self, step: int, here: slice) -> tuple[Tensor | None, list[Tensor]]:
        """The teacher's images of a part of the batch, and its features, where they are compared in an iteration."""
        if not self.opt.train.needs("images", "features", step=step):
            return None, []
        if self.opt.teacher_is_stored:
            return self._images["T"][here], [tokens[here] for tokens in self._features]
        assert self.netTeacher is not None, "what is not stored is asked"
        # Not inference_mode: the translator's gradient needs the features, and autograd keeps no tensor made there.
        with torch.no_grad(), autocast(self.device, self._teacher_precision):
            return restored(self.netTeacher, self._images["L"][here], self._with_features)

    def _ask_network(self, images: Tensor) -> Tensor:
        """The teacher's images of others than the batch's."""
        assert self.netTeacher is not None, "types that ask for more than is stored need the network"
        with torch.no_grad(), autocast(self.device, self._teacher_precision):
            return self.netTeacher(images)

    def _regularize(self, step: int) -> None:
        train = self.opt.train
        if step % train.checkpoint_save == 0:  # as in the reference: what is saved was not just pushed about
            return
        orthogonal, clip = (
            bool(every) and step % every == 0 for every in (train.G_regularizer_orthstep, train.G_regularizer_clipstep)
        )
        if (orthogonal or clip) and self._is_good:  # waits for the device, as singular values do
            if orthogonal:
                push_singular_values(self.netG)
            if clip:
                push_weights(self.netG)

    def current_learning_rate(self) -> float:
        """The learning rate of the last update."""
        return self._optimizer.param_groups[0]["lr"]

    def current_log(self) -> dict[str, float]:
        """The losses of the last update, weights applied: ``l_g_L1`` (the pixel loss, whatever its type),
        ``l_g_distill``, ``l_g_feature``, and their sum ``G_loss``; empty before the first. Waits for the device."""
        if not self._losses:
            return {}
        return dict(zip(self._losses, _read(self._losses.values()), strict=True))

    def outcome(self) -> tuple[list[str], Tensor]:
        """What decided whether the last step was taken: names of the losses and "gradient norm", and their values.

        The values, (number of names,), are on the device: the step was skipped unless all are finite.
        """
        return [*self._losses, "gradient norm"], self._outcome

    def not_finite(self) -> list[str]:
        """Which weights, averages and moments are infinite or no numbers, by name. Waits for the device."""
        tensors = {f"optimizerG.{name}": moment for name, moment in moments_of(self._optimizer).items()}
        for label, network in self._saved_networks.items():
            tensors |= {f"{label}.{name}": weight for name, weight in network.named_parameters()}
        good = _read(tensor.isfinite().all() for tensor in tensors.values())
        return [name for name, is_good in zip(tensors, good, strict=True) if not is_good]

    def test(self, weights: str | None = None) -> None:
        """Restore the images fed last, without gradient.

        Args:
            weights: "E" for the moving average (the default where there is one), "G" for the student as trained,
                "Teacher".
        """
        network = {"E": self.netE, "G": self.netG, "Teacher": self.netTeacher}[weights or self.tested_weights]
        assert network is not None, "these weights do not exist in this run"
        training = network.training
        network.eval()
        with torch.inference_mode():
            self._images["E"] = network(self._images["L"])
        network.train(training)

    @property
    def tested_weights(self) -> str:
        """Whose pictures a test shows: "E" (moving average, what is deployed) or, without one, "G"."""
        return "G" if self.netE is None else "E"

    def current_visuals(self) -> dict[str, Tensor]:
        """The first image of the last batch or test: L, E and, where given, H and T; float (C, H, W) on the CPU."""
        return {key: image[0].detach().float().cpu() for key, image in self._images.items()}

    @property
    def models_dir(self) -> Path:
        """Folder of the run's checkpoints."""
        return self.opt.run_dir / "models"

    def save(self, step: int, **record: Any) -> SealedSet:
        """Write ``models/{step}_{G,E,P,optimizerG}.pth`` and seal them; the teacher is not saved.

        G and E carry the buffers that the official implementation expects, so that it loads them strictly. The
        manifest holds ``record`` besides.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        states: dict[str, Any] = {
            label: network.official_state_dict() if isinstance(network, SwinIR) else dict(network.state_dict())
            for label, network in self._saved_networks.items()
        }
        states["optimizerG"] = self._optimizer.state_dict()
        scaler = self._scaler
        extra = {
            "distillation_weights": self._distillation.measured,
            "distillation_shares": self._distillation.shares,
            "network": self._network_record(),
            "options": self.opt.model_dump(mode="json"),
            "scaler": None if scaler is None else scaler.state_dict(),
            **record,
        }
        return write_set(self.models_dir, step, states, extra)

    def save_best(self, step: int, record: Mapping[str, Any]) -> Path:
        """Write the deployed weights as ``models/best_E.pth`` (``best_G.pth`` without moving average).

        Args:
            step: iterations done.
            record: what ``models/best.json`` is to say of them besides.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        network = self.netG if self.netE is None else self.netE
        record = {"step": step, **record, "network": self._network_record()}
        return write_best(self.models_dir, self.tested_weights, network.official_state_dict(), record)

    def _network_record(self) -> dict[str, Any]:
        """What a reader of the weights needs to know besides."""
        return {"net_type": self.opt.netG.net_type, **self.netG.config}

    @property
    def _saved_networks(self) -> dict[str, SwinIR | Translator]:
        networks = {"G": self.netG, "E": self.netE, "P": self.netP}
        return {label: network for label, network in networks.items() if network is not None}

    def load_checkpoint(self, sealed: SealedSet) -> None:
        """Continue from a complete checkpoint of this run, after ``init_train``; the main process alone reads it.

        Raises:
            CheckpointError: it belongs to other networks.
        """
        saved = self.processes.from_main(lambda: self._read(sealed))
        self.processes.agree(lambda: self._take_over(sealed, saved))
        extra = sealed.extra  # of before there were such types: without them
        self._distillation.resume(extra.get("distillation_weights", {}), extra.get("distillation_shares", {}))
        if self._scaler is not None and sealed.extra.get("scaler"):
            try:
                self._scaler.load_state_dict(sealed.extra["scaler"])
            except KeyError as error:
                raise CheckpointError(f"resume: checkpoint {sealed.step}: the loss scaler has no {error}") from error

    def _take_over(self, sealed: SealedSet, saved: Mapping[str, Any]) -> None:
        for label, network in self._saved_networks.items():
            _take(network, saved[label], strict=True)
        take_moments(self._optimizer, saved["optimizerG"], f"resume: {sealed.files['optimizerG']}")

    def _read(self, sealed: SealedSet) -> dict[str, Any]:
        """The content of a checkpoint's files by label, in the networks' case with what is known of them."""
        missing = [label for label in (*self._saved_networks, "optimizerG") if label not in sealed.files]
        if missing:
            raise CheckpointError(f"resume: checkpoint {sealed.step} has no {', '.join(missing)}")
        paths = {label: sealed.files[label] for label in self._saved_networks}
        networks = {label: read_weight_file(path, "resume") for label, path in paths.items()}
        return networks | {"optimizerG": read_pth(sealed.files["optimizerG"], "resume")}

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler of fp16 training."""
        return cast("torch.amp.GradScaler | None", self._accelerator.scaler)


def _read(scalars: Iterable[Tensor]) -> list[float]:
    """Values of tensors with one element each; waits once for the device."""
    return cast("list[float]", torch.stack(list(scalars)).tolist())


def _data_parallel(opt: Options) -> DistributedDataParallelKwargs:
    """How the trained modules are wrapped where there are several processes.

    While features are not compared the translator has no gradient, which the wrapper has to find
    out, or it would wait for one.
    """
    train = opt.train
    pauses = "feature" in train.distillation_types and train.start_feature_iter > 1
    pauses |= any(not train.method(name).is_always_on for name in train.distillation_types)
    return DistributedDataParallelKwargs(
        find_unused_parameters=opt.find_unused_parameters or pauses,
        static_graph=bool(opt.use_static_graph),
    )


def _split(slots: range, parts: int) -> list[range]:
    """So many parts, in order, whose lengths differ by one at most."""
    edges = [i * len(slots) // parts for i in range(parts + 1)]
    return [slots[start:stop] for start, stop in itertools.pairwise(edges) if stop > start]


def seed_drop_path(seed: int, step: int) -> None:
    """Make drop-path a pure function of seed, step and sample, so that a resumed run repeats an uninterrupted one."""
    torch.manual_seed((seed * 0x9E3779B97F4A7C15 + step) % 2**63)


def _load(network: SwinIR | Translator, path: Path, key: str, strict: bool) -> None:
    _take(network, read_weight_file(path, key), strict)
    LOGGER.info("%s: loaded %s", key, path)


def _take(network: SwinIR | Translator, file: WeightFile, strict: bool) -> None:
    load_into(network, file.state, strict=strict, source=file.source)
    if isinstance(network, SwinIR):
        check_recorded(network, file.recorded, file.source)
