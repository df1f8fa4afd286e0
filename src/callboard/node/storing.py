"""The store as an agent opens it: with the hub that it runs for hints, and the watch over the lock of a store in a file."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from callboard import errors
from callboard.jobs import engines, hub_hints, queue
from callboard.jobs.engines.sqlite import files as sqlite_files
from callboard.kit import clock
from callboard.node import layout, liveness, lockwatch
from callboard.rpc import hub
from callboard.settings import Settings


def watch_lock(given: Settings, ends: contextlib.AsyncExitStack) -> None:
    """Watch who holds the lock of a store in a file. Before the store is opened: that may wait for the lock already."""
    database = _database(given)
    if database is not None:
        limits = liveness.LockLimits(stopped_seconds=given.agent.lock_stopped_seconds, held_seconds=given.agent.lock_seconds)
        watch = lockwatch.LockWatch(database.with_name(f"{database.name}.lock"), limits)
        watch.start()
        ends.callback(watch.close)


async def opened(given: Settings, place: layout.Layout, time: clock.Clock, ends: contextlib.AsyncExitStack) -> queue.Queue:
    """Open the store, with a hub beside it; `ends` closes both. Raises Unsupported, StoreError, DataUnusable."""
    store = await asyncio.to_thread(engines.open, given.store_url)
    if not store.abilities.shared:
        store.close()
        raise errors.Unsupported(
            f"a {store.name} store lives in one process alone: name one that several can open, like sqlite:///…"
        )
    served = hub.Hub()
    await served.start()
    ends.push_async_callback(served.stop)
    ends.callback(place.hub.unlink, missing_ok=True)
    try:
        hub.write_address(place.hub, served.address)
    except OSError as error:
        raise layout.unusable(place.directory, error) from None
    hints = hub_hints.HubHints(place.hub)
    await hints.start()
    ends.push_async_callback(hints.stop)
    made = queue.Queue(store, clock=time, hints=hints)
    await made.start()
    ends.push_async_callback(made.stop)
    return made


def is_own(given: Settings) -> bool:
    """Tell whether the store lies in the data directory: whoever claims from it has a session there."""
    database = _database(given)
    return database is not None and database.parent.resolve() == given.directory.resolve()


def _database(given: Settings) -> Path | None:
    url = given.store_url
    return sqlite_files.path_of(url) if url.startswith("sqlite:") else None
