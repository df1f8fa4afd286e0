"""Deadlines on the loop's time."""

import asyncio

from callboard.rpc import deadlines


async def test_each_expires_once_in_its_order_and_not_before():
    loop = asyncio.get_running_loop()
    expired = []
    made = deadlines.Deadlines(loop, lambda id: expired.append((id, loop.time())))
    now = loop.time()
    at = {1: now + 1.3, 2: now + 0.3, 3: now + 0.4, 4: now - 1, 5: now + 60}
    for id, when in at.items():
        made.add(id, when)
    made.at.pop(3)
    async with asyncio.timeout(5):
        while len(expired) < 3:
            await asyncio.sleep(0.001)
    assert [id for id, _ in expired] == [4, 2, 1] and list(made.at) == [5]
    assert all(when >= at[id] - 0.002 for id, when in expired)
    made.stop()


async def test_one_that_expires_may_begin_another():
    loop = asyncio.get_running_loop()
    seen = []

    def expired(id):
        seen.append(id)
        if id < 5:
            made.add(id + 1, loop.time())

    made = deadlines.Deadlines(loop, expired)
    made.add(1, loop.time())
    async with asyncio.timeout(5):
        while len(seen) < 5:
            await asyncio.sleep(0.001)
    assert seen == [1, 2, 3, 4, 5] and not made.at


async def test_after_stop_nothing_expires():
    made = deadlines.Deadlines(asyncio.get_running_loop(), lambda id: 1 / 0)
    made.add(1, asyncio.get_running_loop().time())
    made.stop()
    made.stop()
    await asyncio.sleep(0.01)
