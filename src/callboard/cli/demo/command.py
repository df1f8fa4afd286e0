"""The `callboard demo` command."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

from cyclopts import Parameter

from callboard import errors
from callboard.cli import exits, output
from callboard.cli.demo import account, course, deployment, files, showing

GATEWAYS: Final = 2
WORKERS: Final = 3
SLOTS: Final = 4
FEWEST_FILES: Final = 30


FAILED: Final = "demo_failed"
"""The code shown when something was lost, doubled or counted wrongly."""


def demo(
    path: Annotated[Path | None, Parameter(help="Directory whose files to inspect. [Python's standard library]")] = None,
    /,
    *,
    json: Annotated[bool, Parameter(help="Print JSON.")] = False,
) -> int:
    """Watch nothing get lost: inspect thousands of real files as durable jobs, and kill processes while it runs.

    Two gateways and three workers run in a temporary directory, one job is submitted for each file under PATH, and at 40 %
    a worker and a gateway are killed with SIGKILL. What became of every job is then computed from the store, and all totals
    are compared with a direct count. Nothing is left running. The exit code is 1 when anything is not as promised.
    """
    signal.signal(signal.SIGTERM, _interrupted)
    snapshot = files.take(path or files.default_root())
    if len(snapshot.files) < FEWEST_FILES:
        raise errors.InvalidInput(
            f"{snapshot.root} has {len(snapshot.files)} files: name a directory with {FEWEST_FILES} at least"
        )
    with showing.chosen(json=json) as shown:
        kept, found = _played(snapshot, shown)
    if json:
        output.document({**{name: getattr(kept, name) for name in kept.__struct_fields__}, "faults": found})
    else:
        _print(kept)
    for fault in found:
        output.complain(f"NOT AS PROMISED: {fault}", FAILED)
    return exits.Exit.FAILED if found else exits.Exit.OK


def _played(snapshot: files.Snapshot, shown: showing.Showing) -> tuple[account.Account, list[str]]:
    left_out = f" ({snapshot.left_out} more cannot be read)" if snapshot.left_out else ""
    shown.say(f"{len(snapshot.files)} files under {output.plain(snapshot.root)}{left_out}")
    with deployment.running(gateways=GATEWAYS, workers=WORKERS, slots=SLOTS) as place:
        shown.say(f"started {GATEWAYS} gateways and {WORKERS} workers with {SLOTS} slots each: {' '.join(place.urls)}")
        paths = [file.path for file in snapshot.files]
        story = _run(course.run(place, paths, WORKERS * SLOTS, shown))
    shown.say("stopped all of it; counting the same files directly")
    direct, changed = _counted(snapshot)
    kept = account.balance(story, snapshot.root, SLOTS, changed)
    return kept, account.faults(kept, story, direct, {"gateway": GATEWAYS, "worker": WORKERS})


def _run(story: Coroutine[Any, Any, course.Story]) -> course.Story:
    """Run it to its end, or until SIGTERM, which cancels it as asyncio has Ctrl-C do: what a handler raises wherever it finds
    the loop, another task would end with and print. Raises KeyboardInterrupt."""

    async def ended_by_a_signal() -> course.Story:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        signal.signal(signal.SIGTERM, lambda _number, _frame: loop.call_soon_threadsafe(task.cancel))
        try:
            return await story
        finally:
            signal.signal(signal.SIGTERM, _interrupted)

    try:
        return asyncio.run(ended_by_a_signal())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _counted(snapshot: files.Snapshot) -> tuple[files.Totals, set[str]]:
    """Count the files that are what they were when the snapshot was taken, and still are after the count."""
    changed = snapshot.changed()
    counted = files.inspected(file.path for file in snapshot.files if file.path not in changed)
    changed |= snapshot.changed()
    return files.total((path, found) for path, found in counted.items() if path not in changed), changed


def _print(kept: account.Account) -> None:
    output.facts(_facts(kept))
    output.line("")
    output.line("The largest files:")
    rows = ((f"{one.bytes:,}", f"{one.lines:,}", one.sha256[:12], path) for path, one in kept.largest)
    output.table(("bytes", "lines", "SHA-256", "file"), rows)


def _facts(kept: account.Account) -> Iterator[tuple[str, Any]]:
    yield "submitted", f"{kept.submitted:,}"
    yield "completed", f"{kept.completed:,}"
    yield "lost", f"{len(kept.lost)}"
    yield "started again", f"{len(kept.started_again)} (the killed worker ran {kept.killed_while_running}, in {kept.slots} slots)"
    for path in kept.started_again:
        yield "", path
    yield "finished twice", f"{len(kept.finished_twice)}"
    yield "ran again after", f"{kept.rescue_seconds:.3f} s, the last of the killed worker's jobs"
    yield "sent again", f"{kept.retries} requests, to the other gateway" if kept.retries else None
    yield "jobs a second", f"{kept.jobs_per_second:.0f}, {kept.seconds:.1f} s in all"
    yield "alive at the end", ", ".join(f"{count} {role}s" for role, count in kept.nodes.items())
    totals = kept.totals
    yield "bytes", f"{totals.bytes:,}"
    yield "lines", f"{totals.lines:,}"
    yield "functions", f"{totals.functions:,}"
    yield "classes", f"{totals.classes:,}"
    yield "syntax errors", f"{totals.syntax_errors:,}"
    yield "digest", totals.digest
    yield "counted directly", f"{totals.files:,} files; every total is compared with it"
    yield "changed meanwhile", f"{len(kept.changed)} files, in no total" if kept.changed else None


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
