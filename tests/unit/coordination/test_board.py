"""Folders are read when something changed, and not else."""

import asyncio

from callboard import errors
from callboard.coordination import board, election
from callboard.coordination import engine as seam


class Counting:
    """A session that counts what is read."""

    def __init__(self, inner):
        self.inner = inner
        self.read = []

    async def entries(self, folder):
        self.read.append(folder)
        return await self.inner.entries(folder)

    async def sessions(self):
        self.read.append("sessions")
        return await self.inner.sessions()

    def watch(self, folder, changed):
        return self.inner.watch(folder, changed)


async def made(ground):
    session, woken = Counting(await ground.session("node-a")), asyncio.Event()
    return session, woken, board.Board(session, woken.set)


async def test_a_folder_is_read_again_after_word_of_a_change(ground):
    session, woken, seen = await made(ground)
    assert await seen.view("billing.main") == election.View()
    assert sorted(session.read) == ["active", "candidates", "deposed"]
    assert await seen.view("cache.main") == election.View()
    assert len(session.read) == 3
    (number,) = await session.inner.apply([seam.Create("active/billing.main", b"")])
    await woken.wait()
    assert (await seen.view("billing.main")).active.number == number
    assert (await seen.view("billing.main2")).active is None
    assert session.read[3:] == ["active"]
    seen.close()


async def test_who_lives_is_asked_only_where_there_is_a_mark(ground):
    session, woken, seen = await made(ground)
    mark = election.encode(election.Mark(4, "node-x", 3.0))
    await session.inner.apply([seam.Create("deposed/billing.main", mark, lasting=True)])
    assert (await seen.view("cache.main")).sessions == frozenset()
    assert (await seen.view("billing.main")).sessions == {"node-a"}
    other = await ground.session("node-b")
    woken.clear()
    await woken.wait()
    assert (await seen.view("billing.main")).sessions == {"node-a", "node-b"}
    await other.close()
    seen.close()


async def test_what_could_not_be_read_is_still_to_be_read(ground):
    _, _, seen = await made(ground)
    ground.site.stop()
    for _ in range(2):
        try:
            await seen.view("billing.main")
        except errors.CoordinationUnavailable:
            continue
        raise AssertionError("it was read")
    ground.site.resume()
    assert await seen.view("billing.main") == election.View()
    seen.close()


async def test_who_lives_is_asked_again_for_every_new_mark(ground):
    """Word of a session may come later than the mark that names it: its holder would be believed dead, and not waited for."""
    session, woken, seen = await made(ground)
    session.watch = lambda folder, changed: ground.made[0].watch(folder, changed if folder != seam.SESSIONS else woken.clear)
    mark = election.encode(election.Mark(4, "node-b", 3.0))
    await session.inner.apply([seam.Create("deposed/cache.main", mark, lasting=True)])
    assert (await seen.view("cache.main")).sessions == {"node-a"}
    other = await ground.session("node-b")
    await other.apply([seam.Create("deposed/billing.main", mark, lasting=True)])
    await woken.wait()
    assert (await seen.view("billing.main")).sessions == {"node-a", "node-b"}
    seen.close()
