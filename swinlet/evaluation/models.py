"""The networks to be scored, opened from their files."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swinlet.errors import CheckpointError
from swinlet.evaluation.results import RESERVED, TEACHER, ModelCard
from swinlet.find_weights import find_weights
from swinlet.hub import PREFIX, is_hub_word
from swinlet.inference import RestoreOptions, Restorer
from swinlet.models.cost import multiply_adds, parameter_count
from swinlet.models.foreign_network import ForeignNetwork
from swinlet.models.image_network import ImageNetwork
from swinlet.models.network_swinir import SwinIR
from swinlet.models.open_network import AmbiguousNetworkError, open_any_network, open_network
from swinlet.models.select_network import net_type_of, select_network
from swinlet.options.schema import NetworkOptions
from swinlet.utils.files import sha256_of
from swinlet.utils.names import distinct
from swinlet.weights import WeightFile, read_weight_file


@dataclass(frozen=True)
class NamedFile:
    """Weights, and what they are called.

    Attributes:
        word: names them, see ``find_weights``.
        label: to show them under; None: made from the word.
        origin: what named them, for messages.
    """

    word: str
    label: str | None = None
    origin: str = "--weights"


@dataclass(frozen=True)
class Contender:
    """A network that is scored, and what is known of it."""

    card: ModelCard
    network: ImageNetwork
    restorer: Restorer


def open_contenders(
    weights: Sequence[NamedFile],
    teacher: NamedFile | None,
    *,
    scale: int | None,
    net_types: Mapping[str | None, str],
    options: RestoreOptions,
    download: bool = False,
) -> tuple[list[Contender], list[str]]:
    """Open the students and the teacher; what cannot be opened becomes a problem and leaves the others alone.

    Args:
        weights: the students.
        teacher: its file; the label does not count.
        scale: the scale wanted; None: that of the first network.
        net_types: label -> net_type of files that do not tell V1 from V2; None -> that of all such files.
        options: how they will restore.
        download: let ``hf://`` weights be fetched.

    Returns:
        Contenders of one scale and one number of channels, the teacher last, and the problems.
    """
    found: list[Contender] = []
    problems: list[str] = []
    labels = [*_labels(weights), TEACHER]
    unused = sorted(label for label in net_types if label is not None and label not in labels)
    problems += [f"--net-type {label}=...: no weights have this label, only {', '.join(labels)}" for label in unused]
    files = [*weights, *([teacher] if teacher is not None else [])]
    for label, named in zip(labels, files, strict=False):
        try:
            path = find_weights(named.word, named.origin, download=download, tell=problems.append)
            network, file = _open(path, named.origin, label, scale, net_types)
            _check_alike(network, file.source, scale, found)
            _check_precision(network, file.source, options)
            found.append(_contender(network, file, label, options))
        except CheckpointError as error:
            problems.append(str(error))
    return found, problems


def _open(
    path: Path, key: str, label: str, scale: int | None, net_types: Mapping[str | None, str]
) -> tuple[SwinIR | ForeignNetwork, WeightFile]:
    file = read_weight_file(path, key)
    given = net_types.get(label, net_types.get(None))
    try:
        network = open_any_network(file, default_type=given or ("swinir" if label == TEACHER else None))
    except AmbiguousNetworkError as error:
        kinds = " or ".join(f"--net-type {label}={kind}" for kind in ("swinir_student", "swinir_student_v2"))
        raise CheckpointError(f"{error}: pass {kinds}") from error
    if isinstance(network, ForeignNetwork):
        if label in net_types:
            raise CheckpointError(f"{file.source}: --net-type says {net_types[label]}, but it is {network.kind}")
        return network, file
    if label in net_types and select_network(net_types[label]).block is not network.block:
        raise CheckpointError(
            f"{file.source}: --net-type says {net_types[label]}, but it records {net_type_of(network)}"
        )
    untold = network.upsampler == "nearest+conv" and file.recorded.upscale is None
    if scale == 3 and network.upscale == 2 and untold:  # the same weights serve both
        network = open_network(file, section=NetworkOptions(net_type=net_type_of(network), upscale=3))
    return network, file


def _check_precision(network: ImageNetwork, source: str, options: RestoreOptions) -> None:
    if options.precision not in network.precisions:
        precisions = " or ".join(network.precisions)
        raise CheckpointError(f"{source}: it does not compute in {options.precision}: use --precision {precisions}")


def _check_alike(network: ImageNetwork, source: str, scale: int | None, others: Sequence[Contender]) -> None:
    """Refuse a network that cannot stand in one table with the others."""
    if scale is not None and network.upscale != scale:
        raise CheckpointError(f"{source}: these weights enlarge x{network.upscale}, but --scale is {scale}")
    for key, text in (("upscale", "scale"), ("in_chans", "number of channels")):
        first = others[0] if others else None
        if first is not None and getattr(network, key) != getattr(first.network, key):
            raise CheckpointError(
                f"{source}: its {text} is {getattr(network, key)}, that of {first.card.label} is "
                f"{getattr(first.network, key)}: name it in a call of its own"
            )


def _contender(network: SwinIR | ForeignNetwork, file: WeightFile, label: str, options: RestoreOptions) -> Contender:
    card = ModelCard(
        label=label,
        role="teacher" if label == TEACHER else "student",
        path=str(file.path),
        sha256=sha256_of(file.path),
        net_type=net_type_of(network) if isinstance(network, SwinIR) else network.kind,
        in_chans=network.in_chans,
        parameters=parameter_count(network),
        multiply_adds=multiply_adds(network) if isinstance(network, SwinIR) else None,
    )
    return Contender(card, network, Restorer(network, options))


def _labels(weights: Sequence[NamedFile]) -> list[str]:
    """A label for each file, all different: the given one, or the run's name, or the file's."""
    taken = set(RESERVED)
    labels: list[str] = []
    for file in weights:
        names = [file.label] if file.label is not None else list(_names(file.word))
        name = next((name for name in names if name not in taken), distinct(names[-1], taken))
        taken.add(name)
        labels.append(name)
    return labels


def _names(word: str) -> Iterator[str]:
    """Names for weights, shortest first: a model's, a run's folder's or a file's name, then longer ones."""
    if is_hub_word(word):
        user, *model = re.split("[/@]", word.removeprefix(PREFIX))
        yield from model[:1]
        yield " ".join([user, *model])
        return
    path = Path(os.path.abspath(word))  # without ".."
    if path.is_dir():
        yield path.name
        return
    run = path.parents[1].name if path.parent.name == "models" else ""
    if run:
        yield run
        yield f"{run} {path.stem}"
    else:
        yield path.stem
