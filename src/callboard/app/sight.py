"""How an app sees the cluster: the view of the node that it runs in, from every loop and thread of that process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from callboard import errors
from callboard.cluster import view as views
from callboard.cluster import watching


class Sight:
    """What a node gives its app. `watched` lives on the node's loop; what waits elsewhere hops there."""

    def __init__(self, watched: watching.Watched, loop: asyncio.AbstractEventLoop) -> None:
        self._watched = watched
        self._loop = loop

    @property
    def view(self) -> views.View:
        """What is known now."""
        return self._watched.view

    def changes(self) -> AsyncGenerator[views.Change, None]:
        """Yield what there is, then what changes."""
        return watching.changes(self._newer)

    async def _newer(self, seen: views.View) -> views.View:
        waiting = self._watched.after(seen.version, seen.stale)
        if asyncio.get_running_loop() is self._loop:
            return await waiting
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, self._loop))
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            waiting.close()
            raise errors.Unreachable("the node whose view it is has ended", ran="no") from None
