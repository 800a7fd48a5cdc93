"""What is published of a network: its weights and its card."""

import hashlib
import re
from pathlib import Path

from swinlet.errors import DataError, OptionError
from swinlet.export.request import options_of
from swinlet.export.weight_files import as_safetensors
from swinlet.find_weights import find_weights
from swinlet.hub import WEIGHTS_FILE, check_model
from swinlet.model_card import PublishedModel, read_scores, render_card
from swinlet.models.cost import parameter_count
from swinlet.models.open_network import open_weights
from swinlet.models.select_network import net_type_of
from swinlet.options.names import NETWORKS
from swinlet.utils.files import MAX_RECORD, read_regular, sha256_of

CARD_FILE = "README.md"


def files_to_publish(
    weights: str,
    model: str,
    *,
    net_type: str | None = None,
    card: Path | None = None,
    scores: Path | None = None,
    licence: str | None = None,
    download: bool = False,
) -> dict[str, bytes]:
    """The files of a model on the hub, name to content: ``model.safetensors`` and its card, ``README.md``.

    Args:
        weights: a word for ``find_weights``.
        model: ``user/model``.
        net_type: of weights that do not tell V1 from V2.
        card: the card, taken as it is; None: it is made.
        scores: file of ``swinlet evaluate --json`` with these weights, for the card.
        licence: the hub's identifier, for the card.
        download: as for ``find_weights``.

    Raises:
        SwinletError: anything of this is not right.
        OSError: a file cannot be read.
    """
    check_model(model)
    _check_options(net_type, card, scores, licence)
    path = find_weights(weights, "WEIGHTS", download=download)
    network, file = open_weights(path, "WEIGHTS", net_type)
    options = options_of(path)
    content = as_safetensors(network, file.recorded.options_sha256 if options is None else sha256_of(options))
    if card is not None:
        return {WEIGHTS_FILE: content, CARD_FILE: _own_card(card)}
    tables, scored_with = read_scores(scores, sha256_of(path)) if scores is not None else ((), "")
    made = PublishedModel(
        name=model,
        net_type=net_type_of(network),
        config=network.config,
        parameters=parameter_count(network),
        file=WEIGHTS_FILE,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        scores=tables,
        scored_with=scored_with,
        licence=licence,
    )
    return {WEIGHTS_FILE: content, CARD_FILE: render_card(made).encode()}


def _check_options(net_type: str | None, card: Path | None, scores: Path | None, licence: str | None) -> None:
    faults: list[str] = []
    if net_type is not None and net_type not in NETWORKS:
        faults.append(f"--net-type {net_type}: must be one of {', '.join(NETWORKS)}")
    if card is not None and (scores is not None or licence is not None):
        faults.append("--card is taken as it is: leave --scores and --license out, and write them there")
    for option, path in (("--card", card), ("--scores", scores)):
        if path is not None and not path.is_file():
            faults.append(f"{option} {path}: there is no such file")
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        faults.append(f"--license {licence}: must be an identifier of the hub, such as apache-2.0, mit or other")
    if faults:
        raise OptionError("\n".join(faults))


def _own_card(path: Path) -> bytes:
    content = read_regular(path, MAX_RECORD)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"--card: {path} is no text in UTF-8: {error.reason} at byte {error.start}") from error
    return content
