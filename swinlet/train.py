"""The training loop: from options to a trained student. Read it top to bottom."""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from signal import Signals
from typing import Any, Literal, cast

from swinlet.checkpoint import SealedSet, newest_sealed, prune, unsealed_steps
from swinlet.data.dataset_sr import DatasetSR
from swinlet.data.select_dataset import Phase, define_Datasets, training_batches
from swinlet.errors import CheckpointError, OptionError, SwinletError, TrainingError
from swinlet.metrics import Scores
from swinlet.models.cost import parameter_count
from swinlet.models.model_plain import ModelPlain
from swinlet.models.select_model import define_Model
from swinlet.options import Options, TrainOptions, changed_keys, keys_without_effect
from swinlet.options.names import DISTILLATIONS
from swinlet.utils.accelerator import join_processes
from swinlet.utils.console import TrainingBar
from swinlet.utils.files import sha256_of
from swinlet.utils.lifeline import Lifeline
from swinlet.utils.run_lock import RunLock
from swinlet.utils.run_log import METRICS_FILE, RunLog
from swinlet.utils.signals import cleaning_up, stop_signals
from swinlet.validation import ADVICE, NAMES, BestWeights, TestPhase
from swinlet.watch import Watch

LOGGER = logging.getLogger("swinlet")

# Options without which a run is another run.
IDENTITY = ("scale:", "n_channels:", "train.distillation_type:", "train.feature_pairs:", "train.feature_taps:")


_FAR_BEHIND = 1.0  # dB of the EMA behind the student; usually it is ahead
_FORGOTTEN = 0.05  # share of the first weights in an EMA that does not matter any more


def train(opt: Options) -> bool:
    """Train a student as the options say; resume if ``<root>/<task>`` holds a complete checkpoint.

    Returns:
        True when the run is complete, False when a signal stopped it (its state is saved then).

    Raises:
        OptionError, DataError, CheckpointError: found before training starts, another run in the same folder among
            them; and CheckpointError when a checkpoint cannot be written.
    """
    total = opt.train.total_iter
    processes = join_processes(opt.gpu_ids)
    with (
        cleaning_up(),
        Lifeline(processes),
        ExitStack() as held,
        RunLog(opt, writes=processes.is_main) as log,
    ):
        processes.agree(lambda: check_teacher(opt))
        model = processes.agree(lambda: define_Model(opt))
        datasets = define_Datasets(opt, processes)
        train_set = datasets["train"]
        processes.agree(lambda: check_stored_teacher(opt, train_set))
        processes.from_main(lambda: lock(opt, held))
        sealed = start_or_resume(model, opt)
        start = 0 if sealed is None else sealed.step

        log.open(start)
        describe(model, opt, train_set, start)
        testing = Testing(model, datasets, opt, log, start)
        watch = Watch(opt, model, log, train_set, {} if sealed is None else sealed.extra.get("skipped", {}))
        checkpoints = Checkpoints(model, watch, opt.train)
        batches = training_batches(train_set, opt, range(start + 1, total + 1), processes, datasets.get("unlabelled"))
        with stop_signals() as stop, TrainingBar(total, start) as bar, checkpoints.rescued():
            if testing.was_missed(start):
                testing.run(start, bar)
            for step, batch in enumerate(batches, start=start + 1):
                model.feed_data(batch)
                model.optimize_parameters(step)
                watch.note(step)
                bar.advance(lambda: status(model))

                # Read once, for all processes: a signal during what follows waits for the next iteration.
                stopping = processes.maximum(stop.number)
                last = step == total
                if step % opt.train.checkpoint_print == 0 or stopping or last:
                    report_losses(model, watch, log, bar, step, epoch_of(step, opt, train_set))
                with bar.pause():
                    checkpoints.offer(step, wanted=stopping > 0)
                if testing.is_due(step):
                    testing.run(step, bar)
                if stopping and not last and checkpoints.are_up_to_date:
                    name = Signals(stopping).name
                    LOGGER.info("stopped by %s after iteration %d of %d; saved", name, step, total)
                    LOGGER.info("start the same command again to go on")
                    return False
        LOGGER.info("complete: weights in %s", model.models_dir)
        testing.compare(max(start, total))
    return True


class Testing:
    """When a run is tested, and on what; keeps the best weights.

    Args:
        model, opt, log: of the run.
        datasets: by name; "test" and "val" are tested, and the last of them chooses the best weights.
        start: iterations done before.
    """

    def __init__(
        self, model: ModelPlain, datasets: Mapping[Phase, DatasetSR], opt: Options, log: RunLog, start: int
    ) -> None:
        names: tuple[Literal["test", "val"], ...] = ("test", "val")
        self._model, self._opt, self._log = model, opt, log
        self._train_set = datasets["train"]
        of_run = opt, model.processes
        self._phases = [TestPhase(datasets[name], *of_run, name) for name in names if name in datasets]
        self._best = BestWeights(model, self._phases[-1], start) if self._phases else None

    def is_due(self, step: int) -> bool:
        """Whether the iteration ends with a test."""
        train = self._opt.train
        return bool(self._phases) and (step % train.checkpoint_test == 0 or step == train.total_iter)

    def was_missed(self, step: int) -> bool:
        """Whether the run was killed between the checkpoint of an iteration and its test."""
        if step == 0 or not self.is_due(step):
            return False
        names = {phase.name for phase in self._phases}
        return not self._model.processes.from_main(lambda: self._log.has_tests(step, names))

    def run(self, step: int, bar: TrainingBar) -> None:
        """Test, and keep the weights that would be deployed if they are the best so far."""
        epoch = epoch_of(step, self._opt, self._train_set)
        tables = [report_test(self._model, phase, self._log, bar, step, epoch) for phase in self._phases]
        deployed = [table[0] for table in tables]
        if text := lagging_average(tables[-1]):
            LOGGER.warning("%s", text)
        if self._best is not None:
            self._best.offer(step, deployed[-1])

    def compare(self, step: int) -> None:
        """The tables at the end of a run."""
        for phase in self._phases:
            report_comparison(self._model, phase, self._log, step)


def epoch_of(step: int, opt: Options, train_set: DatasetSR) -> int:
    """How often the images have been gone through; for the log alone."""
    assert opt.datasets.train is not None, "there is a training set"
    return step * opt.datasets.train.dataloader_batch_size // len(train_set)


def check_teacher(opt: Options) -> None:
    """A run never learns from random weights, though a model may be built with them."""
    if opt.teacher_is_asked and not opt.path.teachers:
        names = opt.train.distillation_types
        asking = [name for name in names if not opt.teacher_is_stored or DISTILLATIONS[name].needs == "network"]
        kinds = " and ".join(repr(name) for name in asking)
        raise OptionError(f"path.pretrained_netTeacher: missing; distillation_type {kinds} needs a teacher")


def check_stored_teacher(opt: Options, train_set: DatasetSR) -> None:
    """A teacher that is named is the one whose answers are stored, and they are what the distillation type wants."""
    teacher = train_set.teacher
    if teacher is not None and not teacher.self_ensemble and "response_tta" in opt.train.distillation_types:
        raise OptionError(
            "datasets.train.dataroot_T: its answers are of one view each, but response_tta learns from the mean of "
            "eight: store them with swinlet teach --self-ensemble, in another folder, or choose response"
        )
    for path in opt.path.teachers:
        if teacher is not None and path.is_file() and sha256_of(path) != teacher.sha256:
            raise OptionError(
                f"path.pretrained_netTeacher: {path} is not {teacher.file} ({teacher.kind}), whose answers "
                "datasets.train.dataroot_T has: leave one of the two keys out, or set it to null"
            )


def lock(opt: Options, held: ExitStack) -> None:
    """Keep other runs out of this one's folder, until ``held`` is closed."""
    held.enter_context(RunLock(opt.run_dir))


def start_or_resume(model: ModelPlain, opt: Options) -> SealedSet | None:
    """Ready the model for its first iteration, or for the one after the run's newest complete checkpoint.

    Returns:
        That checkpoint, None for a fresh start.

    Raises:
        CheckpointError: the run's folder belongs to something else.
    """
    sealed = model.processes.from_main(lambda: find_checkpoint(model, opt))
    model.init_train(pretrained=sealed is None)
    if sealed is None:
        return None
    try:
        model.load_checkpoint(sealed)
    except CheckpointError as error:
        raise CheckpointError(f"{error}\n{advice(opt)}") from error
    LOGGER.info("resuming %s after iteration %d", opt.run_dir, sealed.step)
    changes = changes_since(sealed, opt)
    if changes:
        LOGGER.warning("options that differ from those of the checkpoint: %s", "; ".join(changes))
    return sealed


def find_checkpoint(model: ModelPlain, opt: Options) -> SealedSet | None:
    """The run's newest complete checkpoint; see ``start_or_resume``."""
    sealed = newest_sealed(model.models_dir)
    if sealed is None:
        refuse_foreign_weights(model, opt)
        return None
    refused = [change for change in changes_since(sealed, opt) if change.startswith(IDENTITY)]
    if refused:
        raise CheckpointError(f"{advice(opt)} ({'; '.join(refused)})")
    return sealed


def changes_since(sealed: SealedSet, opt: Options) -> list[str]:
    """Options that differ from those of a checkpoint; keys that are newer than it have their default there."""
    if not sealed.options:
        return []
    before = with_defaults(sealed.options, Options().model_dump(mode="json"))
    return list(changed_keys(before, opt.model_dump(mode="json")))


def with_defaults(tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of options, with what it does not have; in its sections, too."""
    found = {**defaults, **tree}
    for key, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(found[key], Mapping):
            found[key] = with_defaults(found[key], cast("Mapping[str, Any]", default))
    return found


def advice(opt: Options) -> str:
    """What to do about a folder of another run."""
    return f"{opt.run_dir} belongs to a run with other options: choose another task, or move the folder away"


def refuse_foreign_weights(model: ModelPlain, opt: Options) -> None:
    """Nothing is written over that another program left there; an own first checkpoint cut short is."""
    foreign = unsealed_steps(model.models_dir)
    if foreign and not (opt.run_dir / METRICS_FILE).exists():
        raise CheckpointError(
            f"{model.models_dir} holds weights that this program did not write (iterations "
            f"{', '.join(map(str, foreign))}): choose another task, and name them in path.pretrained_netG, "
            "pretrained_netE and pretrained_optimizerG to start from them"
        )


def describe(model: ModelPlain, opt: Options, train_set: DatasetSR, start: int) -> None:
    """Log what is about to happen."""
    total = opt.train.total_iter
    if start < total:
        count = model.processes.count
        where = model.device.type + (f", in {count} processes" if count > 1 else "")
        LOGGER.info("run %s: iterations %d to %d on %s", opt.run_dir, start + 1, total, where)
    else:
        LOGGER.info(
            "run %s: nothing left to train, %d iterations are done, total_iter is %d", opt.run_dir, start, total
        )
    LOGGER.info("student %s (%s parameters)", opt.netG.net_type, f"{parameter_count(model.netG):,}")
    label = opt.train.distillation_label
    if model.netTeacher is not None:
        source = ", ".join(map(str, opt.path.teachers))
        size = f"{parameter_count(model.netTeacher):,}"
        kind = model.netTeacher.kind
        LOGGER.info("teacher %s (%s, %s parameters); distillation: %s", source, kind, size, label)
    if train_set.teacher is not None:
        features = "".join(f" {feature.name} ({feature.width} wide)" for feature in train_set.features)
        what = f"answers and features{features}" if features else "answers"
        alone = "" if opt.teacher_is_asked else ": no teacher network"
        answers = f"stored {what} of {train_set.teacher.kind} {train_set.teacher.file}{alone}"
        LOGGER.info("teacher: %s; distillation: %s", answers, label)
    for text in remarks(opt):
        LOGGER.warning("%s", text)
    unused = keys_without_effect(opt, model.processes.count)
    if unused:
        LOGGER.warning("keys without effect: %s", "; ".join(unused))


def remarks(opt: Options) -> Iterator[str]:
    """What is allowed, and will probably disappoint."""
    if opt.datasets.test is None and opt.datasets.val is None:
        yield "no scores: neither datasets.test nor datasets.val is set, and losses alone do not tell how good it gets"
    left = opt.train.E_decay**opt.train.total_iter
    if not opt.ema_warms_up and left > _FORGOTTEN:
        yield (
            f"train.total_iter {opt.train.total_iter} is short for train.E_decay {opt.train.E_decay:g}: at the end "
            f"{left:.0%} of the EMA are the weights that it started from. Lower E_decay, or set train.E_warmup to true"
        )


def status(model: ModelPlain) -> str:
    """Losses and learning rate for the progress bar."""
    losses = " ".join(f"{name.removeprefix('l_g_')} {value:.1e}" for name, value in model.current_log().items())
    return f"{losses} lr {model.current_learning_rate():.1e}"


def report_losses(model: ModelPlain, watch: Watch, log: RunLog, bar: TrainingBar, step: int, epoch: int) -> None:
    """One line of losses, in the reference's form."""
    watch.read()
    losses, rate = model.current_log(), model.current_learning_rate()
    speed = bar.speed()
    text = " ".join(f"{name}: {value:.3e}" for name, value in losses.items())
    skipped = f", {watch.skipped} skipped" if watch.skipped else ""
    LOGGER.info("<epoch:%3d, iter:%8s, lr:%.3e> %s (%.2f it/s%s)", epoch, f"{step:,}", rate, text, speed, skipped)
    log.record("train", step, lr=rate, losses=losses, it_per_s=round(speed, 3), skipped=watch.skipped)
    log.scalars(step, {f"loss/{name}": value for name, value in losses.items()} | {"lr": rate})


class Checkpoints:
    """When a run is saved, and what is saved when it ends by an error.

    Args:
        model, watch: of the run.
        train: its options.
    """

    def __init__(self, model: ModelPlain, watch: Watch, train: TrainOptions) -> None:
        self._model, self._watch, self._train = model, watch, train
        self._saved: int | None = None
        self._due = False

    @property
    def are_up_to_date(self) -> bool:
        """Whether none is due."""
        return not self._due

    def offer(self, step: int, *, wanted: bool) -> None:
        """An iteration is done: save it if a checkpoint is due or wanted, except right after a skipped step.

        The update before a skipped step may have spoilt the networks. A checkpoint waits for that: of a run that has
        gone astray there is none, as iterations are skipped to its end. At the end of a run there is nothing to wait
        for.

        Raises:
            CheckpointError: it cannot be written.
            TrainingError: weights are no numbers any more.
        """
        self._due |= wanted or step % self._train.checkpoint_save == 0
        if step == self._train.total_iter or (self._due and self._is_sound()):
            self._save(step)
            self._due = False

    def _is_sound(self) -> bool:
        self._watch.read()
        return self._watch.in_a_row == 0

    def _save(self, step: int) -> None:
        """Save a checkpoint, but never one with weights that are no numbers over a good one; then remove older ones."""
        self._saved = step
        spoilt = self._model.not_finite()
        if spoilt:
            names = ", ".join(spoilt[:3]) + (f" and {len(spoilt) - 3} more" if len(spoilt) > 3 else "")
            raise TrainingError(f"iteration {step}: {names}: not a number or infinite any more. {ADVICE}")
        if self._watch.in_a_row:
            LOGGER.warning(
                "the last %d iterations were skipped: see whether the results are good", self._watch.in_a_row
            )
        if not self._model.processes.is_main:
            return
        sealed = self._model.save(step, skipped=self._watch.record)
        if self._train.keep_checkpoints is not None and not self._watch.in_a_row:
            prune(sealed, self._train.keep_checkpoints)

    @contextmanager
    def rescued(self) -> Generator[None, None, None]:
        """Where the block ends by an error that is not the weights' own, save the last iteration that is whole."""
        try:
            yield
        except Exception as error:
            step = self._model.updated
            if step is not None and step != self._saved and not isinstance(error, TrainingError):
                self._rescue(step)
            raise

    def _rescue(self, step: int) -> None:
        try:
            if self._is_sound():
                self._save(step)
                LOGGER.info(
                    "iteration %d is saved, as the run ends by an error; the same command goes on from there", step
                )
        except (SwinletError, OSError, RuntimeError) as error:  # the first error is the one to tell of
            LOGGER.warning("iteration %d could not be saved: %s", step, error)


def lagging_average(table: Sequence[Scores]) -> str | None:
    """What to say of an EMA that is far behind its student."""
    psnr = {scores.label: scores.mean("psnr_y") for scores in table}
    if "E" not in psnr or psnr["G"] - psnr["E"] < _FAR_BEHIND:
        return None
    return (
        f"the moving average (E) is {psnr['G'] - psnr['E']:.1f} dB behind the student (G), whose earlier weights it "
        "still remembers, and it is what is deployed: train longer, lower train.E_decay, or set train.E_warmup to true"
    )


def report_test(
    model: ModelPlain, test: TestPhase, log: RunLog, bar: TrainingBar, step: int, epoch: int
) -> list[Scores]:
    """Scores, and for the test set pictures, of the images; those of the deployed weights come first."""
    with bar.pause():
        table = test.run(model, step, log.picture if test.name == "test" else None)
    on, folder = ("", "") if test.name == "test" else (f" on {test.name}", f"{test.name}/")
    for scores in table:
        mean = scores.means()
        LOGGER.info(
            "<epoch:%3d, iter:%8s, Average PSNR%s : %.2fdB (RGB), %.2fdB (Y), SSIM %.4f (RGB), %.4f (Y), %s",
            *(epoch, f"{step:,}", on, mean["psnr_rgb"], mean["psnr_y"], mean["ssim_rgb"], mean["ssim_y"]),
            NAMES[scores.label],
        )
        log.record("test", step, set=test.name, weights=scores.label, mean=mean, images=scores.images)
        log.scalars(step, {f"{folder}{metric}/{scores.label}": value for metric, value in mean.items()})
    for image in table[0].images:
        values = [(NAMES[scores.label], scores.images[image]) for scores in table]
        parts = [f"{name} {value['psnr_rgb']:.2f}dB (RGB), {value['psnr_y']:.2f}dB (Y)" for name, value in values]
        LOGGER.info("    %s: %s", image, "; ".join(parts))
    bar.show_score(f"PSNR {table[0].mean('psnr_rgb'):.2f} dB")
    return table


def report_comparison(model: ModelPlain, test: TestPhase, log: RunLog, step: int) -> None:
    """The table at the end of a run: bicubic, student, teacher."""
    networks = {"G": model.netG, "E": model.netE, "Teacher": model.netTeacher}
    if test.name == "test":
        LOGGER.info("pictures in %s", test.images_dir)
    LOGGER.info("%-14s %12s %10s %10s %8s", f"{test.name} set", "parameters", "PSNR RGB", "PSNR Y", "SSIM Y")
    for scores in test.compare(model):
        network = networks.get(scores.label)
        size = f"{parameter_count(network):,}" if network is not None else "-"
        mean = scores.means()
        values = (mean["psnr_rgb"], mean["psnr_y"], mean["ssim_y"])
        LOGGER.info("%-14s %12s %7.2f dB %7.2f dB %8.4f", NAMES[scores.label], size, *values)
        log.record("comparison", step, set=test.name, weights=scores.label, mean=mean, images=scores.images)
