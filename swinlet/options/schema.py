"""Every key of an option file: its type, default and meaning.

The keys are those of the reference (KAIR), so that its files run unmodified. A default of None in a network section
means "the preset of ``net_type``".
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Strict,
    Tag,
    create_model,
    model_validator,
)
from typing_extensions import Self

from swinlet.options.names import DISTILLATIONS, DatasetName, DistillationName, ModelName, Needs, NetworkName

_MAX_FLOAT = 1e100  # products of a few such numbers are still numbers: floats end at 2e308


_MAX_BATCH = 4 * 10**9  # bytes; floats, gradients and features of so many pixels take hundreds of times as much
_MAX_NAME = 255  # bytes of a file name, on all usual systems


def _int64(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("must have at most 64 bits")
    return value


def _moderate(value: float) -> float:
    if abs(value) > _MAX_FLOAT:
        raise ValueError(f"must be at most {_MAX_FLOAT:g}")
    return value


_StrictInt = Annotated[int, Strict()]
_StrictFloat = Annotated[float, Strict(), Field(allow_inf_nan=False)]
# Limits that nobody comes near stand last, and so outside of the JSON Schema and the reference.
_IN_64_BITS, _MODERATE = AfterValidator(_int64), AfterValidator(_moderate)
Int = Annotated[_StrictInt, _IN_64_BITS]
PositiveInt = Annotated[_StrictInt, Field(gt=0), _IN_64_BITS]
NaturalInt = Annotated[_StrictInt, Field(ge=0), _IN_64_BITS]
PositiveFloat = Annotated[_StrictFloat, Field(gt=0), _MODERATE]
NaturalFloat = Annotated[_StrictFloat, Field(ge=0), _MODERATE]
Fraction = Annotated[_StrictFloat, Field(ge=0, lt=1)]
Bool = Annotated[bool, Strict()]


def _exact_int(value: object) -> object:
    """For Literal numbers: they are compared with ==, and 1 == True == 1.0."""
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


Scale = Annotated[Literal[1, 2, 3, 4, 8], BeforeValidator(_exact_int)]
Channels = Annotated[Literal[1, 3], BeforeValidator(_exact_int)]


def _list_or_single(value: object) -> str:
    """Which member of a union a value is meant for, so that an error speaks of that one only."""
    return "list" if isinstance(value, list | tuple) else "single"


def expand_path(value: object) -> object:
    """Expand ``~`` and ``${VAR}``; an unset variable is an error rather than a folder of that name."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("must not be empty")
    unset = [name for name in re.findall(r"\$\{([^}]*)\}", value) if name not in os.environ]
    if unset:
        raise ValueError(f"environment variable {', '.join(unset)} is not set")
    value = re.sub(r"\$\{([^}]*)\}", lambda match: os.environ[match[1]], value)
    if not _can_be_written(value):
        raise ValueError("holds characters that no file name can hold")
    if len(value) > 4096 or any(len(os.fsencode(part)) > _MAX_NAME for part in re.split(r"[\\/]", value)):
        raise ValueError(f"is too long: a name has at most {_MAX_NAME} bytes, a path 4096 characters")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # ~somebody
        raise ValueError("there is no such user") from error


def _expand_optional_path(value: object) -> object:
    """As ``expand_path``; the reference writes "" as well as null for "none"."""
    return None if isinstance(value, str) and not value.strip() else expand_path(value)


# Lax on purpose: the validator above has made a Path of the string; anything but a string is refused by pydantic.
FilePath = Annotated[Path, BeforeValidator(expand_path)]
OptionalPath = Annotated[Path | None, BeforeValidator(_expand_optional_path)]


IntOrInts = Annotated[
    Annotated[PositiveInt, Tag("single")] | Annotated[tuple[PositiveInt, ...], Field(min_length=1), Tag("list")],
    Discriminator(_list_or_single),
]
PathOrPaths = Annotated[
    Annotated[FilePath, Tag("single")] | Annotated[tuple[FilePath, ...], Field(min_length=1), Tag("list")],
    Discriminator(_list_or_single),
]
OptionalPaths = Annotated[PathOrPaths | None, BeforeValidator(_expand_optional_path)]


def _can_be_written(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half a surrogate pair, from an escape like \ud800
        return False


def file_name_template(value: str) -> str:
    """``filename_tmpl`` of BasicSR: a file name with one {} for that of the HR file."""
    if value.count("{}") != 1 or re.search(r"[{}/\\\x00-\x1f]", value.replace("{}", "")) or not _can_be_written(value):
        raise ValueError('must be a file name with one {}, which stands for the name of the HR file, such as "{}x4"')
    return value


FileNameTemplate = Annotated[str, AfterValidator(file_name_template)]


def _folder_name(value: str) -> str:
    """The task becomes a folder name below ``path.root``; it must not lead elsewhere."""
    bad = re.search(r'[\\/:*?"<>|\x00-\x1f]', value) or not _can_be_written(value)
    if not bad and len(os.fsencode(value)) > _MAX_NAME:
        raise ValueError(f"is too long: a folder name has at most {_MAX_NAME} bytes")
    if bad or not value.strip() or value in (".", "..") or value[-1] in " .":  # Windows drops the last two
        raise ValueError("cannot be a folder name")
    return value


def _shown_name(value: str) -> str:
    """For names that go into logs."""
    if len(value) > _MAX_NAME or not value.isprintable():
        raise ValueError(f"must be printable, and have at most {_MAX_NAME} characters")
    return value


ShownName = Annotated[str, AfterValidator(_shown_name)]


@dataclass(frozen=True)
class Conflict:
    """Values that are right one by one and wrong together.

    Attributes:
        keys: all keys involved, as paths below the section; the message names the first.
        text: what is wrong.
    """

    keys: tuple[str, ...]
    text: str


class ConflictError(ValueError):
    """Raised inside pydantic's validation with all conflicts of one section."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        super().__init__("; ".join(f"{conflict.keys[0]}: {conflict.text}" for conflict in conflicts))
        self.conflicts = conflicts


class Section(BaseModel):
    """Strict and frozen: an unknown key is an error, a loaded option never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, data: object) -> object:
        """The reference writes null for "not set"; where None is no value of a key, it means the default."""
        if not isinstance(data, dict):
            return data
        section = cast("dict[str, Any]", data)
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        return {
            key: value
            for key, value in section.items()
            if value is not None or key not in fields or NoneType in get_args(fields[key].annotation)
        }

    def conflicts(self) -> Iterator[Conflict]:
        """What is wrong across keys; each section says for itself."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> Self:
        conflicts = list(self.conflicts())
        if conflicts:
            raise ConflictError(conflicts)
        return self


class PathOptions(Section):
    """Where results go and where weights come from."""

    root: FilePath = Field(default=Path("superresolution"), description="Results go to the folder root/task.")
    pretrained_netG: OptionalPath = Field(default=None, description="Weights the student starts from.")
    pretrained_netE: OptionalPath = Field(default=None, description="Weights its moving average starts from.")
    pretrained_netP: OptionalPath = Field(default=None, description="Weights the translator starts from.")
    pretrained_netTeacher: OptionalPaths = Field(
        default=None,
        description="The teacher's weights (.pth or .safetensors), which tell its architecture; or those of several.",
    )
    pretrained_optimizerG: OptionalPath = Field(
        default=None, description="State of the optimiser to start from; needs train.G_optimizer_reuse."
    )

    @property
    def teachers(self) -> tuple[Path, ...]:
        """The weights of all teachers."""
        named = self.pretrained_netTeacher
        return named if isinstance(named, tuple) else () if named is None else (named,)


class DatasetOptions(Section):
    """One folder of high-resolution images, with an optional folder of low-resolution partners."""

    name: ShownName = Field(default="dataset", description="Name shown in the log.")
    dataset_type: DatasetName = Field(default="sr", description="Kind of dataset.")
    dataroot_H: FilePath = Field(
        description="Folder with high-resolution images, searched recursively; or a prepared folder."
    )
    dataroot_L: OptionalPath = Field(
        default=None, description="Folder with low-resolution images of the same names; without it, MATLAB bicubic."
    )
    filename_tmpl: FileNameTemplate | None = Field(
        default=None,
        description='Name of the LR file, without suffix, where {} is that of the HR file, such as "{}x4"; '
        "without it the usual names are tried.",
    )
    dataroot_T: OptionalPath = Field(
        default=None, description="Folder of swinlet teach: the teacher's images, and features, are read from it."
    )
    cache_gb: NaturalFloat = Field(
        default=2.0, description="Images are decoded once, into a cache, if that takes at most so many GB; 0: never."
    )
    H_size: PositiveInt = Field(default=96, description="Side of the HR training patches in pixels.")
    dataloader_shuffle: Bool = Field(default=True, description="Draw images in random order.")
    dataloader_num_workers: NaturalInt = Field(
        default=2, description="Loader processes for each that trains; 0: it loads itself."
    )
    dataloader_batch_size: PositiveInt = Field(default=32, description="Patches in a batch, over all processes.")
    on_bad_image: Literal["error", "skip"] = Field(
        default="error", description="Refuse to start because of a bad image, or leave it out and count it."
    )


class UnlabelledOptions(Section):
    """Photographs without high-resolution partners, of which a patch goes with each training patch.

    The keys are those of ``DatasetOptions``.
    """

    name: ShownName = Field(default="unlabelled", description="Name shown in the log.")
    dataroot: FilePath = Field(
        description="Folder with photographs that are low-resolution images themselves; or a prepared folder."
    )
    cache_gb: NaturalFloat = Field(
        default=2.0, description="Images are decoded once, into a cache, if that takes at most so many GB; 0: never."
    )
    dataloader_shuffle: Bool = Field(default=True, description="Draw images in random order.")
    on_bad_image: Literal["error", "skip"] = Field(
        default="error", description="Refuse to start because of a bad image, or leave it out and count it."
    )


class DatasetsOptions(Section):
    """The training, the test and the validation set."""

    train: DatasetOptions | None = Field(default=None, description="Patches to learn from.")
    unlabelled: UnlabelledOptions | None = Field(
        default=None, description="Photographs that the teacher alone tells of: distillation type unlabelled."
    )
    test: DatasetOptions | None = Field(default=None, description="Whole images scored and saved during training.")
    val: DatasetOptions | None = Field(
        default=None, description="Whole images scored with them; they, rather than the test set, choose best_E.pth."
    )


class NetworkOptions(Section):
    """One SwinIR. Keys left out take the preset of ``net_type`` (``PRESETS``)."""

    net_type: NetworkName = Field(
        default="swinir_student", description="Preset: swinir 180 wide 6x6, swinir_student(_v2) 60 wide 4x4."
    )
    upscale: Scale | None = Field(default=None, description="Scale; default: the top-level scale.")
    in_chans: Channels | None = Field(default=None, description="Channels; default: the top-level n_channels.")
    img_size: PositiveInt | None = Field(default=None, description="LR patch side the network is designed for.")
    window_size: PositiveInt | None = Field(default=None, description="Side of the attention windows.")
    img_range: PositiveFloat | None = Field(default=None, description="Factor on the image inside the network.")
    depths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = Field(
        default=None, description="Blocks in each RSTB."
    )
    embed_dim: PositiveInt | None = Field(default=None, description="Width.")
    num_heads: IntOrInts | None = Field(
        default=None, description="Attention heads in each RSTB; one number serves for all."
    )
    mlp_ratio: PositiveFloat | None = Field(default=None, description="Hidden width of the MLPs over embed_dim.")
    upsampler: Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv", ""] | None = Field(
        default=None, description="How the image is enlarged; '' for denoising and JPEG."
    )
    resi_connection: Literal["1conv", "3conv"] | None = Field(default=None, description="Convolution after each RSTB.")
    qkv_bias: Bool | None = Field(default=None, description="Bias in the query, key and value projections.")
    patch_norm: Bool | None = Field(default=None, description="LayerNorm after the patch embedding.")
    ape: Bool | None = Field(default=None, description="Absolute position embedding.")
    drop_path_rate: Fraction | None = Field(
        default=None, description="Stochastic depth rate of the last block; reference: 0.1."
    )
    init_type: Literal[
        "default",
        "interpolation",
        "teacher",
        "normal",
        "uniform",
        "xavier_normal",
        "xavier_uniform",
        "kaiming_normal",
        "kaiming_uniform",
        "orthogonal",
    ] = Field(
        default="default",
        description="First weights; 'interpolation' starts as bilinear upsampling (with a warm-up), 'teacher' with "
        "blocks of a teacher of the same width.",
    )
    init_bn_type: str | None = Field(default=None, description="Of batch normalisation, which SwinIR has not.")
    init_gain: PositiveFloat | None = Field(default=None, description="Gain of the classic init_type values; 0.2.")


Precision = Literal["fp32", "bf16", "fp16"]
Backend = Literal["torch", "onnx", "openvino"]
LossType = Literal["l1", "l2", "l2sum", "charbonnier", "ssim"]
IntOrFloats = Annotated[
    Annotated[PositiveInt, Tag("single")] | Annotated[tuple[PositiveFloat, ...], Field(min_length=1), Tag("list")],
    Discriminator(_list_or_single),
]


class KeepOptions(Section):
    """Which checkpoints of a run stay when a new one has been saved."""

    newest: PositiveInt = Field(default=3, description="So many of the newest.")
    every: PositiveInt | None = Field(default=None, description="Those whose iteration is a multiple of this.")
    best: Bool = Field(default=True, description="The one of the best test's iteration, if there is one.")


class MethodOptions(Section):
    """Weight and schedule of one distillation type."""

    weight: NaturalFloat | None = Field(default=None, description="Factor on its losses; default: the type's own.")
    gradient_share: PositiveFloat | None = Field(
        default=None,
        description="Instead: measure, at its start, which factor gives its gradient this share of the pixel loss's.",
    )
    start_iter: NaturalInt = Field(default=0, description="First iteration with it.")
    warmup_iter: NaturalInt = Field(default=0, description="Iterations in which it grows linearly to its weight.")
    end_iter: PositiveInt | None = Field(default=None, description="Last iteration with it; default: that of the run.")

    def conflicts(self) -> Iterator[Conflict]:
        """Two rules for one weight; an end before the start."""
        if self.weight is not None and self.gradient_share is not None:
            yield Conflict(("gradient_share", "weight"), "the weight is given: leave one of the two out")
        if self.end_iter is not None and self.end_iter < self.start_iter:
            yield Conflict(("end_iter", "start_iter"), f"{self.end_iter}, but it starts in {self.start_iter}")

    def factor(self, step: int) -> float:
        """What the schedule makes of the weight in iteration ``step``, which counts from 1: in [0, 1]."""
        if step < self.start_iter or (self.end_iter is not None and step > self.end_iter):
            return 0.0
        done = step - max(self.start_iter, 1) + 1
        return min(done / self.warmup_iter, 1.0) if self.warmup_iter else 1.0

    @property
    def is_always_on(self) -> bool:
        """Whether the schedule leaves no iteration out."""
        return self.start_iter <= 1 and self.end_iter is None


class UpcyclingOptions(MethodOptions):
    """Those of ``dukd``."""

    zoom_in: NaturalFloat = Field(default=5.0, description="Weight of the windows of H as low-resolution images.")
    consistency: NaturalFloat = Field(
        default=1.0, description="Weight of these windows inverted, mirrored, transposed; 0 saves a forward pass."
    )
    zoom_out: NaturalFloat = Field(
        default=1.0, description="Weight of the patches scaled down; they are left out where smaller than a window."
    )


_METHOD_OPTIONS: dict[str, type[MethodOptions]] = {"dukd": UpcyclingOptions}
"""Where a distillation type has keys of its own."""


def _method_field(name: str) -> Any:
    kind = _METHOD_OPTIONS.get(name, MethodOptions)
    return kind, Field(default_factory=kind, description=f"Of {name}.")


if TYPE_CHECKING:

    class DistillationOptions(Section):
        """Weights and schedules of the distillation types, by their names."""

else:  # one key for each name of the table
    DistillationOptions = create_model(
        "DistillationOptions",
        __base__=Section,
        __doc__="Weights and schedules of the distillation types, by their names.",
        **{name: _method_field(name) for name in DISTILLATIONS if name != "none"},
    )

Distillations = Annotated[
    Annotated[DistillationName, Tag("single")]
    | Annotated[tuple[DistillationName, ...], Field(min_length=1), Tag("list")],
    Discriminator(_list_or_single),
]


class TrainOptions(Section):
    """Losses, optimiser, schedule and rhythm of one run."""

    total_iter: PositiveInt = Field(default=20000, description="Iterations of the whole run.")
    manual_seed: Annotated[_StrictInt, Field(ge=0, lt=2**63)] = Field(
        default=0, description="Seed of first weights, samples and drop-path."
    )
    precision: Precision = Field(default="fp32", description="Of the student's forward pass; fp16 needs a GPU.")
    teacher_precision: Precision = Field(
        default="fp32",
        description="Of the teacher's, whatever precision is; bf16 on a processor without such instructions: fp32.",
    )
    activation_checkpointing: Bool = Field(
        default=False,
        description="Keep less of the student for the backward pass and compute it again there; the same result.",
    )

    G_lossfn_type: LossType = Field(default="l1", description="Pixel loss against the ground truth.")
    G_lossfn_weight: NaturalFloat = Field(default=1.0, description="Its weight.")
    G_charbonnier_eps: PositiveFloat = Field(default=1e-9, description="Added under the root of charbonnier.")

    distillation_type: Distillations = Field(
        default="none", description="What the student learns from the teacher; a list: all of these together."
    )
    distillation: DistillationOptions = Field(
        default_factory=DistillationOptions, description="Their weights and schedules."
    )
    distill_lossfn_type: Literal["l1", "l2"] = Field(default="l1", description="Loss against the teacher's image.")
    distill_lossfn_weight: NaturalFloat = Field(default=1.0, description="Its weight.")
    teacher_weights: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = Field(
        default=None, description="Shares of several teachers in the mean of their images; default: equal ones."
    )
    feature_lossfn_type: Literal["l1", "l2"] = Field(default="l1", description="Loss against translated features.")
    feature_lossfn_weight: NaturalFloat = Field(default=0.01, description="Its weight, for each pair of stages.")
    start_feature_iter: NaturalInt = Field(default=0, description="First iteration with the feature loss.")
    feature_pairs: Annotated[tuple[tuple[NaturalInt, NaturalInt], ...], Field(min_length=1)] | None = Field(
        default=None,
        description="[student stage, teacher stage] pairs; default: feature i with i, others by relative depth.",
    )
    feature_taps: Annotated[tuple[ShownName, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="Teacher's modules whose outputs are its stages; default: a SwinIR's RSTBs, all in dataroot_T.",
    )

    gradient_accumulation_steps: PositiveInt = Field(
        default=1, description="Parts that a batch is taken in, one after the other: less memory, the same gradient."
    )

    E_decay: Fraction = Field(default=0.999, description="Decay of the EMA; 0: none.")
    E_warmup: Bool = Field(
        default=True,
        description="The EMA follows faster at first: its decay is at most (1 + iteration) / (10 + iteration), unless "
        "path.pretrained_netE is given. The reference: false.",
    )

    G_optimizer_type: Literal["adam", "adamw"] = Field(default="adam", description="Optimiser.")
    G_optimizer_lr: PositiveFloat = Field(default=2e-4, description="Base learning rate.")
    G_optimizer_betas: tuple[Fraction, Fraction] = Field(default=(0.9, 0.999), description="Adam's betas.")
    G_optimizer_wd: NaturalFloat = Field(default=0.0, description="Weight decay.")
    G_optimizer_clipgrad: NaturalFloat | None = Field(
        default=None, description="Largest norm of the gradient of all that is trained; none: no limit."
    )
    G_optimizer_reuse: Bool = Field(default=False, description="Load path.pretrained_optimizerG.")

    G_scheduler_type: Literal["MultiStepLR", "CosineAnnealingWarmRestarts", "cosine"] = Field(
        default="MultiStepLR", description="'cosine' falls once over total_iter."
    )
    G_scheduler_warmup_iter: NaturalInt = Field(default=0, description="Linear warm-up of the learning rate.")
    G_scheduler_milestones: tuple[NaturalInt, ...] = Field(
        default=(10000, 16000, 18000, 19000), description="Iterations from which the rate is lower by gamma."
    )
    G_scheduler_gamma: PositiveFloat = Field(default=0.5, description="Factor at each milestone.")
    G_scheduler_periods: IntOrInts | None = Field(
        default=None, description="Cosine: length of the first cycle, or of each cycle."
    )
    G_scheduler_restart_weights: IntOrFloats | None = Field(
        default=None, description="Cosine: growth of the cycle (one number), or a weight for each cycle."
    )
    G_scheduler_eta_min: NaturalFloat | None = Field(default=None, description="Cosine: smallest rate.")

    G_regularizer_orthstep: NaturalInt | None = Field(
        default=None, description="Every so many iterations, push singular values of convolutions into [0.5, 1.5]."
    )
    G_regularizer_clipstep: NaturalInt | None = Field(
        default=None, description="Every so many iterations, push weights into [-1.5, 1.5]."
    )

    max_skipped_steps: PositiveInt = Field(
        default=10,
        description="Iterations in a row without a finite loss and gradient, each skipped, that end the run.",
    )

    G_param_strict: Bool = Field(default=True, description="pretrained_netG must fit tensor by tensor.")
    E_param_strict: Bool = Field(default=True, description="pretrained_netE must fit tensor by tensor.")

    checkpoint_test: PositiveInt = Field(default=2000, description="Iterations between tests.")
    checkpoint_save: PositiveInt = Field(default=2000, description="Iterations between saved checkpoints.")
    checkpoint_print: PositiveInt = Field(default=200, description="Iterations between lines of the log.")
    keep_checkpoints: KeepOptions | None = Field(default=None, description="Older checkpoints to keep; default: all.")

    model_config = ConfigDict(json_schema_extra={"patternProperties": {"^F_": {}}})
    _perceptual_keys: tuple[str, ...] = PrivateAttr(default=())

    @property
    def perceptual_keys(self) -> tuple[str, ...]:
        """The F_* keys of the option file: of the perceptual loss of GAN training, accepted and warned of."""
        return self._perceptual_keys

    @model_validator(mode="wrap")
    @classmethod
    def _put_perceptual_keys_aside(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict):
            return handler(data)
        section = cast("dict[str, Any]", data)
        names = tuple(key for key in section if re.fullmatch(r"F_[\w.-]{0,100}", key))
        train = handler({key: value for key, value in section.items() if key not in names})
        train._perceptual_keys = names
        return train

    @property
    def distillation_types(self) -> tuple[str, ...]:
        """All distillation types of the run; () for "none"."""
        names = self.distillation_type if isinstance(self.distillation_type, tuple) else (self.distillation_type,)
        return tuple(name for name in names if name != "none")

    @property
    def distillation_label(self) -> str:
        """All distillation types, for people: "response + fakd"."""
        return " + ".join(self.distillation_types) or "none"

    def method(self, name: str) -> MethodOptions:
        """Weight and schedule of a distillation type."""
        return getattr(self.distillation, name, None) or MethodOptions()

    def needs(self, *kinds: Needs, step: int | None = None) -> bool:
        """Whether a distillation type of the run, or of an iteration, asks the teacher for one of these."""
        acting = (name for name in self.distillation_types if step is None or self.method(name).factor(step))
        return any(DISTILLATIONS[name].needs in kinds for name in acting)

    @property
    def needs_teacher(self) -> bool:
        """Whether one asks it for anything."""
        return self.needs("images", "features", "network")

    def _conflicts_of_distillation(self) -> Iterator[Conflict]:
        names = self.distillation_type
        if not isinstance(names, tuple):
            return
        key = ("distillation_type",)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            yield Conflict(key, f"{', '.join(twice)} twice")
        if "none" in names:
            yield Conflict(key, 'a list is of what is learnt together, and "none" is nothing: leave it out')
        for whole, part in (("feature", "response"), ("response_tta", "response")):
            if {whole, part} <= set(names):
                yield Conflict(key, f"{whole} includes {part}: leave {part} out")
        if {"feature", "response_tta"} <= set(names):
            yield Conflict(key, "feature includes response, on the teacher's plain image: choose one of the two")
        if {"feature", "feature_norm"} <= set(names):
            yield Conflict(key, "feature and feature_norm each train maps that are saved as netP: choose one")

    def conflicts(self) -> Iterator[Conflict]:
        """Types that exclude each other; milestones that fall; periods and weights that do not belong together."""
        yield from self._conflicts_of_distillation()
        if list(self.G_scheduler_milestones) != sorted(self.G_scheduler_milestones):
            yield Conflict(("G_scheduler_milestones",), "must rise")
        lowered = len(self.G_scheduler_milestones) * math.log(self.G_scheduler_gamma)
        if math.log(self.G_optimizer_lr) + lowered > math.log(_MAX_FLOAT):
            keys = ("G_scheduler_gamma", "G_scheduler_milestones", "G_optimizer_lr")
            yield Conflict(keys, f"{self.G_scheduler_gamma:g} makes the learning rate larger than {_MAX_FLOAT:g}")
        if self.G_scheduler_type != "CosineAnnealingWarmRestarts":
            return
        periods, weights = self.G_scheduler_periods, self.G_scheduler_restart_weights
        fault: tuple[str, str] | None = None
        if periods is None:
            fault = "G_scheduler_periods", "CosineAnnealingWarmRestarts needs it"
        elif isinstance(periods, int) and isinstance(weights, tuple):
            fault = "G_scheduler_restart_weights", "a list needs a list of G_scheduler_periods"
        elif isinstance(periods, tuple) and isinstance(weights, int):
            fault = "G_scheduler_restart_weights", "must be a list, as G_scheduler_periods is one"
        elif isinstance(periods, tuple) and isinstance(weights, tuple) and len(weights) != len(periods):
            fault = "G_scheduler_restart_weights", "needs one entry for each G_scheduler_periods"
        if fault:
            key, text = fault
            others = {"G_scheduler_type", "G_scheduler_periods", "G_scheduler_restart_weights"} - {key}
            yield Conflict((key, *sorted(others)), text)


def _auto(value: object) -> object:
    if value != "auto":
        raise ValueError('must be a list of GPU numbers, null for the CPU, or "auto"')
    return value


GpuIds = Annotated[
    Annotated[Literal["auto"], BeforeValidator(_auto), Tag("single")] | Annotated[tuple[NaturalInt, ...], Tag("list")],
    Discriminator(_list_or_single),
]


class Options(Section):
    """One run."""

    schema_url: str | None = Field(default=None, alias="$schema", description="For editors: where the schema is.")
    task: Annotated[str, AfterValidator(_folder_name)] = Field(default="swinir_student", description="Name of the run.")
    model: ModelName = Field(default="plain", description="How the networks are trained.")
    gpu_ids: GpuIds | None = Field(
        default="auto",
        description="null or []: the CPU. Else CUDA (the first id; under torchrun one each), MPS, the CPU.",
    )
    dist: Bool = Field(default=False, description="No effect: torchrun or accelerate launch start several processes.")
    scale: Scale = Field(default=4, description="HR size over LR size; default: netG.upscale, or 4.")
    n_channels: Channels = Field(default=3, description="1 for gray, 3 for RGB images; default: netG.in_chans, or 3.")
    merge_bn: Bool = Field(default=False, description="No effect: SwinIR has no batch normalisation.")
    merge_bn_startpoint: Int | None = Field(default=None, description="No effect: see merge_bn.")
    find_unused_parameters: Bool | None = Field(
        default=None, description="Of several processes: look for weights without gradient; default: where needed."
    )
    use_static_graph: Bool | None = Field(
        default=None, description="Of several processes: all iterations compute the same graph; default: false."
    )
    path: PathOptions = Field(default_factory=PathOptions, description="Folders and weights.")
    datasets: DatasetsOptions = Field(default_factory=DatasetsOptions, description="Images.")
    netG: NetworkOptions = Field(default_factory=NetworkOptions, description="The student.")
    netTeacher: NetworkOptions | None = Field(
        default=None, description="The teacher's architecture, where the checkpoint alone should not decide."
    )
    train: TrainOptions = Field(default_factory=TrainOptions, description="Training.")

    @model_validator(mode="before")
    @classmethod
    def _scale_of_the_network(cls, data: object) -> object:
        """A file that gives scale or channels for the network alone means them for the images, too."""
        if not isinstance(data, dict):
            return data
        tree = cast("dict[str, Any]", data)
        network = tree.get("netG")
        if not isinstance(network, dict):
            return tree
        known = cast("dict[str, Any]", network)
        pairs = (("scale", "upscale"), ("n_channels", "in_chans"))
        found = {top: known[key] for top, key in pairs if tree.get(top) is None and known.get(key) is not None}
        return tree | found

    def conflicts(self) -> Iterator[Conflict]:
        """Networks and patches that do not fit ``scale`` and ``n_channels``."""
        for name, network in (("netG", self.netG), ("netTeacher", self.netTeacher)):
            if network is None:
                continue
            if network.upscale not in (None, self.scale):
                yield Conflict((f"{name}.upscale", "scale"), f"{network.upscale}, but scale is {self.scale}")
            if network.in_chans not in (None, self.n_channels):
                yield Conflict(
                    (f"{name}.in_chans", "n_channels"), f"{network.in_chans}, but n_channels is {self.n_channels}"
                )
        yield from self._conflicts_of_teachers()
        train = self.datasets.train
        patch = train.H_size if train else 0
        batch_bytes = patch**2 * self.n_channels * train.dataloader_batch_size if train else 0
        if batch_bytes > _MAX_BATCH:
            keys = ("datasets.train.dataloader_batch_size", "datasets.train.H_size")
            text = (
                f"with H_size {patch}, a batch has {batch_bytes / 1e9:.3g} GB of pixels, more than {_MAX_BATCH / 1e9:g}"
            )
            yield Conflict(keys, text)
        parts = self.train.gradient_accumulation_steps
        if train and parts > train.dataloader_batch_size:
            keys = ("train.gradient_accumulation_steps", "datasets.train.dataloader_batch_size")
            yield Conflict(keys, f"{parts} parts of {train.dataloader_batch_size} patches")
        yield from self._conflicts_of_graph()
        yield from self._conflicts_of_first_weights()
        unlabelled = "unlabelled" in self.train.distillation_types
        if unlabelled and self.datasets.unlabelled is None:
            keys = ("datasets.unlabelled", "train.distillation_type")
            yield Conflict(keys, "missing; distillation type unlabelled needs it, e.g. {dataroot: 'folder'}")
        if self.use_static_graph and parts > 1:
            keys = ("use_static_graph", "train.gradient_accumulation_steps")
            yield Conflict(keys, "torch's static graph knows no parts of a batch")
        if patch % self.scale:
            yield Conflict(("datasets.train.H_size", "scale"), f"{patch} is not a multiple of scale {self.scale}")

    def _conflicts_of_first_weights(self) -> Iterator[Conflict]:
        teachers = self.path.teachers
        if self.starts_from_teacher and len(teachers) != 1:
            keys = ("netG.init_type", "path.pretrained_netTeacher")
            has = f"{len(teachers)} teachers, but it starts from one" if teachers else "'teacher', but there is no file"
            yield Conflict(keys, f"{has}: name one in path.pretrained_netTeacher")
        if self.netTeacher is not None and self.netTeacher.init_type == "teacher":
            yield Conflict(("netTeacher.init_type",), "'teacher' is a start for students")

    def _conflicts_of_graph(self) -> Iterator[Conflict]:
        if not self.use_static_graph:
            return
        if "feature" in self.train.distillation_types and self.train.start_feature_iter > 1:
            keys = ("use_static_graph", "train.start_feature_iter")
            yield Conflict(keys, f"the graph changes in iteration {self.train.start_feature_iter}")
        for name in self.train.distillation_types:
            if not self.train.method(name).is_always_on:
                keys = ("use_static_graph", f"train.distillation.{name}")
                yield Conflict(keys, f"the graph changes when {name} starts or ends")

    def _conflicts_of_teachers(self) -> Iterator[Conflict]:
        weights, teachers = self.train.teacher_weights, self.path.teachers
        if len(teachers) > 1:
            if self.train.needs("features"):
                keys = ("path.pretrained_netTeacher", "train.distillation_type")
                yield Conflict(keys, f"{len(teachers)} teachers, but features can be learnt from one alone")
            if self.netTeacher is not None:
                keys = ("netTeacher", "path.pretrained_netTeacher")
                yield Conflict(keys, f"describes one teacher, but there are {len(teachers)}")
            if weights is not None and len(weights) != len(teachers):
                keys = ("train.teacher_weights", "path.pretrained_netTeacher")
                yield Conflict(keys, f"{len(weights)} weights, but {len(teachers)} teachers")

    def completed(self, network: NetworkOptions) -> NetworkOptions:
        """A network section with ``scale`` and ``n_channels`` filled in."""
        return network.model_copy(
            update={
                "upscale": network.upscale or self.scale,
                "in_chans": network.in_chans or self.n_channels,
            }
        )

    @property
    def teacher_is_stored(self) -> bool:
        """Whether the teacher's answers to training patches are read from ``datasets.train.dataroot_T``."""
        train = self.datasets.train
        return train is not None and train.dataroot_T is not None and self.train.needs("images", "features")

    @property
    def teacher_is_asked(self) -> bool:
        """Whether the teacher's network is needed: nothing is stored, or not all that is asked."""
        return self.train.needs("network") or (self.train.needs_teacher and not self.teacher_is_stored)

    @property
    def ema_warms_up(self) -> bool:
        """Whether the EMA follows faster at first; one that starts from ``path.pretrained_netE`` keeps that longer."""
        return self.train.E_warmup and self.path.pretrained_netE is None

    @property
    def starts_from_teacher(self) -> bool:
        """Whether the student's first weights are the teacher's."""
        return self.netG.init_type == "teacher" and self.path.pretrained_netG is None

    @property
    def features_are_stored(self) -> bool:
        """Whether the teacher's features are read from there, too."""
        return self.teacher_is_stored and self.train.needs("features")

    @property
    def run_dir(self) -> Path:
        """Folder of everything this run writes."""
        return self.path.root / self.task
