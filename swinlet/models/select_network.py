"""From a network's name in the option file to the network."""

import re
from collections.abc import Mapping
from typing import Any

from swinlet.errors import CheckpointError, OptionError
from swinlet.models.init import init_weights
from swinlet.models.network_swinir import SwinIR
from swinlet.options import NetworkOptions, Options, parse_section
from swinlet.options.names import NETWORKS, PRESETS, named_class
from swinlet.weights import Recorded

# Keys of a network section that say how the network starts rather than what it is.
_START_KEYS = {"net_type", "init_type", "init_bn_type", "init_gain"}


def define_G(opt: NetworkOptions | Options | Mapping[str, Any], section: str = "netG") -> SwinIR:
    """Build a network with its first weights, on the CPU, in training mode.

    Args:
        opt: a ``netG`` section, as an object or a mapping with its keys, or the options of a whole run.
        section: name used in error messages.

    Raises:
        OptionError: unknown or contradictory keys.
    """
    if isinstance(opt, Options):
        opt = opt.completed(opt.netG)
    elif not isinstance(opt, NetworkOptions):
        opt = parse_section(NetworkOptions, opt, section)
    given = given_config(opt)
    try:
        network = select_network(opt.net_type)(**given)
        init_weights(network, opt.init_type, opt.init_gain)
    except ValueError as error:
        lines = [f"{section}.{fault}{_defaults_in(fault, given)}" for fault in str(error).split("; ")]
        raise OptionError("\n".join(lines)) from error
    return network


def _defaults_in(fault: str, given: Mapping[str, Any]) -> str:
    """Which of the keys that a fault names are nowhere in the option file."""
    defaults = [name for name in PRESETS["swinir"] if re.search(rf"\b{name}\b", fault) and name not in given]
    return f" ({' and '.join(defaults)}: the default)" if defaults else ""


def select_network(net_type: str) -> type[SwinIR]:
    """The class of a ``net_type``."""
    return named_class(NETWORKS, net_type)


def net_type_of(network: SwinIR) -> str:
    """The ``net_type`` of a network."""
    return next(name for name in NETWORKS if select_network(name) is type(network))


def check_recorded(network: SwinIR, recorded: Recorded, source: str) -> None:
    """Refuse weights that fit by name and shape, but were saved by a network that computes something else.

    Args:
        network: is to receive the weights.
        recorded: ``recorded_network`` of their file.
        source: option and file, for messages.

    Raises:
        CheckpointError: V1 against V2, or another ``img_range``.
    """
    net_type, img_range = recorded.net_type, recorded.img_range
    if net_type in NETWORKS and select_network(net_type).block is not network.block:
        raise CheckpointError(
            f"{source} was saved by a {net_type}, whose blocks compute something else with the same tensors: "
            "set net_type accordingly"
        )
    if img_range is not None and img_range != network.img_range:
        raise CheckpointError(f"{source} was saved with img_range {img_range}, not {network.img_range}")


def given_config(opt: NetworkOptions) -> dict[str, Any]:
    """The architecture keys that the section sets; the network's preset fills in the others."""
    return opt.model_dump(exclude=_START_KEYS, exclude_none=True)
