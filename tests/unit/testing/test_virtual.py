"""Virtual time: it jumps, it never hangs, and its processes freeze and die as real ones do."""

from __future__ import annotations

import asyncio

import pytest

from callboard.testing import virtual


def test_hours_pass_at_once_and_in_order():
    async def main(loop):
        seen = []

        async def after(seconds):
            await asyncio.sleep(seconds)
            seen.append((seconds, loop.time()))

        await asyncio.gather(after(7200), after(0.5), after(3600))
        return seen

    assert virtual.run(main) == [(0.5, 0.5), (3600, 3600.0), (7200, 7200.0)]


def test_waiting_for_nothing_raises_instead_of_hanging():
    async def main(loop):
        await loop.create_future()

    with pytest.raises(virtual.Stuck, match="nothing is due"):
        virtual.run(main)


def test_a_bound_of_virtual_time_ends_what_never_ends():
    async def main(loop):
        while True:
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError, match="60 s of virtual time"):
        virtual.run(main, until=60)


def test_what_the_main_task_raises_comes_out():
    async def main(loop):
        await asyncio.sleep(1)
        raise LookupError("nowhere")

    with pytest.raises(LookupError, match="nowhere"):
        virtual.run(main)


def test_asyncios_own_tools_work_on_it():
    async def main(loop):
        lock, queue, told = asyncio.Lock(), asyncio.Queue(maxsize=1), asyncio.Event()

        async def feed():
            async with lock:
                await queue.put(await asyncio.to_thread(lambda: 1))
                await queue.put(2)
            told.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            got = [await queue.get(), await queue.get()]
            await told.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.sleep(10)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return got, loop.time()

    assert virtual.run(main) == ([1, 2], 3.0)


def test_a_cancelled_timer_does_not_hold_time_up():
    async def main(loop):
        loop.call_later(5, lambda: None).cancel()
        await loop.create_future()

    with pytest.raises(virtual.Stuck, match="at 0"):
        virtual.run(main)


class Pair:
    """Two processes: one that ticks every second, one that tells what happens to it."""

    def __init__(self, **clock):
        self.timeline = virtual.Timeline()
        self.director = self.timeline.loop()
        self.loop = self.timeline.loop(**clock)
        self.clock = virtual.VirtualClock(self.loop)
        self.ticks = []
        self.ended = []
        self.task = self.loop.create_task(self._tick())

    async def _tick(self):
        try:
            while True:
                self.ticks.append((self.timeline.now, self.loop.time(), self.clock.boot()))
                await asyncio.sleep(1)
        finally:
            self.ended.append(self.timeline.now)

    def play(self, *acts):
        async def main():
            for seconds, act in acts:
                await asyncio.sleep(seconds)
                act()

        self.timeline.run(self.director, main())
        return [true for true, _, _ in self.ticks]


def test_a_frozen_process_finds_that_time_has_passed():
    pair = Pair()
    seen = pair.play((2.5, pair.loop.freeze), (4, pair.loop.thaw), (1.2, lambda: None))
    assert seen == [0, 1, 2, 6.5, 7.5]
    assert pair.ticks[3][2] == 6_500_000_000
    assert not pair.loop.frozen
    pair.timeline.close()


def test_thawing_may_shuffle_what_waited():
    timeline = virtual.Timeline()
    director, loop = timeline.loop(), timeline.loop()
    seen = []

    async def main():
        loop.freeze()
        for each in "abc":
            loop.call_soon(seen.append, each)
        await asyncio.sleep(1)
        loop.thaw(lambda held: held.reverse())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    timeline.run(director, main())
    assert seen == ["c", "b", "a"]


def test_a_killed_process_runs_nothing_more_until_the_simulation_is_cleared_away():
    pair = Pair()
    assert pair.play((1.5, pair.loop.kill), (5, pair.loop.thaw), (5, lambda: None)) == [0, 1]
    assert pair.loop.dead and not pair.loop.frozen and pair.ended == []
    pair.timeline.close()
    assert pair.task.cancelled() and len(pair.ticks) == 2


def test_clocks_of_machines_differ_in_start_and_pace():
    pair = Pair(offset_seconds=1000.0, rate=1.25)
    pair.play((2, lambda: None))
    assert [local for _, local, _ in pair.ticks] == [1000.0, 1001.0, 1002.0]
    assert [true for true, _, _ in pair.ticks] == pytest.approx([0, 0.8, 1.6])
    assert pair.ticks[1][2] == 1_001_000_000_000
    assert pair.clock.now() == 1_800_000_002_000_000
    pair.timeline.close()


def test_what_reaches_no_one_is_kept_to_be_looked_at():
    async def main(loop):
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        return loop.complaints

    complaints = virtual.run(main)
    assert isinstance(complaints[0]["exception"], ZeroDivisionError)
