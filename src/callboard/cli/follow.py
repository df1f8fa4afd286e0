"""Following one job to its end: a progress bar on a terminal, a line for each change otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from callboard import client, errors
from callboard.cli import output
from callboard.http import shapes

LOOK_SECONDS: Final = 0.4
"""Progress is stored once a second; the end is told at once."""

Tell = Callable[[shapes.JobDetail], None]


async def to_end(gateways: client.Client, id: str, *, show: bool) -> shapes.JobDetail:
    """Return the job once it is finished, showing meanwhile how it goes. Raises JobNotFound."""
    with _nothing() if not show else _bar() if output.on_terminal() else _lines() as tell:
        while True:
            try:
                job = await gateways.wait(id, LOOK_SECONDS)
            except errors.WaitTimeout:
                job = await gateways.get(id)
            tell(job)
            if job.finished:
                return job


@contextmanager
def _nothing() -> Iterator[Tell]:
    yield lambda job: None


@contextmanager
def _lines() -> Iterator[Tell]:
    said = ""

    def tell(job: shapes.JobDetail) -> None:
        nonlocal said
        progress = job.progress or shapes.Progress(0, 0, "")
        now = "\t".join((job.state, f"{progress.done:g}", f"{progress.total:g}", output.plain(progress.note)))
        if now != said and not job.finished:
            said = now
            output.line(now)

    yield tell


@contextmanager
def _bar() -> Iterator[Tell]:
    # Loaded only where it is shown.
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
    )
    with progress.Progress(*columns, transient=True) as shown:
        task = shown.add_task("", total=None, note="")

        def tell(job: shapes.JobDetail) -> None:
            now = job.progress or shapes.Progress(0, 0, "")
            note = job.waiting_for or now.note
            shown.update(
                task,
                description=f"{output.plain(job.kind)} {job.state}",
                total=now.total if now.total > 0 else None,
                completed=now.done,
                note=output.plain(note),
            )

        yield tell
