"""Promises about outages of the site itself: its leader dies, its quorum is gone and comes back."""

from __future__ import annotations

import asyncio

from callboard import errors
from callboard.coordination import engine as seam
from callboard.testing.conformance.coordination import candidate as candidates
from callboard.testing.conformance.coordination import offices
from callboard.testing.conformance.coordination.bench import LEADER, QUORUM, Bench, create, equal, holds, paths, promise_if


@promise_if(LEADER)
async def the_loss_of_the_leader_ends_no_session(ground: Bench) -> None:
    """Another server leads: sessions and entries stay, numbers grow, watches go on, and offices do not change hands."""
    mine, other = await ground.session(), await ground.session()
    one, two = await offices.two_stand(ground)
    first = one.epoch
    last = await create(mine, "x/before")
    told: list[float] = []
    mine.watch("x", lambda: told.append(ground.now()))
    await ground.lose_leader()
    await ground.until(lambda: _creates(other, "x/after", last))
    equal(await paths(other, "x"), ["x/after", "x/before"])
    told.clear()
    await create(other, "x/later")
    await ground.until(lambda: told)
    await ground.until(lambda: one.epoch == first)
    equal(two.terms, [])
    holds(seam.State.LOST not in one.states + two.states, "no session was lost")


@promise_if(QUORUM)
async def without_a_quorum_nothing_is_applied(ground: Bench) -> None:
    """The site does not serve: sessions say SUSPENDED, calls fail as unavailable and in bounded time, and nothing is taken."""
    mine = await ground.session()
    one, two = await offices.two_stand(ground)
    first = one.epoch
    number = await create(mine, "x/y", b"1")
    await ground.lose_quorum()
    await ground.until(lambda: mine.state is not seam.State.CONNECTED)
    await _unavailable(ground, mine, number)
    await ground.until(lambda: one.epoch == 0)
    equal(two.epoch, 0)
    await ground.regain_quorum()
    await ground.until(lambda: mine.state is seam.State.CONNECTED)
    await ground.until(lambda: one.epoch >= first)
    candidates.in_turn(one.terms + two.terms)
    await ground.until(lambda: _creates(mine, "x/after", number))


@promise_if(QUORUM)
async def an_outage_is_survived(ground: Bench) -> None:
    """No quorum for longer than the granted time, then back: all say CONNECTED, entries are true again, one holds the office."""
    one, two = await offices.two_stand(ground)
    first = one.epoch
    await ground.lose_quorum()
    await asyncio.sleep(1.5 * one.session.granted_seconds)
    await ground.until(lambda: one.epoch == 0)
    await ground.regain_quorum()
    await ground.until(lambda: one.epoch >= first)
    await ground.until(lambda: _declared(one, two))
    candidates.in_turn(one.terms + two.terms)


async def _unavailable(ground: Bench, session: seam.Session, number: int) -> None:
    begun = ground.now()
    try:
        await session.apply([seam.Check("x/y", number)])
    except errors.CoordinationUnavailable:
        waited = ground.now() - begun
        holds(waited < 30, f"it was refused in bounded time: {waited:.3f} s")
        return
    raise AssertionError("something was applied without a quorum")


async def _creates(session: seam.Session, path: str, last: int) -> bool:
    """Create an entry if it is not there; tell that its number is greater than the last."""
    found = [each for each in await session.entries("x") if each.path == path]
    number = found[0].number if found else await create(session, path)
    holds(number > last, f"{number} is greater than {last}")
    return True


async def _declared(*instances: candidates.Candidate) -> bool:
    wanted = sorted(f"nodes/{each.presence.incarnation}" for each in instances)
    return await paths(instances[0].session, "nodes") == wanted
