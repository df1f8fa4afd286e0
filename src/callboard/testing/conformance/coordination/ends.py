"""Promises about how sessions end: closed, ended by others, killed, frozen, cut off; and what is left of them."""

from __future__ import annotations

import os
import signal

from callboard import errors
from callboard.coordination import engine as seam
from callboard.testing.conformance.coordination.bench import (
    CUT,
    EXPIRY,
    PROCESSES,
    SUDDEN,
    Bench,
    create,
    equal,
    holds,
    paths,
    promise,
    promise_if,
    refused,
)


@promise
async def a_session_takes_its_entries_with_it(ground: Bench) -> None:
    """When it is closed, its entries are gone, whoever wrote to them since; lasting ones and those of others stay."""
    mine, other = await ground.session("node-a"), await ground.session("node-b")
    number = await create(mine, "x/mine")
    await create(mine, "x/lasting", lasting=True)
    await create(other, "x/other")
    await other.apply([seam.Replace("x/mine", b"written by another", number)])
    await mine.close()
    await mine.close()
    await ground.until(lambda: _has(other, ["x/lasting", "x/other"]))
    await ground.until(lambda: _live(other, {"node-b"}))


@promise
async def a_name_is_held_once(ground: Bench) -> None:
    """Only one live session has a name; when that is over, another one may."""
    mine = await ground.session("node-a")
    await refused(ground.session("node-a"), errors.AlreadyRunning)
    await create(mine, "x/first")
    await mine.close()
    again = await ground.session("node-a")
    equal(await paths(again, "x"), [])
    equal(set(await again.sessions()), {"node-a"})


@promise
async def a_closed_session_does_nothing_any_more(ground: Bench) -> None:
    """What is asked of it is unavailable."""
    mine = await ground.session()
    await mine.close()
    await refused(mine.apply([seam.Create("x/y", b"")]), errors.CoordinationUnavailable)
    await refused(mine.entries("x"), errors.CoordinationUnavailable)


@promise
async def it_says_what_was_granted(ground: Bench) -> None:
    """A session knows how long the site waits for it: a time of the order of what was asked for, the same for each."""
    mine, other = await ground.session(), await ground.session()
    holds(0 < mine.granted_seconds <= 20 * ground.session_seconds, f"{mine.granted_seconds} s were granted")
    equal(mine.granted_seconds, other.granted_seconds)
    equal(mine.state, seam.State.CONNECTED)


@promise
async def ending_another_session_takes_its_entries_at_once(ground: Bench) -> None:
    """`end` says that a process is dead: its entries go now. If it lived after all it is told LOST, and begins anew."""
    mine, other = await ground.session("node-a"), await ground.session("node-b")
    states: list[seam.State] = []
    other.follow(states.append)
    last = await create(other, "x/other")
    await mine.end("node-b")
    equal(await paths(mine, "x"), [])
    await mine.end("node-nobody")
    await ground.until(lambda: states[:1] == [seam.State.LOST] and states[-1] is seam.State.CONNECTED)
    holds(await create(other, "x/other") > last, "the next session's numbers go on")


@promise_if(PROCESSES)
async def a_killed_process_can_be_ended(ground: Bench) -> None:
    """Whoever knows that a process is dead ends its session: entries are gone at once, its name is free."""
    mine = await ground.session()
    process = await ground.process()
    await process.ask("create", "x/far", "")
    await ground.until(lambda: _has(mine, ["x/far"]))
    await process.kill()
    await mine.end(process.name)
    equal(await paths(mine, "x"), [])
    holds(process.name not in await mine.sessions(), "the session is not listed")
    await ground.session(process.name)


@promise_if(PROCESSES, SUDDEN)
async def a_killed_process_is_gone_at_once(ground: Bench) -> None:
    """The engine knows of a death by itself, and tells those who watch, long before the granted time is over."""
    mine = await ground.session()
    told: list[float] = []
    mine.watch("x", lambda: told.append(ground.now()))
    process = await ground.process()
    await process.ask("create", "x/far", "")
    await ground.until(lambda: _has(mine, ["x/far"]))
    told.clear()
    await process.kill()
    equal(await paths(mine, "x"), [])
    dead = ground.now()
    await ground.until(lambda: told)
    holds(told[0] < dead + 0.5 * mine.granted_seconds, f"it was told after {told[0] - dead:.3f} s")


@promise_if(PROCESSES, SUDDEN)
async def a_forked_child_keeps_nothing_alive(ground: Bench) -> None:
    """What a process left behind does not count as the process."""
    mine = await ground.session()
    process = await ground.process()
    await process.ask("create", "x/far", "")
    child = await process.ask("fork", 60.0)
    try:
        await process.kill()
        await ground.until(lambda: _has(mine, []))
        holds(process.name not in await mine.sessions(), "the session is over")
    finally:
        os.kill(child, signal.SIGKILL)


@promise_if(PROCESSES, SUDDEN)
async def a_frozen_process_is_not_dead(ground: Bench) -> None:
    """As long as the process is there its session lives, however long it is silent."""
    mine = await ground.session()
    process = await ground.process()
    await process.ask("create", "x/far", "")
    await process.freeze()
    over = ground.now() + 1.5 * mine.granted_seconds
    await ground.until(lambda: ground.now() > over)
    equal(await paths(mine, "x"), ["x/far"])
    process.thaw()
    equal(await process.ask("paths", "x"), ["x/far"])


@promise_if(PROCESSES, EXPIRY)
async def a_session_is_lost_while_its_process_is_frozen(ground: Bench) -> None:
    """After the granted time its entries are gone. Thawed, it learns that, begins anew, and its numbers are greater."""
    mine = await ground.session()
    process = await ground.process()
    await process.ask("stand", 0)
    last = await process.ask("create", "x/far", "")
    await ground.until(lambda: _has(mine, ["x/far"]))
    begun = ground.now()
    await process.freeze()
    await ground.until(lambda: _has(mine, []))
    holds(ground.now() - begun > 0.3 * mine.granted_seconds, "it was given some time")
    process.thaw()
    await ground.until(lambda: _has_been(process.ask("states"), "lost"))
    await ground.until(lambda: _ends_with(process.ask("states"), "connected"))
    holds(await process.ask("create", "x/far", "") > last, "the next session's numbers go on")


@promise_if(CUT, EXPIRY)
async def a_session_that_is_cut_off_expires(ground: Bench) -> None:
    """Others see its entries go after the granted time. It is SUSPENDED, cannot apply anything, learns LOST when it is back."""
    mine, other = await ground.session("node-a"), await ground.session("node-b")
    states: list[seam.State] = []
    mine.follow(states.append)
    await create(mine, "x/mine")
    await ground.cut(mine)
    await ground.until(lambda: _has(other, []))
    await ground.until(lambda: _live(other, {"node-b"}))
    await ground.until(lambda: seam.State.SUSPENDED in states)
    await refused(mine.apply([seam.Check("x/mine", 1)]), errors.CoordinationUnavailable)
    await ground.heal(mine)
    await ground.until(lambda: seam.State.LOST in states and mine.state is seam.State.CONNECTED)
    await ground.until(lambda: _live(other, {"node-a", "node-b"}))
    equal(await paths(mine, "x"), [])


@promise_if(CUT)
async def a_short_cut_harms_nothing(ground: Bench) -> None:
    """Cut off for much less than the granted time: the session goes on, with its entries."""
    mine, other = await ground.session(), await ground.session()
    number = await create(mine, "x/mine")
    await ground.cut(mine)
    over = ground.now() + 0.1 * mine.granted_seconds
    await ground.until(lambda: ground.now() > over)
    await ground.heal(mine)
    await ground.until(lambda: mine.state is seam.State.CONNECTED)
    await ground.until(lambda: _confirmed(mine, number))
    equal([each.number for each in await other.entries("x")], [number])


async def _has(session: seam.Session, wanted: list[str]) -> bool:
    return await paths(session, "x") == wanted


async def _live(session: seam.Session, wanted: set[str]) -> bool:
    return set(await session.sessions()) == wanted


async def _confirmed(session: seam.Session, number: int) -> bool:
    return await session.apply([seam.Check("x/mine", number)]) == [number]


async def _has_been(states: object, wanted: str) -> bool:
    return wanted in await states  # type: ignore[misc]


async def _ends_with(states: object, wanted: str) -> bool:
    return bool((await states)[-1] == wanted)  # type: ignore[misc]
