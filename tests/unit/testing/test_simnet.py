"""The simulated network: order, silence, late arrival, resets, and the same again from the same seed."""

from __future__ import annotations

import asyncio
import random

import pytest

from callboard import errors
from callboard.rpc import network
from callboard.testing import simnet, virtual


class Receiver:
    """Keeps what a link tells."""

    def __init__(self, log=None):
        self.link = None
        self.got = [] if log is None else log
        self.why = None
        self.pauses = []

    def connected(self, link):
        self.link = link

    def received(self, message):
        assert self.why is None
        self.got.append(message)

    def paused(self):
        self.pauses.append("paused")

    def resumed(self):
        self.pauses.append("resumed")

    def closed(self, why):
        assert self.why is None
        self.why = why


class Town:
    """Two machines, `a` and `b`; `b` listens. A director looks from outside."""

    def __init__(self, seed=1):
        self.timeline = virtual.Timeline()
        self.fabric = simnet.Fabric(self.timeline, random.Random(seed))
        self.director = self.timeline.loop()
        self.loops = {name: self.timeline.loop() for name in "ab"}
        self.networks = {name: self.fabric.join(name, loop) for name, loop in self.loops.items()}
        self.accepted = []
        self.times = []

    def accept(self):
        self.accepted.append(Receiver())
        return self.accepted[-1]

    async def on(self, name, coroutine):
        """Run a coroutine in one of the processes, as the director."""
        done = self.director.create_future()

        async def body():
            try:
                done.set_result(await coroutine)
            except BaseException as failure:
                done.set_exception(failure)

        self.loops[name].create_task(body())
        return await done

    async def link(self):
        self.listener = await self.on("b", self.networks["b"].listen("b", 0, self.accept))
        self.address = network.Address("0" * 32, self.listener.host, self.listener.port)
        near = Receiver()
        await self.on("a", self.networks["a"].dial(self.address, near))
        return near, self.accepted[-1]


def play(scene, seed=1):
    """Run `scene(town)` on virtual time, in the director's process."""
    town = Town(seed)
    try:
        result = town.timeline.run(town.director, scene(town))
        assert not any(loop.complaints for loop in (town.director, *town.loops.values()))
        return result
    finally:
        town.timeline.close()


NUMBERS = [b"%d" % each for each in range(300)]


def test_messages_of_a_link_stay_in_order_both_ways():
    async def scene(town):
        near, far = await town.link()
        for each in NUMBERS:
            near.link.send(each)
            far.link.send(each)
        await asyncio.sleep(5)
        assert near.got == far.got == NUMBERS

    play(scene)


def test_the_one_who_dials_hears_nothing_before_it_is_connected():
    class Eager(Receiver):
        def connected(self, link):
            super().connected(link)
            link.send(b"welcome")

    class Strict(Receiver):
        def received(self, message):
            assert self.link is not None
            super().received(message)

    async def scene(town):
        await town.link()
        port = (await town.on("b", town.networks["b"].listen("b", 0, Eager))).port
        for _ in range(50):
            near = Strict()
            await town.on("a", town.networks["a"].dial(network.Address("0" * 32, "b", port), near))
            await asyncio.sleep(1)
            assert near.got == [b"welcome"]

    play(scene)


def test_links_overtake_each_other():
    async def scene(town):
        log = []
        near, far = await town.link()
        far.got = log
        other = Receiver()
        await town.on("a", town.networks["a"].dial(town.address, other))
        town.accepted[-1].got = log
        for each in range(100):
            near.link.send(b"1 %d" % each)
            other.link.send(b"2 %d" % each)
        await asyncio.sleep(5)
        firsts = [line.split()[0] for line in log]
        assert len(log) == 200 and firsts != [b"1", b"2"] * 100

    play(scene)


def test_a_seed_replays():
    async def scene(town):
        near, far = await town.link()
        for each in NUMBERS[:20]:
            near.link.send(each)
        moments = []
        while len(far.got) < 20:
            await asyncio.sleep(0.0001)
            moments.append(len(far.got))
        return moments

    assert play(scene, 7) == play(scene, 7) != play(scene, 8)


def test_a_parted_link_is_silent_and_what_was_sent_arrives_when_it_heals():
    async def scene(town):
        near, far = await town.link()
        town.fabric.part("a", "b")
        for each in NUMBERS[:5]:
            near.link.send(each)
        await asyncio.sleep(60)
        assert far.got == [] and near.why is None and far.why is None
        town.fabric.mend("a", "b")
        near.link.send(NUMBERS[5])
        await asyncio.sleep(1)
        assert far.got == NUMBERS[:6]

    play(scene)


def test_a_link_may_be_cut_one_way():
    async def scene(town):
        near, far = await town.link()
        town.fabric.part("a", "b", both_ways=False)
        near.link.send(b"lost in between")
        far.link.send(b"heard")
        await asyncio.sleep(1)
        assert (near.got, far.got) == ([b"heard"], [])
        assert town.fabric.parted("a", "b") and not town.fabric.parted("b", "a")

    play(scene)


def test_a_close_during_a_parting_is_heard_after_it():
    async def scene(town):
        near, far = await town.link()
        town.fabric.part("a", "b")
        near.link.close()
        near.link.close()
        near.link.send(b"too late")
        await asyncio.sleep(9)
        assert (near.why, far.why) == ("closed here", None)
        town.fabric.heal()
        await asyncio.sleep(1)
        assert far.why == "closed by the other side" and far.got == []

    play(scene)


def test_dialling_into_a_parting_hangs_until_the_callers_bound_and_leaves_nothing_open():
    async def scene(town):
        await town.link()
        town.fabric.part("a", "b")
        unwanted = Receiver()
        with pytest.raises(TimeoutError):
            await town.on("a", asyncio.wait_for(town.networks["a"].dial(town.address, unwanted), 2))
        assert town.timeline.now > 2
        town.fabric.heal()
        await asyncio.sleep(2)
        assert unwanted.link is None
        assert town.accepted[-1].why == "nobody wanted it any more"

    play(scene)


def test_dialling_where_nobody_listens_is_refused():
    async def scene(town):
        await town.link()
        await town.listener.close()
        await town.listener.close()
        with pytest.raises(errors.Unreachable, match="nobody listens"):
            await town.on("a", town.networks["a"].dial(town.address, Receiver()))
        with pytest.raises(errors.Unreachable, match="no machine"):
            await town.on("a", town.networks["a"].dial(network.Address("0" * 32, "nowhere", 1), Receiver()))

    play(scene)


def test_a_port_is_taken_once():
    async def scene(town):
        await town.link()
        with pytest.raises(errors.PortInUse):
            await town.on("b", town.networks["b"].listen("b", town.listener.port, town.accept))

    play(scene)


def test_a_killed_process_resets_its_links_and_refuses_at_its_port():
    async def scene(town):
        near, far = await town.link()
        town.loops["b"].kill()
        town.fabric.gone("b", silent=False)
        await asyncio.sleep(2)
        assert near.why == "reset" and far.why is None
        with pytest.raises(errors.Unreachable):
            await town.on("a", town.networks["a"].dial(town.address, Receiver()))

    play(scene)


def test_a_lost_machine_is_silent_until_another_process_comes_after_it():
    async def scene(town):
        near, _ = await town.link()
        town.loops["b"].kill()
        town.fabric.gone("b", silent=True)
        near.link.send(b"anybody there?")
        with pytest.raises(TimeoutError):
            await town.on("a", asyncio.wait_for(town.networks["a"].dial(town.address, Receiver()), 1))
        assert near.why is None
        town.fabric.join("b", town.timeline.loop())
        near.link.send(b"hello?")
        await asyncio.sleep(2)
        assert near.why == "reset"

    play(scene)


def test_a_frozen_process_gets_everything_when_it_is_thawed():
    async def scene(town):
        near, far = await town.link()
        town.loops["b"].freeze()
        for each in NUMBERS[:5]:
            near.link.send(each)
        late = Receiver()
        with pytest.raises(TimeoutError):
            await town.on("a", asyncio.wait_for(town.networks["a"].dial(town.address, late), 1))
        assert far.got == []
        town.loops["b"].thaw()
        await asyncio.sleep(1)
        assert far.got == NUMBERS[:5]

    play(scene)


def test_a_reset_is_noticed_by_both_and_loses_what_was_under_way():
    async def scene(town):
        near, far = await town.link()
        near.link.send(b"under way")
        town.fabric.reset("a", "b")
        await asyncio.sleep(1)
        assert (near.why, far.why, far.got) == ("reset", "reset", [])

    play(scene)


def test_a_reset_while_dialling_is_no_link_at_all():
    async def scene(town):
        await town.link()
        unlucky = Receiver()
        dialling = town.director.create_task(town.on("a", town.networks["a"].dial(town.address, unlucky)))
        while len(town.accepted) < 2:
            await asyncio.sleep(0.00001)
        town.fabric.reset("a", "b")
        with pytest.raises(errors.Unreachable, match="closed the link at once"):
            await dialling
        assert (unlucky.link, unlucky.why) == (None, None)

    play(scene)


def test_a_sender_is_paused_while_too_much_waits():
    async def scene(town):
        near, far = await town.link()
        town.loops["b"].freeze()
        for _ in range(5):
            near.link.send(bytes(simnet.HIGH_BYTES // 4))
        await asyncio.sleep(1)
        assert near.pauses == ["paused"]
        town.loops["b"].thaw()
        await asyncio.sleep(1)
        assert near.pauses == ["paused", "resumed"] and len(far.got) == 5

    play(scene)


def test_the_way_to_the_coordination_is_late_and_can_be_cut():
    async def scene(town):
        link = town.fabric.coordination_link("a")
        await town.on("a", link.trip())
        assert 0 < town.timeline.now < 1
        town.fabric.part("a", [simnet.COORDINATION])
        with pytest.raises(TimeoutError):
            await town.on("a", asyncio.wait_for(link.trip(), 5))
        waiting = town.director.create_task(town.on("a", link.trip()))
        await asyncio.sleep(60)
        assert not waiting.done()
        town.fabric.heal()
        await waiting

    play(scene)
