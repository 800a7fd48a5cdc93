"""The test phase: pictures of the test images, and their scores."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from swinlet.data.dataset_sr import DatasetSR
from swinlet.metrics import psnr, psnr_y
from swinlet.models.model_plain import ModelPlain
from swinlet.options import Options
from swinlet.utils.image_io import save_image, to_uint8
from swinlet.utils.resize import bicubic_upscale

NAMES = {"bicubic": "bicubic", "G": "student", "E": "student (EMA)", "Teacher": "teacher"}


@dataclass
class Scores:
    """Scores of one set of weights: PSNR in dB, RGB and Y, for each image."""

    weights: str
    images: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    def mean(self, metric: str) -> float:
        """Mean over the images of "psnr_rgb" or "psnr_y"."""
        return fmean(scores[metric] for scores in self.images.values())

    def add(self, name: str, estimate: NDArray[np.uint8], truth: NDArray[np.uint8], shave: int) -> None:
        """Score one picture."""
        self.images[name] = {
            "psnr_rgb": psnr(estimate, truth, shave),
            "psnr_y": psnr_y(estimate, truth, shave),
        }

    def as_record(self) -> dict[str, Any]:
        """For metrics.jsonl."""
        means = {metric: self.mean(metric) for metric in ("psnr_rgb", "psnr_y")}
        return {"weights": self.weights, "mean": means, "images": self.images}


class TestPhase:
    """The test images of a run.

    Args:
        dataset: the test set, whole images.
        opt: options of the run; ``scale`` is also the border that scores leave out (none at scale 1).
    """

    __test__ = False  # not for pytest

    def __init__(self, dataset: DatasetSR, opt: Options) -> None:
        self._dataset = dataset
        self._scale = opt.scale
        self._shave = opt.scale if opt.scale > 1 else 0  # denoising is scored on the whole image
        self.images_dir = opt.run_dir / "images"

    def run(self, model: ModelPlain, step: int, show: Callable[[int, str, NDArray[np.uint8]], None]) -> list[Scores]:
        """Score the student and its moving average; save the picture of what would be deployed.

        Args:
            model: the model to test.
            step: iterations done; pictures are ``images_dir/<name>/<name>_<step>.png``.
            show: is handed step, name and picture (uint8 (H, W, C)), too.

        Returns:
            The scores, deployed weights first.
        """
        labels = [model.tested_weights] + (["G"] if model.tested_weights != "G" else [])
        table = [Scores(label) for label in labels]
        for name, item, truth in self._items():
            for scores in table:
                estimate = _restore(model, item, scores.weights)
                scores.add(name, estimate, truth, self._shave)
                if scores.weights == model.tested_weights:
                    save_image(self.images_dir / name / f"{Path(name).name}_{step}.png", estimate)
                    show(step, name, estimate)
        return table

    def compare(self, model: ModelPlain) -> list[Scores]:
        """Score bicubic interpolation, the deployed student and, where there is one, the teacher."""
        table = [Scores("bicubic"), Scores(model.tested_weights)]
        if model.netTeacher is not None:
            table.append(Scores("Teacher"))
        for name, item, truth in self._items():
            for scores in table:
                if scores.weights == "bicubic":
                    estimate = bicubic_upscale(_to_array(item["L"]), self._scale)
                else:
                    estimate = _restore(model, item, scores.weights)
                scores.add(name, estimate, truth, self._shave)
        return table

    def _items(self) -> Iterator[tuple[str, Mapping[str, Any], NDArray[np.uint8]]]:
        for i in range(len(self._dataset)):
            item = self._dataset[i]
            yield item["name"], item, _to_array(item["H"])


def _restore(model: ModelPlain, item: Mapping[str, Any], weights: str) -> NDArray[np.uint8]:
    model.feed_data({"L": item["L"][None]})
    model.test(weights)
    return to_uint8(model.current_visuals()["E"])


def _to_array(image: Tensor) -> NDArray[np.uint8]:
    return image.permute(1, 2, 0).numpy()
