"""What people see of a demo while it runs: a bar on a terminal, a line now and then otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from callboard.cli import output

STEPS: Final = 10
"""Lines of progress when there is no terminal."""


class Showing(Protocol):
    """What the course of a demo tells."""

    def say(self, text: str) -> None:
        """Something happens, or has happened."""

    def submitted(self, jobs: int) -> None:
        """So many jobs are stored."""

    def finished(self, jobs: int) -> None:
        """So many of them are finished."""

    def killed(self, worker: int, gateway: int, files: Sequence[str]) -> None:
        """The processes with these pids were killed; the worker was at work on these files."""


class Lines:
    """Plain lines on standard error, so that standard output has the account alone."""

    def __init__(self) -> None:
        self._jobs = 0
        self._step = 0
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        output.note(text)

    def submitted(self, jobs: int) -> None:
        self._jobs, self._started = jobs, time.monotonic()
        self.say(f"submitted {jobs} jobs, one for each file")

    def finished(self, jobs: int) -> None:
        step = jobs * STEPS // self._jobs
        if step > self._step:
            self._step = step
            rate = jobs / max(time.monotonic() - self._started, 0.001)
            self.say(f"{jobs} of {self._jobs} jobs are finished, {rate:.0f} a second")

    def killed(self, worker: int, gateway: int, files: Sequence[str]) -> None:
        names = ", ".join(output.plain(Path(path).name) for path in files)
        self.say(f"killed (SIGKILL) worker {worker} while it ran {names}, and gateway {gateway}")


class Silence(Lines):
    """Nothing: for those who want JSON alone."""

    def say(self, text: str) -> None:
        pass


class Bar(Lines):
    """A bar on a terminal; what happens is printed above it."""

    def __init__(self) -> None:
        super().__init__()
        # Loaded only where it is shown.
        from rich import console, progress

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeElapsedColumn(),
            console=console.Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, rate="")

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def submitted(self, jobs: int) -> None:
        super().submitted(jobs)
        self._bar.update(self._task, description="jobs", total=jobs)

    def finished(self, jobs: int) -> None:
        rate = jobs / max(time.monotonic() - self._started, 0.001)
        self._bar.update(self._task, completed=jobs, rate=f"{rate:.0f}/s")

    @contextmanager
    def live(self) -> Iterator[Showing]:
        """Draw the bar while the block runs."""
        with self._bar:
            yield self


@contextmanager
def chosen(*, json: bool) -> Iterator[Showing]:
    """Show in the way that fits: on a terminal, in a pipe, or not at all."""
    if json:
        yield Silence()
    elif output.on_terminal():
        with Bar().live() as shown:
            yield shown
    else:
        yield Lines()
