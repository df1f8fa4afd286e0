"""The active instance of a service dies, freezes, hangs: another one answers, and nothing is accepted under two epochs.

Each test tells how long callers of an idempotent method were without an answer.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from callboard import errors
from tests.faults.conftest import Measured
from tests.faults.deployment import boot
from tests.faults.naming import NODES, Named

LATE = (errors.WrongEpoch, errors.NotActive, errors.LeaseUnconfirmed, errors.ConnectionLost)
"""What callers hear whose requests were with an instance that is not active any more."""


async def test_killed(named: Named, coordination: str, measured: Measured):
    active, epoch = await named.settled()
    async with named.callers() as seen:
        named.kill(active.pid)
        await named.eventually(lambda: seen.under_another(epoch))
    assert not seen.failures and not seen.went_back() and not named.faults()
    measured(f"{coordination}: active killed", seen.longest_gap, 3)


async def test_told_to_end(named: Named, coordination: str, measured: Measured):
    """What it began before comes to its end, and counts; what comes then is answered by the next one."""
    active, epoch = await named.settled()
    gate = named.new_gate()
    async with named.callers() as seen:
        begun = asyncio.create_task(named.call("linger", gate=str(gate)))
        await named.eventually(lambda: named.marked(str(gate)))
        named.kill(active.pid, signal.SIGTERM)
        await named.eventually(lambda: named.idle())
        gate.touch()
        assert await begun == {"pid": active.pid, "epoch": epoch}
        ended = boot()
        await named.eventually(lambda: seen.under_another(epoch))
        taken = (min(answer.at for answer in seen.all() if answer.epoch != epoch) - ended) / 1e9
    assert not seen.failures and not seen.went_back() and not named.faults()
    measured(f"{coordination}: active told to end, after its last call", taken, 3)


async def test_frozen_until_it_was_replaced(named: Named, coordination: str, measured: Measured):
    """It goes on with a request half done, and others in its buffers: no answer of its old epoch counts."""
    active, epoch = await named.settled()
    gate = named.new_gate()
    async with named.callers() as seen:
        requests = [asyncio.create_task(named.call("linger", gate=str(gate), timeout=60))]
        await named.eventually(lambda: named.marked(str(gate)))
        named.freeze(active.pid)
        requests += [asyncio.create_task(named.call("charge", mark="charged", timeout=60)) for _ in range(5)]
        await named.eventually(lambda: seen.under_another(epoch), 15)
        gate.touch()
        named.wake()
        said = await asyncio.gather(*requests, return_exceptions=True)
        await named.eventually(lambda: named.refuses(active, epoch))
    assert all(isinstance(each, LATE) or (isinstance(each, dict) and each["epoch"] > epoch) for each in said), said
    assert all(line.epoch > epoch for line in named.marked("charged"))
    assert not seen.failures and not seen.went_back() and not named.faults()
    measured(f"{coordination}: active frozen", seen.longest_gap, 10)


async def test_hangs_while_its_session_lives(named: Named, coordination: str, measured: Measured):
    active, epoch = await named.settled()
    gate = named.new_gate()
    async with named.callers() as seen:
        with pytest.raises(errors.DeadlineExceeded):
            await named.call("hang", gate=str(gate), timeout=1)
        await named.eventually(lambda: seen.under_another(epoch), 15)
        gate.touch()
        await named.eventually(lambda: named.refuses(active, epoch))
    assert not seen.failures and not seen.went_back() and not named.faults()
    measured(f"{coordination}: active hangs", seen.longest_gap, 10)


async def test_killed_together_with_the_agent(named: Named, coordination: str, measured: Measured):
    """Nobody ends its session: the kernel frees the lock, or ZooKeeper waits until it has not heard of it for long enough."""
    active, epoch = await named.settled()
    assert named.agent
    async with named.callers() as seen:
        named.kill(named.agent.pid)
        named.kill(active.pid)
        await named.eventually(lambda: seen.under_another(epoch), 15)
    named.agent.wait()
    assert not seen.failures and not seen.went_back()
    measured(f"{coordination}: active and agent killed", seen.longest_gap, 10)
    assert (await named.start())["adopted"] == NODES - 1
    await named.settled()
    assert not named.faults()
