"""The active instance of a service dies, freezes, hangs: another one answers, and nothing is accepted under two epochs.

Each test prints how long callers were without an answer.
"""

from __future__ import annotations

import asyncio

import pytest

from callboard import errors
from tests.faults import epochs, naming
from tests.faults.conftest import Measured

LATE = (errors.WrongEpoch, errors.NotActive, errors.LeaseUnconfirmed)
"""What an instance says that is not, or may not be, active any more."""


async def test_killed(named: naming.Named, coordination: str, measured: Measured):
    active, epoch = await named.settled()
    async with named.callers() as seen:
        named.kill(active.pid)
        await named.eventually(lambda: seen.under_another(epoch))
    assert not seen.failures and not seen.went_back()
    assert seen.all()[-1].epoch > epoch
    assert not epochs.faults(named.lines())
    measured(f"{coordination}: active killed", seen.longest_gap, 3)


async def test_frozen_until_it_was_replaced(named: naming.Named, coordination: str, measured: Measured):
    active, epoch = await named.settled()
    gate = named.new_gate()
    async with named.callers() as seen:
        began = asyncio.create_task(named.call("linger", gate=str(gate), timeout=60))
        await named.eventually(lambda: named.marked(str(gate)))
        named.freeze(active.pid)
        sent = [asyncio.create_task(named.call("charge", mark=f"frozen-{n}", timeout=60)) for n in range(5)]
        await named.eventually(lambda: seen.under_another(epoch))
        gate.touch()
        woken = naming.boot()
        named.wake()
        refused = await asyncio.gather(began, *sent, return_exceptions=True)
        await named.eventually(lambda: named.refused(active.pid, woken))
    assert all(isinstance(each, (*LATE, errors.ConnectionLost)) for each in refused), refused
    assert not seen.failures and not seen.went_back()
    lines = named.lines()
    assert not named.marked("frozen-")
    assert not epochs.faults(lines)
    measured(f"{coordination}: active frozen", seen.longest_gap, 10)


async def test_hangs_while_its_session_lives(named: naming.Named, coordination: str, measured: Measured):
    active, epoch = await named.settled()
    gate = named.new_gate()
    async with named.callers() as seen:
        with pytest.raises(errors.DeadlineExceeded):
            await named.call("hang", gate=str(gate), timeout=0.1)
        await named.eventually(lambda: seen.under_another(epoch), 15)
        woken = naming.boot()
        gate.touch()
        await named.eventually(lambda: named.refused(active.pid, woken))
    assert not seen.failures and not seen.went_back()
    assert not epochs.faults(named.lines())
    measured(f"{coordination}: active hangs", seen.longest_gap, 10)


async def test_killed_together_with_the_agent(named: naming.Named, coordination: str, measured: Measured):
    active, epoch = await named.settled()
    assert named.agent
    async with named.callers() as seen:
        named.kill(named.agent.pid)
        named.kill(active.pid)
        await named.eventually(lambda: seen.under_another(epoch), 15)
    named.agent.wait()
    assert not seen.failures and not seen.went_back()
    measured(f"{coordination}: active and agent killed", seen.longest_gap, 10)
    started = await named.start()
    assert started["adopted"] == 5
    await named.settled()
    assert not epochs.faults(named.lines())
