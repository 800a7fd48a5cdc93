"""The names that an option file may use for a class, and where the class is.

The one table to extend for a new network, distillation type, dataset or model. Classes stand here as text, so that
options can be checked, and completed by editors, without importing torch.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, WithJsonSchema

MODELS = {"plain": "swinlet.models.model_plain.ModelPlain"}

NETWORKS = {
    "swinir": "swinlet.models.network_swinir.SwinIR",
    "swinir_student": "swinlet.models.network_swinir_student.SwinIRStudent",
    "swinir_student_v2": "swinlet.models.network_swinir_student_v2.SwinIRStudentV2",
}

_SWINIR: dict[str, Any] = {
    "upscale": 4,
    "in_chans": 3,
    "img_size": 64,
    "window_size": 8,
    "img_range": 1.0,
    "depths": (6, 6, 6, 6, 6, 6),
    "embed_dim": 180,
    "num_heads": 6,
    "mlp_ratio": 2.0,
    "upsampler": "pixelshuffle",
    "resi_connection": "1conv",
    "qkv_bias": True,
    "patch_norm": True,
    "ape": False,
    "drop_path_rate": 0.1,
}
_STUDENT = _SWINIR | {"embed_dim": 60, "depths": (4, 4, 4, 4)}

PRESETS: dict[str, dict[str, Any]] = {
    "swinir": _SWINIR,
    "swinir_student": _STUDENT,
    "swinir_student_v2": _STUDENT,
}
"""What the keys of a network section are where they are left out, by ``net_type``; scale and channels: of the run."""

Needs = Literal["nothing", "images", "features", "network"]


class DistillationEntry(NamedTuple):
    """A distillation type.

    Attributes:
        path: of its class.
        needs: what it asks the teacher for: "images" of the training patches, or these and "features" (token maps),
            both of which may be stored; or the "network", for it asks about other images as well.
    """

    path: str
    needs: Needs


DISTILLATIONS = {
    "none": DistillationEntry("swinlet.distillation.base.Distillation", "nothing"),
    "response": DistillationEntry("swinlet.distillation.response.ResponseDistillation", "images"),
    "response_tta": DistillationEntry("swinlet.distillation.response_tta.ResponseOfViews", "images"),
    "frequency": DistillationEntry("swinlet.distillation.frequency.FrequencyDistillation", "images"),
    "feature": DistillationEntry("swinlet.distillation.feature.FeatureDistillation", "features"),
    "feature_norm": DistillationEntry("swinlet.distillation.feature_norm.FeatureNormDistillation", "features"),
    "fakd": DistillationEntry("swinlet.distillation.fakd.AffinityDistillation", "features"),
    "dukd": DistillationEntry("swinlet.distillation.dukd.UpcyclingDistillation", "network"),
    "unlabelled": DistillationEntry("swinlet.distillation.unlabelled.UnlabelledDistillation", "network"),
    "frequency_truth": DistillationEntry("swinlet.distillation.frequency.FrequencyWithoutTeacher", "nothing"),
    "augmentation": DistillationEntry("swinlet.distillation.augmentation.AugmentationWithoutTeacher", "nothing"),
}

DATASETS = {"sr": "swinlet.data.dataset_sr.DatasetSR"}


def named_class(table: Mapping[str, str | DistillationEntry], name: str) -> Any:
    """The class that a name stands for.

    Raises:
        KeyError: the name is not in the table; option objects hold only names that are.
    """
    entry = table[name]
    path = entry.path if isinstance(entry, DistillationEntry) else entry
    module, _, attribute = path.rpartition(".")
    return getattr(import_module(module), attribute)


def _among(table: Mapping[str, object]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in table:
            near = difflib.get_close_matches(name.lower(), table, n=1, cutoff=0.6)
            meant = f", did you mean {near[0]}?" if near else ""
            raise ValueError(f"must be one of {', '.join(table)}{meant}")
        return name

    return AfterValidator(check)


def _enum(table: Mapping[str, object]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(table)})


ModelName = Annotated[str, _among(MODELS), _enum(MODELS)]
NetworkName = Annotated[str, _among(NETWORKS), _enum(NETWORKS)]
DistillationName = Annotated[str, _among(DISTILLATIONS), _enum(DISTILLATIONS)]
DatasetName = Annotated[str, _among(DATASETS), _enum(DATASETS)]
