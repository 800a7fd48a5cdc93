"""A wrong teacher, as a control: the architecture of the real one, with random weights."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from swinlet.export.weight_files import as_safetensors
from swinlet.models.network_swinir import SwinIR
from swinlet.models.open_network import open_any_network
from swinlet.models.select_network import define_G, net_type_of
from swinlet.options import NetworkOptions, Options
from swinlet.utils.files import write_bytes
from swinlet.weights import read_weight_file

SEED = 20_231_117  # any that no other network is made with


@dataclass(frozen=True)
class UntrainedTeacher:
    """A teacher that is to be written.

    Attributes:
        path: its file, named after what it is.
        kind: its class.
        config: its architecture.
    """

    path: Path
    kind: type[SwinIR]
    config: dict[str, Any]

    def write(self) -> None:
        """Make the file, unless it is there: its content is always the same."""
        if not self.path.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(SEED)
                network = self.kind(**self.config)
            write_bytes(self.path, as_safetensors(network.eval()), shared=True)


def untrained_teacher(options: Options, out: Path) -> UntrainedTeacher:
    """The architecture of the options' own teacher if that is a SwinIR, else of ``netTeacher`` or the students' preset.

    Raises:
        CheckpointError: the teacher cannot be read.
    """
    network = _own_teacher(options) or define_G(options.completed(options.netTeacher or NetworkOptions()))
    name = net_type_of(network)
    digest = hashlib.sha256(json.dumps(network.config, sort_keys=True).encode()).hexdigest()[:8]
    return UntrainedTeacher(out / f"untrained_teacher_{name}_{digest}.safetensors", type(network), network.config)


def _own_teacher(options: Options) -> SwinIR | None:
    if not options.path.teachers:
        return None
    file = read_weight_file(options.path.teachers[0], "path.pretrained_netTeacher")
    network = open_any_network(file, default_type="swinir", section=options.netTeacher, section_name="netTeacher")
    return network if isinstance(network, SwinIR) else None
