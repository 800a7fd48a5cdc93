"""What mirrored borders change: the frame around flat colours, and photographs near their edges.

    python -m benchmarks.borders ../shared/data/testsets/Set5 ../shared/data/testsets/Set14

For each scale of the shipped students, without and with the border of ``swinlet upscale``: the largest difference in
levels of 255 from flat pictures of 40x40 pixels, in each of the eight saturated colours; and the mean PSNR-Y of each
test set in the outermost pixels (as many as the scale), which scores leave out, and inside.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from swinlet.evaluation.testsets import open_testset
from swinlet.inference import BORDER, RestoreOptions, Restorer
from swinlet.models.open_network import open_network
from swinlet.upscale.upscaler import SHIPPED
from swinlet.weights import read_weight_file

Y = np.array([65.481, 128.553, 24.966]) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("testsets", type=Path, nargs="*")
    arguments = parser.parse_args()
    print(
        f"{'scale':>5}{'border':>7}{'flat':>6}",
        *(f"{path.name + ' edge':>14}{'inside':>9}" for path in arguments.testsets),
    )
    for scale, weights in SHIPPED.items():
        network = open_network(read_weight_file(weights, "weights"))
        for border in (0, BORDER):
            restorer = Restorer(network, RestoreOptions(torch.device("cpu"), border=border))
            means = [np.mean(scores(restorer, path, scale), axis=0) for path in arguments.testsets]
            print(f"{scale:5}{border:7}{frame(restorer):6}", *(f"{edge:14.2f}{inside:9.2f}" for edge, inside in means))


def frame(restorer: Restorer) -> int:
    """The largest difference from flat pictures."""
    colours = np.array(np.meshgrid(*[[0, 255]] * 3)).reshape(3, 8).T
    pictures = [np.full((40, 40, 3), colour, np.uint8) for colour in colours]
    return max(int(np.abs(restorer(picture) - colour).max()) for picture, colour in zip(pictures, colours, strict=True))


def scores(restorer: Restorer, testset: Path, scale: int) -> list[tuple[float, float]]:
    """PSNR-Y of the outermost ``scale`` pixels and of the others, for each picture."""
    dataset = open_testset(testset, scale, 3).dataset
    found: list[tuple[float, float]] = []
    for index in range(len(dataset)):
        low, high = (dataset[index][key].permute(1, 2, 0).numpy() for key in ("L", "H"))
        errors = ((restorer(low).astype(float) - high) @ Y) ** 2
        inside = errors[scale:-scale, scale:-scale]
        found.append((psnr((errors.sum() - inside.sum()) / (errors.size - inside.size)), psnr(inside.mean())))
    return found


def psnr(error: float) -> float:
    return float(10 * np.log10(255**2 / error))


if __name__ == "__main__":
    main()
