"""The terminal and the log file of a run."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import MemoryHandler
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column
from typing_extensions import Self

from swinlet.errors import SwinletError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence, as under ``nohup``: with ``2>&1 | head`` rich's own would end a run in mid-iteration."""
        self.quiet = True
        with open(os.devnull, "wb") as nowhere:  # for what Python writes at exit
            os.dup2(nowhere.fileno(), sys.stderr.fileno())


CONSOLE = _Console(stderr=True)
LOGGER = logging.getLogger("swinlet")

REFRESH_SECONDS = 2.0


def log_to_console() -> None:
    """Show the package's log on the terminal: bare lines, warnings marked; safe to call twice.

    Of several processes started together the first shows all, the first on each other machine errors, and the others
    what is critical, after their number.
    """
    if any(isinstance(handler, _ConsoleHandler) for handler in LOGGER.handlers):
        return
    handler = _ConsoleHandler()
    handler.setFormatter(_MarkedFormatter())
    if not _is_main():
        handler.setLevel(logging.ERROR if os.environ.get("LOCAL_RANK") == "0" else logging.CRITICAL)
        handler.setFormatter(_MarkedFormatter(f"process {os.environ['RANK']}: %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def _is_main() -> bool:
    """Whether this is the first of the processes that torchrun has started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


class _ConsoleHandler(logging.Handler):
    """Print above the progress bar, and leave lines whole: a wrapped path cannot be copied, a wrapped table not read.

    rich's own handler wraps at the width of the terminal, and at 80 columns where there is none.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            CONSOLE.print(self.format(record), soft_wrap=True, markup=False, highlight=False, emoji=False)
        except OSError:  # the terminal is gone, or the disk of its file full
            pass
        except Exception:  # as every handler of the standard library: logging never stops a run
            self.handleError(record)


@contextmanager
def log_to_file(path: Path, early: MemoryHandler) -> Generator[None, None, None]:
    """Append the package's log to a file, with times, beginning with what ``early`` has kept, and with the error that
    the block ends by.

    Raises:
        OSError: the file cannot be written.
    """
    handler = _FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s", "%y-%m-%d %H:%M:%S"))
    early.setTarget(handler)
    early.close()  # passes on what it has kept
    LOGGER.removeHandler(early)
    LOGGER.addHandler(handler)
    try:
        yield
    except Exception as error:
        text = str(error) if isinstance(error, SwinletError) else repr(error)
        handler.handle(
            LOGGER.makeRecord(LOGGER.name, logging.ERROR, __file__, 0, "ended by an error: %s", (text,), None)
        )
        raise
    finally:
        LOGGER.removeHandler(handler)
        handler.close()


class _FileHandler(logging.FileHandler):
    """Where the file cannot be written any more, say so once on the console; a log never stops a run."""

    _is_failing = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_failing:
            self._is_failing = True  # first: this record comes here, too
            LOGGER.warning("%s: lines will be missing: %s", self.baseFilename, error.strerror or error)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written still cannot
            super().close()


class _MarkedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        mark = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return mark + super().format(record)


class _Bar:
    """A context manager that shows a progress bar, on a terminal only.

    Args:
        columns: what rich shows.
        total, completed, fields: of the one task.
    """

    def __init__(self, *columns: ProgressColumn, total: int | None = None, completed: int = 0, **fields: Any) -> None:
        hidden = not (CONSOLE.is_terminal and _is_main())
        self._progress = Progress(*columns, console=CONSOLE, expand=True, disable=hidden, transient=True)
        self._task = self._progress.add_task("", total=total, completed=completed, **fields)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            self._progress.stop()


class ProgressBar(_Bar):
    """Progress of a command: how many of how many, time left, what is being done."""

    def __init__(self) -> None:
        what = TextColumn(
            "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        )
        super().__init__(BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), what)
        self._begun = 0

    def start(self, total: int) -> None:
        """Say how many steps there are."""
        self._progress.update(self._task, total=total)

    def advance(self, description: str) -> None:
        """The next step begins; those before it are done."""
        self._progress.update(self._task, completed=self._begun, description=description)
        self._begun += 1

    def show(self, description: str) -> None:
        """All steps are done; something else begins."""
        self._progress.update(self._task, completed=self._begun, description=description)


class TrainingBar(_Bar):
    """Progress of a run: iterations, it/s, time left, losses, last PSNR.

    Args:
        total: iterations of the whole run.
        start: iterations done before.
    """

    def __init__(self, total: int, start: int) -> None:
        super().__init__(
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[score]}"),
            TextColumn("{task.fields[status]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            total=total,
            completed=start,
            speed="",
            status="",
            score="",
        )
        self._steps, self._paused = 0, 0.0
        self._logged = self._shown = _Count(0, self._clock())

    def advance(self, status: Callable[[], str]) -> None:
        """One iteration is done.

        Args:
            status: asked for losses and learning rate every few seconds: reading them waits for the device.
        """
        self._steps += 1
        self._progress.update(self._task, advance=1)
        if CONSOLE.is_terminal and self._clock() - self._shown.clock > REFRESH_SECONDS:
            rate, self._shown = self._rate_since(self._shown)
            self._progress.update(self._task, speed=f"{rate:.2f} it/s", status=status())

    def speed(self) -> float:
        """Iterations per second since the last call, without pauses."""
        rate, self._logged = self._rate_since(self._logged)
        return rate

    @contextmanager
    def pause(self) -> Generator[None, None, None]:
        """Time inside, for tests and saving, does not count for the speed."""
        begin = time.perf_counter()
        yield
        self._paused += time.perf_counter() - begin

    def _clock(self) -> float:
        return time.perf_counter() - self._paused

    def _rate_since(self, then: "_Count") -> tuple[float, "_Count"]:
        now = _Count(self._steps, self._clock())
        return (now.steps - then.steps) / (now.clock - then.clock), now

    def show_score(self, score: str) -> None:
        """Show the last PSNR."""
        self._progress.update(self._task, score=score)


@dataclass(frozen=True)
class _Count:
    """How many iterations were done by when, in seconds of training."""

    steps: int
    clock: float
