"""Keeps ZooKeeper's watches armed: they are told once, and must be set again before anybody reads what changed.

A folder needs two: one for entries that come and go, one for the folder itself, which is written whenever an entry's content
is replaced. A task a folder sets both and only then says that something changed, so that no change is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from callboard import errors
from callboard.coordination.engines.zookeeper import driver
from callboard.ensembles import requests

_PAUSE_SECONDS: Final = 0.05
"""After a connection that broke, or a refusal, while a watch was set."""


class Folders:
    """The folders that one session watches. `path_of` says where a folder is, `ensure` makes it when it is not there."""

    def __init__(
        self,
        of: driver.Driver,
        path_of: Callable[[str], str],
        ensure: Callable[[str], Awaitable[None]],
        tell: Callable[[str], None],
    ) -> None:
        self._driver = of
        self._path_of = path_of
        self._ensure = ensure
        self._tell = tell
        self._connected = asyncio.Event()
        self._fired: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def want(self, folder: str) -> None:
        """Watch a folder from now on; it is told once when that has begun."""
        if folder not in self._fired:
            self._fired[folder] = asyncio.Event()
            self._fired[folder].set()
            self._tasks.append(asyncio.create_task(self._tend(folder), name=f"watch {folder}"))

    def resume(self) -> None:
        """Set every watch again: the connection is back."""
        self._connected.set()
        for fired in self._fired.values():
            fired.set()

    def pause(self) -> None:
        """Leave it for now: the connection is lost."""
        self._connected.clear()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tend(self, folder: str) -> None:
        fired = self._fired[folder]
        path = self._path_of(folder)

        def watcher(event: Any) -> None:
            """Called in a thread of the library's; of events without a path (the connection's) the session tells."""
            if event.path is not None:
                self._driver.hop(fired.set)

        while True:
            await fired.wait()
            await self._connected.wait()
            fired.clear()
            try:
                await self._arm(folder, path, watcher)
            except (driver.Interrupted, driver.Refused, errors.CoordinationError):
                fired.set()
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                self._tell(folder)

    async def _arm(self, folder: str, path: str, watcher: requests.Watcher) -> None:
        names, _ = await self._driver.ask_all([requests.children(path, watcher), requests.look(path, watcher)])
        if isinstance(names, driver.Refused):
            await self._ensure(folder)
            await self._driver.ask(requests.children(path, watcher))
