"""A task that keeps something true by coordination outlives its own bugs."""

from __future__ import annotations

import contextlib

from callboard.coordination import engine, heeding
from callboard.coordination.engines import memory


class Reader(heeding.Heeding):
    """Counts the entries of a folder; the first time it fails."""

    def __init__(self, session: engine.Session) -> None:
        super().__init__(session, ("names",))
        self.seen = self.tries = 0

    async def _keep(self) -> None:
        while True:
            await self.woken.wait()
            self.woken.clear()
            self.tries += 1
            if self.tries == 1:
                raise ZeroDivisionError
            self.seen = len(await heeding.reread(self._session, "names", self._old))


async def test_what_fails_by_a_bug_is_tried_again_and_nothing_that_changed_is_overlooked(eventually, monkeypatch):
    monkeypatch.setattr(heeding, "AGAIN_SECONDS", 0.01)
    opened = memory.MemoryEngine(memory.Site(), session_seconds=30)
    session = await opened.session("one")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(opened.close)
        stack.push_async_callback(session.close)
        reader = Reader(session)
        await reader.start()
        stack.push_async_callback(reader.stop)
        await session.apply([engine.Create("names/a", b"")])
        await eventually(lambda: reader.seen == 1)
        await session.apply([engine.Create("names/b", b"")])
        await eventually(lambda: reader.seen == 2)
    assert reader.tries > 2
