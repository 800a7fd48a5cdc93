"""The test phase: pictures of the test images, their scores, and which weights were best."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from swinlet.checkpoint import read_best
from swinlet.data.dataset_sr import DatasetSR
from swinlet.errors import DataError, TrainingError
from swinlet.metrics import GroundTruth, Scores, shave_of
from swinlet.models.model_plain import ModelPlain
from swinlet.options import Options
from swinlet.utils.finite import finite
from swinlet.utils.image_io import save_image, to_uint8
from swinlet.utils.processes import Processes
from swinlet.utils.resize import bicubic_upscale

LOGGER = logging.getLogger("swinlet")

ADVICE = "Saved checkpoints are kept. Lower train.G_optimizer_lr or set train.G_optimizer_clipgrad, and start again"

NAMES = {"bicubic": "bicubic of LR", "G": "student", "E": "student (EMA)", "Teacher": "teacher"}


@dataclass(frozen=True)
class _Restored:
    """Scores by metric, and the picture, uint8 (H, W, C)."""

    scores: dict[str, float]
    picture: NDArray[np.uint8]


class TestPhase:
    """The images of a run's test or validation set.

    Args:
        dataset: whole images.
        opt: options of the run.
        processes: restore and score the images in turn.
        name: of the set, "test" or "val".
    """

    __test__ = False  # not for pytest

    def __init__(
        self, dataset: DatasetSR, opt: Options, processes: Processes, name: Literal["test", "val"] = "test"
    ) -> None:
        self._dataset, self._processes = dataset, processes
        self._scale = opt.scale
        self.name = name
        self.folder: Path = getattr(opt.datasets, name).dataroot_H
        self.images_dir = opt.run_dir / "images"

    def run(
        self, model: ModelPlain, step: int, show: Callable[[int, str, NDArray[np.uint8]], None] | None = None
    ) -> list[Scores]:
        """Score the student and its moving average.

        Args:
            model: the model to test.
            step: iterations done.
            show: where given, the main process saves the picture of what would be deployed as
                ``images_dir/<name>/<name>_<step>.png``, and ``show`` is handed step, name and picture (uint8
                (H, W, C)), too.

        Returns:
            The scores, labelled "E" and "G", deployed weights first.
        """
        labels = [model.tested_weights] + (["G"] if model.tested_weights != "G" else [])
        table = [Scores(label) for label in labels]
        for name, images in self._restored(model, labels):
            for scores in table:
                scores.images[name] = images[scores.label].scores
            picture = images[model.tested_weights].picture
            if show is not None and self._processes.is_main:
                save_image(self.images_dir / name / f"{Path(name).name}_{step}.png", picture)
                show(step, name, picture)
        return table

    def compare(self, model: ModelPlain) -> list[Scores]:
        """Score bicubic interpolation, the deployed student and, where there is one, the teacher."""
        table = [Scores("bicubic"), Scores(model.tested_weights)]
        if model.netTeacher is not None:
            table.append(Scores("Teacher"))
        for name, images in self._restored(model, [scores.label for scores in table]):
            for scores in table:
                scores.images[name] = images[scores.label].scores
        return table

    def _restored(self, model: ModelPlain, labels: Sequence[str]) -> Iterator[tuple[str, dict[str, _Restored]]]:
        """Name, and by label what each network makes of it, of each image; handed to all processes."""

        def restore(index: int) -> dict[str, _Restored]:
            item = self._dataset[index]
            truth = GroundTruth(_to_array(item["H"]), shave_of(self._scale))
            made = {label: self._make(model, item, label) for label in labels}
            return {label: _Restored(truth.score(picture), picture) for label, picture in made.items()}

        return zip(self._dataset.names, self._processes.each(restore, len(self._dataset)), strict=True)

    def _make(self, model: ModelPlain, item: Mapping[str, Any], label: str) -> NDArray[np.uint8]:
        if label == "bicubic":
            return bicubic_upscale(_to_array(item["L"]), self._scale)
        return _restore(model, item, label)


class BestWeights:
    """Keeps the deployed weights of the best test so far, by PSNR-Y.

    Args:
        model: whose weights.
        chooser: the test that decides; scores on other images are no rivals.
        start: iterations done before; 0: whatever an earlier attempt kept does not count.
    """

    def __init__(self, model: ModelPlain, chooser: TestPhase, start: int) -> None:
        self._model = model
        self._record: dict[str, Any] = {"set": chooser.name, "dataroot_H": str(chooser.folder)}
        recorded = model.processes.from_main(lambda: read_best(model.models_dir) if start else None)
        self._best = -math.inf
        if recorded is not None and recorded.items() >= self._record.items():
            self._best = _as_score(recorded["psnr_y"])
        elif recorded is not None:
            LOGGER.warning("best weights: the set that chooses is another one; the first test replaces them")

    def offer(self, step: int, scores: Scores) -> None:
        """Keep the weights if they are better than all before.

        Raises:
            CheckpointError: they cannot be written.
        """
        value = scores.mean("psnr_y")
        if value > self._best:
            self._best = value
            if not self._model.processes.is_main:
                return
            path = self._model.save_best(step, {**self._record, "psnr_y": finite(value)})
            LOGGER.info("    best so far, by PSNR-Y on the %s set: kept as %s", self._record["set"], path)


def _as_score(value: object) -> float:
    """An infinite PSNR is recorded as null, which JSON has; anything else is no score."""
    if value is None:
        return math.inf
    return float(value) if isinstance(value, int | float) and abs(value) < 1e6 else -math.inf


def _restore(model: ModelPlain, item: Mapping[str, Any], weights: str) -> NDArray[np.uint8]:
    model.feed_data({"L": item["L"][None]})
    model.test(weights)
    try:
        return to_uint8(model.current_visuals()["E"])
    except DataError as error:
        raise TrainingError(f"{item['name']}, restored by the {NAMES[weights]}: {error}. {ADVICE}") from error


def _to_array(image: Tensor) -> NDArray[np.uint8]:
    return image.permute(1, 2, 0).numpy()
