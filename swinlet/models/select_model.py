"""From a model's name in the option file to the model."""

from collections.abc import Mapping
from typing import Any

from swinlet.models.model_plain import ModelPlain
from swinlet.options import Options, parse_options
from swinlet.options.names import MODELS, named_class


def define_Model(opt: Options | Mapping[str, Any]) -> ModelPlain:
    """Build student, teacher and translator of a run; no data set is needed.

    Args:
        opt: options of a run, as an object or a mapping with the keys of an option file.

    Raises:
        OptionError, CheckpointError: the options are wrong, or the teacher does not fit.
    """
    opt = parse_options(opt)
    return named_class(MODELS, opt.model)(opt)
