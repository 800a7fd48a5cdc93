"""The names that an option file may use for a class, and where the class is.

The one table to extend for a new network, distillation type, dataset or model. Classes stand here as text, so that
options can be checked, and completed by editors, without importing torch.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

MODELS = {"plain": "swinlet.models.model_plain.ModelPlain"}

NETWORKS = {
    "swinir": "swinlet.models.network_swinir.SwinIR",
    "swinir_student": "swinlet.models.network_swinir_student.SwinIRStudent",
    "swinir_student_v2": "swinlet.models.network_swinir_student_v2.SwinIRStudentV2",
}

DISTILLATIONS = {
    "none": "swinlet.distillation.base.Distillation",
    "response": "swinlet.distillation.response.ResponseDistillation",
    "feature": "swinlet.distillation.feature.FeatureDistillation",
}

FROM_IMAGES = frozenset({"response"})
"""Distillation types that ask a teacher for its images of the training patches alone: stored ones will do."""

FROM_FEATURES = frozenset({"feature"})
"""Those that ask it for its images and token maps: stored ones will do."""

DATASETS = {"sr": "swinlet.data.dataset_sr.DatasetSR"}


def named_class(table: Mapping[str, str], name: str) -> Any:
    """The class that a name stands for.

    Raises:
        KeyError: the name is not in the table; option objects hold only names that are.
    """
    module, _, attribute = table[name].rpartition(".")
    return getattr(import_module(module), attribute)


def _among(table: Mapping[str, str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"must be one of {', '.join(table)}")
        return name

    return AfterValidator(check)


def _enum(table: Mapping[str, str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(table)})


ModelName = Annotated[str, _among(MODELS), _enum(MODELS)]
NetworkName = Annotated[str, _among(NETWORKS), _enum(NETWORKS)]
DistillationName = Annotated[str, _among(DISTILLATIONS), _enum(DISTILLATIONS)]
DatasetName = Annotated[str, _among(DATASETS), _enum(DATASETS)]
