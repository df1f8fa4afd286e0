"""The one life: every order in which its verbs may come."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable

import pytest

from callboard.kit import lifecycle
from callboard.kit.lifecycle import Phase


class Recorded(lifecycle.Lifecycle):
    """Writes down what was called; waits at `gate` in each."""

    def __init__(self, *, fails: str = "") -> None:
        super().__init__()
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._fails = fails
        self.inside = 0

    async def _pass(self, name: str) -> None:
        self.inside += 1
        assert self.inside == 1
        self.calls.append(name)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if name == self._fails:
                raise OSError(name)
        finally:
            self.inside -= 1

    async def _start(self) -> None:
        await self._pass("start")

    async def _drain(self, grace_seconds: float) -> None:
        await self._pass(f"drain {grace_seconds}")

    async def _stop(self) -> None:
        await self._pass("stop")


async def test_the_usual_life() -> None:
    one = Recorded()
    assert (one.phase, one.ready) == (Phase.NEW, False)
    await one.start()
    assert one.ready
    await one.drain(5)
    assert (one.phase, one.ready) == (Phase.DRAINING, False)
    await one.stop()
    assert (one.phase, one.calls) == (Phase.STOPPED, ["start", "drain 5", "stop"])


async def test_draining_and_stopping_come_once() -> None:
    one = Recorded()
    await one.start()
    await asyncio.gather(one.drain(1), one.drain(2), one.stop(), one.stop(), one.drain(3))
    assert one.calls == ["start", "drain 1", "stop"]


async def test_before_the_start_nothing_is_drained_or_stopped() -> None:
    one = Recorded()
    await one.drain(1)
    await one.stop()
    await one.stop()
    assert (one.phase, one.calls) == (Phase.STOPPED, [])
    with pytest.raises(RuntimeError):
        await one.start()


async def test_a_second_start_is_refused() -> None:
    one = Recorded()
    await one.start()
    with pytest.raises(RuntimeError, match="Recorded"):
        await one.start()
    assert one.ready


async def test_a_failed_start_stops_what_had_begun() -> None:
    one = Recorded(fails="start")
    with pytest.raises(OSError, match="start"):
        await one.start()
    await one.stop()
    assert (one.phase, one.calls) == (Phase.STOPPED, ["start", "stop"])


async def test_a_cancelled_start_stops_what_had_begun() -> None:
    one = Recorded()
    one.gate.clear()
    starting = asyncio.create_task(one.start())
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.sleep(0)
    one.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (one.phase, one.calls) == (Phase.STOPPED, ["start", "stop"])


async def test_a_stop_waits_for_the_start() -> None:
    one = Recorded()
    one.gate.clear()
    starting = asyncio.create_task(one.start())
    await asyncio.sleep(0)
    assert one.phase is Phase.STARTING
    stopping = asyncio.create_task(one.stop())
    await asyncio.sleep(0)
    one.gate.set()
    await starting
    await stopping
    assert (one.phase, one.calls) == (Phase.STOPPED, ["start", "stop"])


async def test_a_failed_drain_leaves_the_stop_to_do() -> None:
    one = Recorded(fails="drain 1")
    await one.start()
    with pytest.raises(OSError, match="drain"):
        await one.drain(1)
    await one.stop()
    assert one.calls == ["start", "drain 1", "stop"]


async def test_any_order_at_once_keeps_the_rules() -> None:
    chance = random.Random(11)
    for _ in range(200):
        one = Recorded()
        choices: list[Callable[[], Awaitable[None]]] = [one.start, one.stop, functools.partial(one.drain, 1)]
        verbs = [chance.choice(choices) for _ in range(6)]
        await asyncio.gather(*(verb() for verb in verbs), return_exceptions=True)
        await one.stop()
        assert one.phase is Phase.STOPPED
        assert one.calls in ([], ["start", "stop"], ["start", "drain 1", "stop"])
