"""How fast an office changes hands on one machine, between real processes."""

from __future__ import annotations

import statistics
import time

import pytest

from callboard.coordination import election
from callboard.testing.conformance.coordination import bench, candidate

LOCAL = (bench.PROCESSES, bench.SUDDEN)


@pytest.fixture
async def ground(tmp_path):
    async with bench.Bench(f"local://{tmp_path}/coordination", session_seconds=3.0, abilities=LOCAL) as made:
        yield made


async def holder(ground):
    """Start a process that is preferred; return it and its epoch when it holds the office."""
    process = await ground.process()
    await process.ask("stand", 1)
    await ground.until(lambda: process.ask("epoch"))
    return process, await process.ask("epoch")


async def test_the_standby_holds_the_office_of_a_killed_process(ground, record_property):
    """By nothing but the kernel's word: nobody ended the session."""
    standby = await ground.candidate(2)
    seconds = []
    for _ in range(5):
        process, first = await holder(ground)
        await ground.until(lambda: standby.epoch == 0)
        begun = time.monotonic()
        await process.kill()
        await ground.until(lambda first=first: standby.epoch > first)
        seconds.append(time.monotonic() - begun)
    figure = (
        f"local: killed holder is followed after p50 {statistics.median(seconds) * 1e3:.0f} ms, most {max(seconds) * 1e3:.0f} ms"
    )
    record_property("figure", figure)
    assert statistics.median(seconds) < 0.3, figure


async def test_a_hung_process_is_followed_two_seconds_after_it_was_deposed(ground, record_property):
    process, first = await holder(ground)
    standby = await ground.candidate(2)
    await ground.until(lambda: standby.presence.session.entries(election.CANDIDATES))
    await process.freeze()
    begun = time.monotonic()
    await election.depose(standby.session, candidate.LABEL, candidate.GROUP, first)
    await ground.until(lambda: standby.epoch > first)
    seconds = time.monotonic() - begun
    record_property("figure", f"local: deposed holder that hangs is followed after {seconds:.2f} s, granted 3 s")
    assert 2.0 <= seconds < 4.0
