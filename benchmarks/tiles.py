"""How much an image restored in tiles differs from the same restored whole.

    python -m benchmarks.tiles ../shared/data/testsets/Set5/HR ../shared/data/testsets/Set14/HR [--weights W]

The images are taken as low-resolution ones, so that they are larger than the tiles. For each side of the tiles: the
largest difference in levels of 255, before rounding, and the time beside that of the whole image.
"""

import argparse
import time
from pathlib import Path

import torch

from swinlet.inference import RestoreOptions, Restorer
from swinlet.models.open_network import open_network
from swinlet.tiles import overlap_for
from swinlet.upscale.upscaler import SHIPPED
from swinlet.utils.image_io import list_images, read_image, to_tensor
from swinlet.weights import read_weight_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, default=SHIPPED[4])
    parser.add_argument("--tiles", type=int, nargs="+", default=[64, 128, 256])
    arguments = parser.parse_args()
    network = open_network(read_weight_file(arguments.weights, "--weights"), default_type="swinir_student")
    cpu = torch.device("cpu")
    restorers = {
        tile: Restorer(network, RestoreOptions(cpu, tile=tile, tile_overlap=overlap_for(tile, None)))
        for tile in arguments.tiles
    }
    whole = Restorer(network, RestoreOptions(cpu))
    largest, seconds, base = dict.fromkeys(restorers, 0.0), dict.fromkeys(restorers, 0.0), 0.0
    images = [path for folder in arguments.folders for path in list_images(folder)]
    for path in images:
        image = to_tensor(read_image(path, 3))[None].float() / 255
        begin = time.perf_counter()
        expected = whole.restore(image)
        base += time.perf_counter() - begin
        for tile, restorer in restorers.items():
            begin = time.perf_counter()
            found = restorer.restore(image)
            seconds[tile] += time.perf_counter() - begin
            largest[tile] = max(largest[tile], 255 * float((found - expected).abs().max()))
    print(f"{len(images)} images\n{'tile':>5}{'overlap':>9}{'largest difference':>20}{'time':>7}")
    for tile in restorers:
        print(f"{tile:5}{overlap_for(tile, None):9}{largest[tile]:20.3f}{seconds[tile] / base:7.2f}")


if __name__ == "__main__":
    main()
