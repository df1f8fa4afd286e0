"""Slots that the store's jobs and those that are brought share: what one side leaves reaches the other, whatever goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from callboard import errors
from callboard.app import Callboard
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.kit import grammar, uuid7
from callboard.roles import worker as workers
from callboard.roles.worker import door

SLOTS = 2
app = Callboard("c")


@app.job(lane="short")
async def quick() -> int:
    return 7


class Deaf(workers.Worker):
    """Looks at nothing that nobody tells it of."""

    poll_seconds = 600.0


class Quick(workers.Worker):
    poll_seconds = 0.05


async def opened(yard: Any, kind: type[workers.Worker]) -> door.Door:
    """Start a worker with a door; it rests, and knows of no jobs."""
    made = kind(yard.queue, app, node=b"n" * 16, slots=SLOTS)
    yard.workers.append(made)
    found = made.open_door()
    await made.start()
    await yard.until(lambda: yard.engine.seen(seam.Claim) == 1 and not made._claims.wants(made._runs.limits))
    return found


def brought() -> model.Job:
    return model.Job(id=uuid7.make(0), kind="c.quick", domain=grammar.DEFAULT_DOMAIN, lane=model.Lane.SHORT)


async def test_a_slot_that_was_held_for_nothing_is_the_store_s_at_once(yard: Any) -> None:
    door = await opened(yard, Deaf)
    held = [brought() for _ in range(SLOTS)]
    assert all(door.hold(job) for job in held)
    id = await yard.submit(app, "quick")
    door.let(held[0])
    assert await yard.result(id) == 7


@pytest.mark.parametrize("kept", ["held", "booked"])
async def test_what_no_hint_told_of_is_found_when_slots_are_kept_no_more(yard: Any, kept: str) -> None:
    door = await opened(yard, Quick)
    held = [brought() for _ in range(SLOTS)]
    if kept == "held":
        assert all(door.hold(job) for job in held)
    else:
        door.book(SLOTS, waits=False)
    await yard.until(lambda: yard.workers[0]._claims._bell is not None)
    yard.workers[0]._claims.ring()
    await yard.until(lambda: yard.workers[0]._claims._bell is not None and not yard.workers[0]._claims._bell.done())
    id = await yard.submit_to(yard.aside, app, "quick", {})
    if kept == "held":
        for job in held:
            door.let(job)
    else:
        door.book(0, waits=False)
    assert await yard.result(id) == 7


async def test_slots_of_a_claim_that_failed_are_for_others_again(yard: Any) -> None:
    door = await opened(yard, Deaf)
    free: list[int] = []
    door.freed = lambda: free.append(door.limits.short)
    yard.engine.fails = lambda: errors.StoreUnavailable("away", unknown=True)
    yard.workers[0]._claims.look()
    await yard.until(lambda: free)
    assert free[0] > 0
