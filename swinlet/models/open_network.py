"""From a weight file to the network that it belongs to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swinlet.errors import CheckpointError, OptionError
from swinlet.models.architecture import NotSwinIRError, completed, disagreements, read_architecture
from swinlet.models.foreign_network import ForeignNetwork, UnknownNetworkError, open_foreign
from swinlet.models.network_swinir import SwinIR
from swinlet.models.select_network import check_recorded, given_config, net_type_of, select_network
from swinlet.options import NetworkOptions
from swinlet.options.names import NETWORKS
from swinlet.weights import (
    Recorded,
    WeightFile,
    check_fit,
    load_into,
    read_weight_file,
    without_derived_buffers,
)

# Keys that BasicSR and the official SwinIR put their weights under. V2 has never been saved so.
_OFFICIAL_WRAPPERS = ("params", "params_ema")


class AmbiguousNetworkError(CheckpointError):
    """The tensors fit two networks that compute different things, and nothing says which was meant."""


def open_any_network(
    file: WeightFile,
    *,
    default_type: str | None = None,
    section: NetworkOptions | None = None,
    section_name: str = "netG",
) -> SwinIR | ForeignNetwork:
    """Build the network of a weight file, whatever its architecture, with its weights, on the CPU.

    Args and errors are those of ``open_network``, which opens what is a SwinIR.

    Raises:
        CheckpointError: the architecture is not known, or no network for super-resolution.
    """
    try:
        return open_network(file, default_type=default_type, section=section, section_name=section_name)
    except NotSwinIRError as error:
        try:
            network = open_foreign(file)
        except UnknownNetworkError as unknown:
            raise CheckpointError(f"{error}. {_without(file.source, unknown)}") from unknown
    if section is not None:
        raise OptionError(f"{section_name}: it describes a SwinIR, but {file.source} is {network.kind}: remove it")
    return network


def _without(source: str, error: Exception) -> str:
    """An error's reason, as a sentence."""
    reason = str(error).removeprefix(f"{source}: ")
    return f"{reason[:1].upper()}{reason[1:]}"


def open_network(
    file: WeightFile,
    *,
    default_type: str | None = None,
    section: NetworkOptions | None = None,
    section_name: str = "netG",
) -> SwinIR:
    """Build the network of a weight file, with its weights, on the CPU, in training mode.

    The architecture is read off the tensors. What they do not tell is taken from what is recorded in or beside the
    file: whether the blocks are V1's or V2's, which have the same tensors, ``img_range``, and where it matters to
    shapes no more than that, ``upscale``, ``img_size`` and ``window_size``.

    Args:
        file: the weights.
        default_type: the ``net_type`` of files that do not say.
        section: has to agree with the file, and decides where the file says nothing.
        section_name: its name, for messages.

    Raises:
        AmbiguousNetworkError: nothing tells V1 from V2.
        NotSwinIRError: these are not the weights of a SwinIR.
        CheckpointError: they are damaged, or contradict what is recorded.
        OptionError: the section contradicts the file.
    """
    recorded = file.recorded
    config = completed(file.state, read_architecture(file.state, file.source), recorded)
    if recorded.img_range is not None:
        config["img_range"] = recorded.img_range
    try:
        # Without memory first: a small file may have the shapes of a huge network, or one tensor under many names. And
        # before sizes are compared with the section: those of a damaged file say nothing of it.
        with torch.device("meta"):
            _check_names(SwinIR(**config), file)  # every type has its tensors
        _refuse_shared(file)
        if section is not None:
            config = _agreed(file.state, config, section, file.source, section_name)
        net_type = section.net_type if section is not None else _net_type(file, recorded, default_type)
        network = select_network(net_type)(**config)
    except ValueError as error:
        raise NotSwinIRError(f"{file.source}: these are not the weights of a SwinIR: {error}") from error
    load_into(network, file.state, strict=True, source=file.source)
    check_recorded(network, recorded, file.source)
    return network


def open_weights(path: Path, key: str, net_type: str | None = None) -> tuple[SwinIR, WeightFile]:
    """``open_network`` of one file that a command line names, in eval mode and without gradients.

    Args:
        path: the weights.
        key: the option that names them, for messages.
        net_type: what ``--net-type`` says.

    Raises:
        CheckpointError: as of ``open_network``; or the file records another network.
    """
    file = read_weight_file(path, key)
    try:
        network = open_network(file, default_type=net_type)
    except AmbiguousNetworkError as error:
        raise CheckpointError(f"{error}: pass --net-type swinir_student or --net-type swinir_student_v2") from error
    if net_type is not None and select_network(net_type).block is not network.block:
        raise CheckpointError(f"{file.source}: --net-type says {net_type}, but it records {net_type_of(network)}")
    return network.eval().requires_grad_(False), file


def _check_names(network: SwinIR, file: WeightFile) -> None:
    """HAT and others have all the tensors that tell a SwinIR's architecture, and more."""
    try:
        check_fit(network, file.state, file.source)
    except CheckpointError as error:
        raise NotSwinIRError(str(error)) from error


def _refuse_shared(file: WeightFile) -> None:
    tensors: list[Tensor] = list(without_derived_buffers(file.state).values())  # blocks do share those
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    claimed, stored = sum(tensor.nbytes for tensor in tensors), sum(storages.values())
    if claimed > stored:
        raise CheckpointError(f"{file.source}: its tensors share values: {claimed:,} bytes made of {stored:,}")


def _net_type(file: WeightFile, recorded: Recorded, default_type: str | None) -> str:
    if recorded.net_type in NETWORKS:
        return recorded.net_type
    if default_type is not None:
        return default_type
    if file.wrapper in _OFFICIAL_WRAPPERS:
        return "swinir"
    raise AmbiguousNetworkError(
        f"{file.source} does not say whether its blocks are SwinIR's or those of swinir_student_v2, which have the "
        "same tensors"
    )


def _agreed(
    state: Mapping[str, Tensor], found: dict[str, Any], section: NetworkOptions, source: str, name: str
) -> dict[str, Any]:
    """The file's architecture, completed by the section where weights say nothing."""
    given = given_config(section)
    faults = [
        f"{name}.{key}: {value}, but {source} has {other}" for key, value, other in disagreements(state, found, given)
    ]
    if faults:
        raise OptionError("\n".join(faults))
    return found | given
