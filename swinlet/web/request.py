"""From the words of a command line to what ``serve`` needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from swinlet.errors import CheckpointError, OptionError
from swinlet.evaluation.models import NamedFile, open_contenders
from swinlet.evaluation.request import device_of, labelled, net_types_of
from swinlet.evaluation.results import RESERVED
from swinlet.inference import RestoreOptions
from swinlet.options import Precision
from swinlet.upscale.upscaler import Upscaler, shipped
from swinlet.utils.picture import Picture
from swinlet.web.clock import Clock
from swinlet.web.compare import BICUBIC, ORIGINAL, Method, enlarge


@dataclass(frozen=True)
class WebRequest:
    """What the page offers, and where.

    Attributes:
        methods: bicubic, the students, the teacher.
        clock: of their computations.
        scale: of all.
        host, port: to listen on; port 0: any that is free.
        max_pixels: of a picture that is enlarged.
        opens_browser: show the page.
    """

    methods: tuple[Method, ...]
    clock: Clock
    scale: int
    host: str
    port: int
    max_pixels: int
    opens_browser: bool


def web_request(
    weights: Sequence[str],
    *,
    teacher: str | None,
    scale: int | None,
    net_types: Sequence[str],
    download: bool,
    host: str,
    port: int,
    device: str,
    precision: str,
    max_pixels: int,
    opens_browser: bool,
) -> WebRequest:
    """Check and translate what ``swinlet web`` was given, and open the weights.

    Raises:
        OptionError: naming every fault.
        CheckpointError: weights that cannot be opened, or do not enlarge by the same scale.
    """
    faults: list[str] = []
    if not 0 <= port <= 65535:
        faults.append(f"--port {port}: must be from 0 (any that is free) to 65535")
    if not host:
        faults.append("--host: is empty: name an address, such as 127.0.0.1")
    if max_pixels < 1:
        faults.append(f"--max-pixels {max_pixels}: must be at least 1")
    types = net_types_of(net_types, faults)
    files = [NamedFile(word, label) for label, word in map(labelled, weights)]
    faults += _taken_labels(files)
    place = device_of(device, precision, 0, faults)
    options = RestoreOptions(place, cast("Precision", precision), tile="auto")
    contenders, problems = open_contenders(
        files or [NamedFile(str(shipped(scale, "--scale")), "student")],
        None if teacher is None else NamedFile(teacher, origin="--teacher"),
        scale=scale,
        net_types=types,
        options=options,
        download=download,
    )
    if problems:
        raise CheckpointError("\n".join(problems))
    labels = [contender.card.label for contender in contenders]
    if ORIGINAL in labels:
        path = contenders[labels.index(ORIGINAL)].card.path
        raise OptionError(f"{path}: {ORIGINAL} is what the page calls the ground truth: name it --weights LABEL={path}")
    scale = contenders[0].network.upscale
    if scale == 1:
        raise OptionError(f"{contenders[0].card.path}: these weights do not enlarge (scale 1): name others")
    networks = [
        Method(contender.card.label, Upscaler(contender.network, options), contender.card.parameters)
        for contender in contenders
    ]
    clock = Clock()
    methods = (BICUBIC, *networks)
    for method in methods:
        warm_up(method, scale)
    for contender in contenders:
        clock.watch(contender.network)
    return WebRequest(methods, clock, scale, host, port, max_pixels, opens_browser)


def warm_up(method: Method, scale: int) -> None:
    """What the first image costs (weights are packed, a GPU is woken) shall not count as the method's time."""
    enlarge(Picture(np.zeros((32, 32, 3), np.uint8)), method, scale)


def _taken_labels(files: Sequence[NamedFile]) -> list[str]:
    """A fault for each label that the page needs itself, or that was given before: two rows cannot be told apart."""
    faults: list[str] = []
    taken = set(RESERVED)
    for file in files:
        if file.label in taken:
            faults.append(f"--weights {file.label}={file.word}: the label {file.label} is taken: choose another")
        elif file.label is not None:
            taken.add(file.label)
    return faults
