"""Who is told what, and when no more."""

import asyncio

from callboard.coordination import engine as seam
from callboard.coordination.engines import watches


async def turns():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_watches_of_a_folder_and_all_at_the_return():
    told, made = [], watches.Watches()
    made.watch("x", lambda: told.append("x"))
    made.watch("y", lambda: told.append("y"))
    made.follow(lambda state: told.append(state.value))
    made.tell(["x", "z"])
    assert told == []  # Never inside of what caused it.
    await turns()
    assert told == ["x"]
    made.turn(seam.State.CONNECTED)
    made.turn(seam.State.CONNECTED)
    await turns()
    assert told == ["x", "connected", "x", "y"]


async def test_what_has_ended_is_told_nothing_not_even_what_was_under_way():
    told, made = [], watches.Watches()
    end = made.watch("x", lambda: told.append("x"))
    leave = made.follow(told.append)
    made.tell(["x"])
    made.turn(seam.State.CONNECTED)
    end()
    leave()
    leave()
    await turns()
    made.watch("x", lambda: told.append("x"))
    made.tell(["x"])
    made.close()
    made.turn(seam.State.LOST)
    await turns()
    assert told == []
