"""Many who take an office from each other, while servers die and freeze: no write under an epoch after one under a later one."""

from __future__ import annotations

import asyncio
import random
import time

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import engines

SECONDS = 5.0
OFFICE = "active/x"
BOOK = "book/x"


class Taker:
    """Takes the office however it is held, and writes under whatever epochs it ever had, the old ones too."""

    def __init__(self, session, book, chance):
        self.session = session
        self.book = book
        self.chance = chance
        self.epochs = []
        self.writes = []

    async def act(self):
        try:
            if self.epochs and self.chance.random() < 0.7:
                await self.write(self.chance.choice(self.epochs[-3:]))
            else:
                await self.take()
        except (errors.CoordinationConflict, errors.CoordinationUnavailable):
            pass

    async def take(self):
        held = [seam.Remove(OFFICE, entry.number) for entry in await self.session.entries("active")]
        self.epochs.append((await self.session.apply([*held, seam.Create(OFFICE, b"")]))[-1])

    async def write(self, epoch):
        """Write the epoch into the book, guarded by it, and note which one stood there before."""
        (entry,) = await self.session.entries("book")
        body = b"%d" % epoch
        await self.session.apply([seam.Check(OFFICE, epoch), seam.Replace(BOOK, body, self.book, entry.body)])
        self.writes.append((int(entry.body), epoch))


async def test_no_write_under_an_old_epoch(zookeeper, record_property):
    chance = random.Random(20)
    engine = engines.open(zookeeper.url(f"/epochs-{time.time_ns()}"), session_seconds=2.0)
    sessions = [await engine.session(f"taker-{number}") for number in range(3)]
    (book,) = await sessions[0].apply([seam.Create(BOOK, b"0", lasting=True)])
    takers = [Taker(session, book, chance) for session in sessions]
    over = time.monotonic() + SECONDS

    async def go_on(taker):
        while time.monotonic() < over:
            await taker.act()

    async def trouble():
        await asyncio.sleep(SECONDS / 6)
        await asyncio.to_thread(lambda: zookeeper.leader().kill())
        await asyncio.sleep(SECONDS / 4)
        await asyncio.to_thread(zookeeper.start)
        frozen = chance.choice(zookeeper.followers())
        frozen.freeze()
        await asyncio.sleep(SECONDS / 4)
        frozen.cont()

    await asyncio.gather(trouble(), *map(go_on, takers))
    writes = [write for taker in takers for write in taker.writes]
    taken = [epoch for taker in takers for epoch in taker.epochs]
    record_property("figure", f"{len(taken)} epochs, {len(writes)} guarded writes, none under an old one")
    for session in sessions:
        await session.close()
    assert [write for write in writes if write[0] > write[1]] == []
    assert len(set(taken)) == len(taken) > 10 and len(writes) > 10
    assert all(taker.epochs == sorted(taker.epochs) for taker in takers)
