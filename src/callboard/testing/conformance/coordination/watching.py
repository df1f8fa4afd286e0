"""Promises about watches: whoever looks after each call of `changed` misses nothing."""

from __future__ import annotations

import asyncio

from callboard.coordination import engine as seam
from callboard.testing.conformance.coordination.bench import (
    CUT,
    EXPIRY,
    PROCESSES,
    Bench,
    create,
    equal,
    holds,
    paths,
    promise,
    promise_if,
)


class Watcher:
    """Reads a folder after each call, as those do who keep a copy."""

    def __init__(self, session: seam.Session, folder: str) -> None:
        self.calls = 0
        self.seen: list[str] = []
        self._session = session
        self._folder = folder
        self._reading: set[asyncio.Task[None]] = set()
        self.end = session.watch(folder, self._changed)

    def _changed(self) -> None:
        self.calls += 1
        task = asyncio.create_task(self._read())
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self) -> None:
        if self._folder == seam.SESSIONS:
            self.seen = sorted(await self._session.sessions())
        else:
            self.seen = [f"{each.path}={each.body.decode()}" for each in await self._session.entries(self._folder)]


@promise
async def a_change_is_told(ground: Bench) -> None:
    """Creation, new content and removal are told, one's own and others', lasting and not."""
    mine, other = await ground.session(), await ground.session()
    watcher = Watcher(mine, "x")
    for session in (mine, other):
        for lasting in (False, True):
            number = await create(session, "x/y", b"1", lasting=lasting)
            await ground.until(lambda: watcher.seen == ["x/y=1"])
            await session.apply([seam.Replace("x/y", b"2", number)])
            await ground.until(lambda: watcher.seen == ["x/y=2"])
            await session.apply([seam.Remove("x/y", number)])
            await ground.until(lambda: watcher.seen == [])


@promise
async def what_came_after_is_told_however_fast_it_came(ground: Bench) -> None:
    """Many changes in a row: the last one is always seen, also the one that goes back to what was before."""
    mine, other = await ground.session(), await ground.session()
    watcher = Watcher(mine, "x")
    number = await create(other, "x/y", b"0")
    for turn in range(1, 41):
        await other.apply([seam.Replace("x/y", str(turn % 2).encode(), number)])
    await ground.until(lambda: watcher.seen == ["x/y=0"])
    await other.apply([seam.Replace("x/y", b"end", number)])
    await ground.until(lambda: watcher.seen == ["x/y=end"])


@promise
async def only_the_watched_folder_matters(ground: Bench) -> None:
    """A folder can be watched by many and before it exists; after its end a watch is silent, and others go on."""
    mine, other = await ground.session(), await ground.session()
    one, two = Watcher(mine, "x"), Watcher(mine, "x")
    await create(other, "x/a")
    await ground.until(lambda: one.seen == two.seen == ["x/a="])
    one.end()
    one.end()
    calls = one.calls
    await create(other, "x/b")
    await ground.until(lambda: two.seen == ["x/a=", "x/b="])
    equal((one.calls, one.seen), (calls, ["x/a="]))


@promise
async def sessions_that_come_and_go_are_told(ground: Bench) -> None:
    """`sessions` can be watched like a folder; the end of a session is told to those who watch its entries as well."""
    mine = await ground.session("node-a")
    watcher, entries = Watcher(mine, seam.SESSIONS), Watcher(mine, "x")
    other = await ground.session("node-b")
    await ground.until(lambda: watcher.seen == ["node-a", "node-b"])
    await create(other, "x/b")
    await ground.until(lambda: entries.seen == ["x/b="])
    await other.close()
    await ground.until(lambda: watcher.seen == ["node-a"])
    await ground.until(lambda: entries.seen == [])


@promise_if(PROCESSES)
async def changes_of_other_processes_are_told(ground: Bench) -> None:
    """What another process writes is told; so is its end."""
    mine = await ground.session()
    watcher = Watcher(mine, "x")
    process = await ground.process()
    await process.ask("create", "x/far", "1")
    await ground.until(lambda: watcher.seen == ["x/far=1"])
    await process.kill()
    await mine.end(process.name)
    await ground.until(lambda: watcher.seen == [])


@promise_if(CUT)
async def watches_go_on_after_reconnection(ground: Bench) -> None:
    """What changed while a client was cut off is told when it is back, and what changes later, too."""
    mine, other = await ground.session(), await ground.session()
    watcher = Watcher(mine, "x")
    number = await create(other, "x/y", b"1", lasting=True)
    await ground.until(lambda: watcher.seen == ["x/y=1"])
    await ground.cut(mine)
    await other.apply([seam.Replace("x/y", b"2", number)])
    await ground.until(lambda: mine.state is not seam.State.CONNECTED)
    calls = watcher.calls
    await ground.heal(mine)
    await ground.until(lambda: watcher.seen == ["x/y=2"])
    holds(watcher.calls > calls, "the return was told")
    await other.apply([seam.Replace("x/y", b"3", number)])
    await ground.until(lambda: watcher.seen == ["x/y=3"])


@promise_if(CUT, EXPIRY)
async def watches_go_on_in_the_next_session(ground: Bench) -> None:
    """A watch outlives the loss of its session."""
    mine, other = await ground.session(), await ground.session()
    watcher = Watcher(mine, "x")
    await create(mine, "x/mine")
    await ground.until(lambda: watcher.seen == ["x/mine="])
    await ground.cut(mine)
    await ground.until(lambda: _gone(other))
    await ground.heal(mine)
    await ground.until(lambda: watcher.seen == [])
    await create(other, "x/other")
    await ground.until(lambda: watcher.seen == ["x/other="])


async def _gone(session: seam.Session) -> bool:
    return await paths(session, "x") == []
