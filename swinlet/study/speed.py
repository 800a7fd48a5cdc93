"""How long a run's iterations take, as its log tells."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from swinlet.utils.run_log import METRICS_FILE


def seconds_per_step(run: Path) -> float | None:
    """The median over what the run has logged; None where it has logged nothing. Lines that cannot be read count for
    nothing."""
    speeds = list(_speeds(run / METRICS_FILE))
    return 1 / median(speeds) if speeds else None


def _speeds(file: Path) -> Iterator[float]:
    """Iterations per second of each record of losses."""
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record: Any = json.loads(line)
            speed = float(record["it_per_s"]) if record["type"] == "train" else 0.0
        except (ValueError, KeyError, TypeError, RecursionError):  # torn when the run was killed
            continue
        if speed > 0:
            yield speed
