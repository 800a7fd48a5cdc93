"""Writing the files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swinlet.checkpoint import write_file
from swinlet.engines import openvino_cpu
from swinlet.errors import CheckpointError
from swinlet.export.request import ExportRequest, Format, files_of
from swinlet.export.weight_files import as_pth, as_safetensors, metadata_of
from swinlet.models.network_swinir import SwinIR
from swinlet.models.onnx_graph import WeightPrecision, onnx_graph
from swinlet.models.open_network import open_weights
from swinlet.utils.files import sha256_of


@dataclass(frozen=True)
class Exported:
    """One format of a network.

    Attributes:
        format: its name.
        path: the file; of OpenVINO's two the .xml.
        size: of all its files, in bytes.
    """

    format: Format
    path: Path
    size: int


def export(request: ExportRequest) -> tuple[SwinIR, list[Exported]]:
    """Write all formats, each whole or not at all; none where one cannot be made.

    Returns:
        The network, on the CPU, in eval mode, and what was written.

    Raises:
        CheckpointError: the weights are not those of a SwinIR, or a file cannot be written.
        SwinletError: a package for the format is missing.
    """
    network, file = open_weights(request.weights, "WEIGHTS", request.net_type)
    digest = file.recorded.options_sha256 if request.options is None else sha256_of(request.options)
    made = {kind: _contents(network, kind, digest, request.precision) for kind in request.outputs}
    exported: list[Exported] = []
    for kind, path in request.outputs.items():
        _remove_old(path)
        for target, content in zip(files_of(path), made[kind], strict=True):
            write_file(target, content)
        exported.append(Exported(kind, path, sum(map(len, made[kind]))))
    return network, exported


def _contents(network: SwinIR, kind: Format, digest: str | None, precision: WeightPrecision) -> Sequence[bytes]:
    """What is in the ``files_of`` a format."""
    if kind == "safetensors":
        return [as_safetensors(network, digest, precision)]
    if kind == "pth":
        return [as_pth(network, digest, precision)]
    metadata = metadata_of(network, digest)
    if kind == "onnx":
        return [onnx_graph(network, metadata, precision).SerializeToString()]
    model = openvino_cpu.read_onnx(onnx_graph(network, {}).SerializeToString())
    xml, weights = openvino_cpu.as_ir(model, metadata, half=precision == "fp16")
    return [weights, xml]


def _remove_old(path: Path) -> None:
    """Of two files the one that names the other goes first: at no instant do old and new lie side by side."""
    try:
        if len(files_of(path)) > 1:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be replaced: {error.strerror}") from error
