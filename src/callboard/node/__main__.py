"""The process of a node: `python -m callboard.node RECORD [DESCRIPTOR]`. Started by the agent, never by people.

RECORD is the file it is made from, DESCRIPTOR a pipe to tell the agent that it is ready or why it cannot be. SIGTERM drains
and stops. Exit codes: 0 stopped, 75 to be started again, 76 nothing to do, 78 could not start, 70 ended by an unexpected error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import uvloop

from callboard import errors
from callboard.coordination import sessions
from callboard.jobs import engines
from callboard.kit import beat, telemetry
from callboard.node import apps, assemble, entries, layout, report


def main(arguments: list[str]) -> int:
    """Run the node of a record until it ends; return the exit code."""
    reporter = report.Reporter(int(arguments[1]) if len(arguments) > 1 else None)
    try:
        return _run(Path(arguments[0]), reporter)
    except errors.CallboardError as error:
        print(f"callboard: {error.message}", file=sys.stderr)
        reporter.failed(error)
        return report.EXIT_STARTUP
    except Exception as error:
        traceback.print_exc()
        reporter.failed(errors.StartupError(f"the node ended by {type(error).__name__}: {' '.join(str(error).split())[:200]}"))
        return report.EXIT_BROKEN


def _run(path: Path, reporter: report.Reporter) -> int:
    try:
        record = layout.read_record(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise errors.StartupError(f"{path} is not the record of a node: {error}") from None
    given = record.settings.log
    telemetry.configure(given.level, given.form, node=record.incarnation[-8:], role=record.role)
    place = layout.Layout(record.settings.directory)
    session = place.sessions().session(layout.session_name(record.incarnation))
    entries.put(session, record, entries.made(record))
    if not path.exists():
        raise errors.StartupError(f"{path} was withdrawn: an agent gave this node up before it began")
    pulse = beat.Beat.create(place.beat(record.incarnation))
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    return runner.run(_live(record, session, pulse, reporter))  # Not closed: that would wait for threads of handlers.


async def _live(record: layout.NodeRecord, session: sessions.ProcessSession, pulse: beat.Beat, reporter: report.Reporter) -> int:
    """The app is imported with no tick yet: how long that takes is `agent.start_seconds`' matter."""
    over, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: hurry.set() if over.is_set() else over.set())
    application = apps.load(record.settings.app, record.directory)
    if record.role == "service" and not application.services:
        session.close()
        reporter.idle()
        return report.EXIT_IDLE
    node = assemble.Node(record, session, pulse, engines.open(record.settings.store_url), application)
    await node.start()
    gc.freeze()  # What is there now stays; looking through it again and again is the larger part of collecting.
    gc.set_threshold(20_000, 20, 20)
    reporter.ready(node.new_key)
    await _first(over.wait(), node.wants_restart.wait())
    await _first(node.drain(record.settings.worker.grace_seconds), hurry.wait())
    await node.stop()
    return 0 if over.is_set() else report.EXIT_RESTART


async def _first(*ends: Coroutine[Any, Any, Any]) -> None:
    """Wait for the first of some ends; the others are cancelled. Raises what the first one raises."""
    tasks = [asyncio.create_task(end) for end in ends]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def leave(code: int) -> NoReturn:
    """End the process at once: threads that handlers left behind must not keep it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # As on a full disk.
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
