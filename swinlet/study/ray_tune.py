"""The runs of a study as trials of Ray Tune: as many at once as its cluster has processors or GPUs for."""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from swinlet.errors import SwinletError
from swinlet.study.plan import Run
from swinlet.study.training import Outcome, train_run


class RayTune:
    """A ``Launcher``. All machines of the cluster need the study's folder, images and program at the same paths.

    Args:
        out: folder of the study; Ray's own files go to its folder ``ray``.
        cpus: processors for a run; with CUDA each has a GPU besides.

    Raises:
        SwinletError: Ray is not installed.
    """

    at_once: int | None = None

    def __init__(self, out: Path, cpus: float) -> None:
        try:
            self._tune: Any = import_module("ray.tune")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "ray":
                raise
            raise SwinletError("--ray needs Ray Tune: pip install 'swinlet[ray]'") from error
        self._storage = str(out.resolve() / "ray")
        self._resources = {"cpu": cpus, "gpu": 1 if torch.cuda.is_available() else 0}

    def __call__(self, runs: Sequence[tuple[Run, int]]) -> list[Outcome]:
        """See ``Launcher``."""
        tune, here = self._tune, Path.cwd()

        def trial(config: dict[str, Any]) -> dict[str, Any]:
            os.chdir(here)  # Ray has trials begin in folders of their own; the runs' are relative
            index: int = config["run"]
            outcome = train_run(*runs[index])
            return {"state": outcome.state, "note": outcome.note}

        tuner = tune.Tuner(
            tune.with_resources(trial, self._resources),
            param_space={"run": tune.grid_search(list(range(len(runs))))},
            run_config=tune.RunConfig(storage_path=self._storage, verbose=0),
        )
        return [self._outcome(runs, result) for result in tuner.fit()]

    @staticmethod
    def _outcome(runs: Sequence[tuple[Run, int]], result: Any) -> Outcome:
        """What became of a trial; one that Ray itself ended tells no state."""
        index: int = result.config["run"]
        run, _ = runs[index]
        if result.error is not None:
            return Outcome(run, "failed", str(result.error))
        metrics: dict[str, Any] = result.metrics or {}
        return Outcome(run, metrics.get("state", "stopped"), metrics.get("note", "ended by Ray"))
