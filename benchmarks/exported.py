"""What exports cost and bring: size of the file, PSNR-Y on a test set, latency, by torch and by other engines.

    python -m benchmarks.exported [--weights FILE] [--testset DIR] [--sizes 64 128 256] [--seconds 60] [--json FILE]

Everything is computed by as many threads as torch has (OMP_NUM_THREADS). Latency: median of rounds in which all take
turns, for one image of noise. See docs/export.md.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swinlet import kernels
from swinlet.engines import Backend, EnginePrecision, open_engine
from swinlet.export.request import Format, export_request
from swinlet.export.write import export
from swinlet.metrics import GroundTruth
from swinlet.models.network_swinir import SwinIR
from swinlet.models.open_network import open_weights
from swinlet.options import Precision
from swinlet.utils.device import autocast
from swinlet.utils.image_io import list_images, read_image, to_tensor, to_uint8
from swinlet.utils.resize import bicubic_downscale
from swinlet.utils.timing import median_seconds

Call = Callable[[Tensor], Tensor]
FILES: list[tuple[str, Format, str, list[tuple[str, Backend, EnginePrecision]]]] = [
    (".onnx", "onnx", "fp32", [("onnxruntime", "onnx", "fp32")]),
    (".onnx fp16", "onnx", "fp16", [("onnxruntime", "onnx", "fp32")]),
    (".onnx int8", "onnx", "int8", [("onnxruntime", "onnx", "fp32"), ("openvino", "openvino", "fp32")]),
    (".xml", "openvino", "fp32", [("openvino", "openvino", "fp32"), ("openvino bf16", "openvino", "bf16")]),
    (".xml fp16", "openvino", "fp16", [("openvino", "openvino", "fp32")]),
]


def contestants(weights: Path, folder: Path) -> Iterator[tuple[str, int, Call]]:
    """Name, bytes of the file, and what computes."""
    network = open_weights(weights, "--weights")[0]
    for path in ("torch", "native"):
        for precision in ("fp32", "bf16"):
            yield f"{path} {precision}", weights.stat().st_size, partial(_eager, network, path, precision)
    for name, form, precision, engines in FILES:
        request = export_request(
            str(weights), [form], out=folder, precision=precision, net_type=None, options=None, overwrite=True
        )
        file = export(request)[1][0]
        for engine, backend, computed in engines:
            yield f"{engine}, {name}", file.size, open_engine(backend, file.path, precision=computed)


def _eager(network: SwinIR, path: Any, precision: Precision, image: Tensor) -> Tensor:
    with kernels.using(path), autocast(torch.device("cpu"), precision):
        return network(image).float()


def pairs(testset: Path, scale: int, channels: int) -> list[tuple[GroundTruth, Tensor]]:
    """HR images as ``swinlet evaluate`` cuts them, and what bicubic makes of them."""
    found = []
    for file in list_images(testset / "HR" if (testset / "HR").is_dir() else testset):
        high = read_image(file, channels)
        low = bicubic_downscale(high, scale)
        truth = GroundTruth(high[: low.shape[0] * scale, : low.shape[1] * scale], scale)
        found.append((truth, to_tensor(low)[None].float() / 255))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("demo/teacher_x4.safetensors"))
    parser.add_argument("--testset", type=Path, default=Path("../shared/data/testsets/Set5"))
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--seconds", type=float, default=60, help="for the timed rounds of one size")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swinlet-") as folder, torch.inference_mode():
        rows = [(name, size, run, {}) for name, size, run in contestants(words.weights, Path(folder))]
        network = open_weights(words.weights, "--weights")[0]
        images = pairs(words.testset, network.upscale, network.in_chans)
        for _, _, run, row in rows:
            scores = [truth.psnr_y(to_uint8(run(low)[0])) for truth, low in images]
            row["psnr_y"] = sum(scores) / len(scores)
        for side in words.sizes:
            image = torch.rand(1, network.in_chans, side, side, generator=torch.Generator().manual_seed(0))
            seconds, runs = median_seconds([partial(run, image) for _, _, run, _ in rows], words.seconds)
            for (_, _, _, row), time in zip(rows, seconds, strict=True):
                row[f"ms_{side}"] = 1000 * time
            print(f"{side}: medians of {runs}", flush=True)
    print(f"| | MB | PSNR-Y |{''.join(f' {side} |' for side in words.sizes)}")
    print("|---|---|---|" + "---|" * len(words.sizes))
    for name, size, _, row in rows:
        times = "".join(f" {row[f'ms_{side}']:.0f} ms |" for side in words.sizes)
        print(f"| {name} | {size / 1e6:.2f} | {row['psnr_y']:.4f} |{times}")
    if words.json:
        record = [{"name": name, "bytes": size, **row} for name, size, _, row in rows]
        words.json.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": record}, indent=1))


if __name__ == "__main__":
    main()
