"""The images of the studies in docs/studies: a training set, and crops of photographs that are not in it.

    python scripts/make_study_data.py ../shared/data study_data

``study_data/train`` is T91 and the training split of BSDS500. ``study_data/BSDS100/HR`` has the middle 192x192
pixels of the first 100 photographs of the test split, by name, as PNG. Set5 and Set14 are used where they are.
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image

SIDE, COUNT = 192, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/T91, train/BSDS500_train and train/BSDS500_test")
    parser.add_argument("out", type=Path, help="folder to make")
    arguments = parser.parse_args()
    source = arguments.data.resolve() / "train"
    training, crops = arguments.out / "train", arguments.out / "BSDS100" / "HR"
    crops.mkdir(parents=True, exist_ok=True)
    for name in ("T91", "BSDS500_train"):
        shutil.copytree(source / name, training / name, dirs_exist_ok=True)
    for path in sorted((source / "BSDS500_test").glob("*.jpg"))[:COUNT]:
        with Image.open(path) as photograph:
            left, top = ((side - SIDE) // 2 for side in photograph.size)
            photograph.convert("RGB").crop((left, top, left + SIDE, top + SIDE)).save(crops / f"{path.stem}.png")


if __name__ == "__main__":
    main()
