"""Two nodes over loopback: requests, answers, deadlines, cancellation, notices, and one connection a pair."""

import asyncio

import pytest

from callboard import errors
from callboard.rpc import connection, frames, handshake, sockets
from tests.unit.rpc import nodes as kit
from tests.unit.rpc.nodes import Hanging, Service, echo, until


async def test_a_request_is_answered(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    assert await one.ask(two, args=b"\x81\xa1a\x01") == b"\x81\xa1a\x01"


async def test_the_method_is_told_who_asks_for_what_and_until_when(nodes):
    seen = []

    async def look(call, args):
        seen.append(call)
        return b""

    one, two = await nodes.start(), await nodes.start(Service(epoch=7, look=look))
    before = two.peers.clock.boot()
    await one.peers.request(
        two.address, label="echo", domain="acme", method="look", args=b"\x80", timeout=5, epoch=7, meta={"trace": "x"}
    )
    call = seen[0]
    assert (call.name, call.domain, call.method, call.epoch) == ("echo@acme", "acme", "look", 7)
    assert (call.caller, call.meta) == (one.incarnation, {"trace": "x"})
    assert 4e9 < call.deadline - before < 6e9


async def test_many_requests_are_in_flight_and_answers_find_their_callers(nodes):
    gate = asyncio.Event()

    async def late_first(call, args):
        if args == b"\x00":
            await gate.wait()
        return args

    one, two = await nodes.start(), await nodes.start(Service(echo=late_first))
    first = asyncio.ensure_future(one.ask(two, args=b"\x00"))
    numbers = [bytes([number]) for number in range(1, 101)]
    assert await asyncio.gather(*(one.ask(two, args=number) for number in numbers)) == numbers
    assert not first.done()
    gate.set()
    assert await first == b"\x00"


async def test_both_ask_over_one_connection(nodes):
    one, two = await nodes.start(Service(echo=echo)), await nodes.start(Service(echo=echo))
    await asyncio.gather(*(one.ask(two) for _ in range(5)))
    await two.ask(one)
    facts, theirs = one.peers.connections(), two.peers.connections()
    assert len(facts) == len(theirs) == 1
    assert (facts[0]["peer"], facts[0]["direction"], theirs[0]["direction"]) == (two.incarnation, "out", "in")
    assert facts[0]["in_flight"] == facts[0]["serving"] == 0 and facts[0]["site"] == "here"


async def test_of_two_that_dial_each_other_at_once_one_connection_stays(nodes):
    one, two = await nodes.start(Service(echo=echo)), await nodes.start(Service(echo=echo))
    for _ in range(20):
        assert list(await asyncio.gather(one.ask(two), two.ask(one))) == [b"\x80", b"\x80"]
        await until(lambda: len(one.peers.connections()) == len(two.peers.connections()) == 1)
        assert list(await asyncio.gather(one.ask(two), two.ask(one))) == [b"\x80", b"\x80"]
        for link in list(one.peers._all):
            link.close("the next round")
        await until(lambda: not two.peers.connections())


async def test_a_node_asks_itself_without_any_network(nodes):
    one = await nodes.start(Service(echo=echo, hang=Hanging()))
    assert await one.ask(one, args=b"\x07") == b"\x07"
    assert one.peers.connections() == []
    with pytest.raises(errors.UnknownMethod) as caught:
        await one.ask(one, "nothing")
    assert caught.value.data["ran"] == "no"
    with pytest.raises(errors.DeadlineExceeded):
        await one.ask(one, "hang", timeout=0.02)


async def test_past_the_deadline_the_caller_goes_on_and_the_handler_is_cancelled(nodes):
    hanging = Hanging()
    one, two = await nodes.start(), await nodes.start(Service(echo=echo, hang=hanging))
    await one.ask(two)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await one.ask(two, "hang", timeout=0.05)
    assert caught.value.data["ran"] == "unknown"
    await until(lambda: hanging.cancelled)
    assert await one.ask(two) == b"\x80"


async def test_a_callee_keeps_the_deadline_by_itself(nodes):
    hanging = Hanging()
    two = await nodes.start(Service(hang=hanging))
    stranger = await kit.dial(two)
    stranger.say(frames.Request(1, "echo", "main", "hang", 0, 20_000, b"\x80"))
    await until(lambda: hanging.cancelled)
    stranger.say(frames.Ping(1))
    await until(lambda: any(isinstance(frame, frames.Pong) for frame in stranger.got))
    assert not any(isinstance(frame, frames.Reply | frames.Failure) for frame in stranger.got)


async def test_deadlines_of_many_lengths_each_come_in_time(nodes):
    hanging = Hanging()
    one, two = await nodes.start(), await nodes.start(Service(hang=hanging))
    loop = asyncio.get_running_loop()

    async def late(timeout):
        begun = loop.time()
        with pytest.raises(errors.DeadlineExceeded):
            await one.ask(two, "hang", timeout=timeout)
        return loop.time() - begun - timeout

    late_by = await asyncio.gather(*(late(0.01 + 0.2 * (number * 37 % 100) / 100) for number in range(100)))
    assert min(late_by) > -0.005 and max(late_by) < 3


async def test_a_cancelled_caller_cancels_the_handler(nodes):
    hanging = Hanging()
    one, two = await nodes.start(), await nodes.start(Service(echo=echo, hang=hanging))
    task = asyncio.ensure_future(one.ask(two, "hang"))
    await until(lambda: hanging.begun)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: hanging.cancelled)
    assert one.peers.connections()[0]["in_flight"] == 0
    await until(lambda: two.peers.connections()[0]["serving"] == 0)


async def test_the_elected_one_acts_and_the_others_say_who(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    mine = frames.Electorate.of("k", [f"echo/{two.incarnation}"])
    other = frames.Electorate.of("k", [f"echo/{one.incarnation}"])
    assert await one.ask(two, electorate=mine) == b"\x80"
    answer = await one.ask(two, electorate=other)
    assert isinstance(answer, frames.Elsewhere) and answer.chosen == f"echo/{one.incarnation}"


async def test_notices_go_one_way_over_what_is_open(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    heard = []
    end = two.peers.listen("names", lambda who, body: heard.append((who, body)))
    assert not one.peers.notify(two.incarnation, "names", b"1")
    await one.ask(two)
    assert one.peers.notify(two.incarnation, "names", b"2") and one.peers.notify(two.incarnation, "other", b"3")
    await until(lambda: heard)
    end()
    end()
    one.peers.notify(two.incarnation, "names", b"4")
    await one.ask(two)
    assert heard == [(one.incarnation, b"2")]


async def test_a_node_may_tell_itself(nodes):
    one = await nodes.start()
    heard = []
    one.peers.listen("names", lambda who, body: heard.append((who, body)))
    assert one.peers.notify(one.incarnation, "names", b"1")
    assert heard == [(one.incarnation, b"1")]


async def test_a_listener_that_fails_harms_nobody(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    heard = []
    two.peers.listen("names", lambda who, body: 1 / 0)
    two.peers.listen("names", lambda who, body: heard.append(body))
    await one.ask(two)
    one.peers.notify(two.incarnation, "names", b"2")
    await until(lambda: heard)
    assert await one.ask(two) == b"\x80"


async def test_whoever_wants_to_know_is_told_of_the_end_of_a_connection(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    gone = []
    end = one.peers.on_gone(gone.append)
    await one.ask(two)
    await two.peers.stop()
    await until(lambda: gone)
    end()
    end()
    assert gone == [two.incarnation]


async def test_a_node_that_comes_with_a_new_connection_has_lost_the_old_one(nodes):
    """It noticed first, as when only one direction broke: what was said over the old one has to be said again."""
    one, two = await nodes.start(Service(echo=echo)), await nodes.start()
    gone = []
    one.peers.on_gone(gone.append)
    await two.ask(one)
    (old,) = two.peers._all
    two.peers.gone(old, "nothing was heard of it")
    assert gone == []
    await two.ask(one)
    await until(lambda: gone)
    assert gone == [two.incarnation] and one.peers.notify(two.incarnation, "names", b"")
    await until(lambda: len(one.peers._all) == 1)
    assert gone == [two.incarnation]


class Held:
    """A network on which what comes over the links that were dialled waits until it is let through."""

    def __init__(self):
        self._sockets = sockets.Sockets()
        self.waiting = []

    def listen(self, *how):
        return self._sockets.listen(*how)

    def dial(self, address, receiver):
        return self._sockets.dial(address, HeldReceiver(receiver, self.waiting))

    def let_through(self):
        while self.waiting:
            self.waiting.pop(0)()


class HeldReceiver:
    def __init__(self, receiver, waiting):
        self._receiver, self._waiting = receiver, waiting

    def received(self, message):
        self._waiting.append(lambda: self._receiver.received(message))

    def __getattr__(self, name):
        return getattr(self._receiver, name)


async def test_of_two_that_dial_each_other_both_are_told_of_an_end_that_one_has_seen(nodes):
    """One hears that the old connection ends just before the new one has begun there: for the other one there is no gap."""
    held = Held()
    low, high = await nodes.start(Service(echo=echo), net=held), await nodes.start(Service(echo=echo))
    gone = {low: [], high: []}
    for each, told in gone.items():
        each.peers.on_gone(told.append)
    asked = asyncio.ensure_future(low.ask(high))
    await until(lambda: held.waiting)
    await high.ask(low)
    held.let_through()  # The challenge. The welcome waits.
    await until(lambda: gone[low])
    assert gone == {low: [high.incarnation], high: []}
    while not asked.done():
        held.let_through()
        await asyncio.sleep(0)
    assert asked.result() == b"\x80"
    await until(lambda: gone[high])
    assert gone == {low: [high.incarnation], high: [low.incarnation]}
    assert len(low.peers._all) == len(high.peers._all) == 1


async def test_what_the_other_side_has_lost_is_not_used_any_more(nodes):
    """Also where both seem to have dialled at once, and the lost one would have stayed: the first new dial is in vain then."""
    one, two = await nodes.start(Service(echo=echo)), await nodes.start(Service(echo=echo))
    gone = []
    one.peers.on_gone(gone.append)
    await one.ask(two)
    (lost,) = one.peers._all
    (there,) = two.peers._all
    two.peers.gone(there, "nothing was heard of it")
    with pytest.raises(errors.Unreachable, match="closed the connection at once"):
        await two.ask(one)
    await until(lambda: gone)
    assert lost not in one.peers._all
    assert await two.ask(one) == b"\x80"
    assert await one.ask(two) == b"\x80"


async def test_requests_on_a_connection_that_breaks_end_with_connection_lost(nodes):
    hanging = Hanging()
    one, two = await nodes.start(), await nodes.start(Service(hang=hanging))
    asked = [asyncio.ensure_future(one.ask(two, "hang")) for _ in range(3)]
    await until(lambda: hanging.begun == 3)
    await two.peers.stop()
    for each in asked:
        with pytest.raises(errors.ConnectionLost) as caught:
            await each
        assert caught.value.data["ran"] == "unknown"
    await until(lambda: hanging.cancelled == 3)


async def test_nobody_home_fails_fast_and_is_tried_again_later(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    address = two.address
    await two.peers.stop()
    for _ in range(50):
        with pytest.raises(errors.Unreachable) as caught:
            await one.ask(address)
        assert caught.value.data["ran"] == "no"
    back = kit.Node(2, Service(echo=echo))
    back.peers._port = address.port
    await back.peers.start()
    try:
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await one.ask(address) == b"\x80"
                    break
                except errors.Unreachable:
                    await asyncio.sleep(0.01)
    finally:
        await back.peers.stop()


async def test_who_dials_us_is_no_longer_held_for_dead(nodes):
    one, two = await nodes.start(Service(echo=echo)), await nodes.start(Service(echo=echo))
    two.peers._secret = b"another one for a while"
    for _ in range(10):
        with pytest.raises(errors.WrongSecret):
            await one.ask(two)
        await asyncio.sleep(0.01)
    await two.ask(one)
    assert await one.ask(two) == b"\x80"


async def test_drain_ends_what_runs_and_takes_nothing_new(nodes):
    gate = asyncio.Event()

    async def wait(call, args):
        await gate.wait()
        return b"\x01"

    one, two = await nodes.start(), await nodes.start(Service(echo=echo, wait=wait))
    asked = asyncio.ensure_future(one.ask(two, "wait"))
    await until(lambda: two.peers.connections() and two.peers.connections()[0]["serving"])
    draining = asyncio.ensure_future(two.peers.drain(5))
    await until(lambda: not one.peers._open)
    with pytest.raises(errors.Unreachable):
        await one.ask(two)
    gate.set()
    assert await asked == b"\x01"
    await draining
    assert not one.peers.connections() and not two.peers.connections()


async def test_drain_ends_after_its_grace_time_whatever_runs(nodes):
    one, two = await nodes.start(), await nodes.start(Service(hang=Hanging()))
    asked = asyncio.ensure_future(one.ask(two, "hang"))
    await until(lambda: two.peers.connections() and two.peers.connections()[0]["serving"])
    await two.peers.drain(0.02)
    assert not asked.done()
    await two.peers.stop()
    with pytest.raises(errors.ConnectionLost):
        await asked


async def test_drain_with_nothing_to_wait_for_is_over_at_once(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    async with asyncio.timeout(5):
        await two.peers.drain(60)
        await one.peers.drain(60)
    with pytest.raises(errors.Unreachable):
        await one.ask(two)


async def test_a_link_that_comes_when_nobody_waits_for_it_any_more_is_closed(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    greeting = handshake.Dialling(one.peers.identity, two.address, kit.SECRET)
    made = connection.Connection(one.peers, greeting)
    made.close("too late")
    await sockets.Sockets().dial(two.address, made)
    await until(lambda: not two.peers._all)
    assert not one.peers._all and not made.usable


async def test_a_stopped_node_asks_nobody(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    await one.peers.stop()
    with pytest.raises(errors.Unreachable):
        await one.ask(two)


async def test_a_handler_that_will_not_be_cancelled_answers_nobody(nodes):
    going_on = asyncio.Event()

    async def stubborn(call, args):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await going_on.wait()
        return b"\x01"

    one, two = await nodes.start(), await nodes.start(Service(echo=echo, stubborn=stubborn))
    await one.ask(two)
    with pytest.raises(errors.DeadlineExceeded):
        await one.ask(two, "stubborn", timeout=0.05)
    assert two.peers.connections()[0]["serving"] == 1
    going_on.set()
    await until(lambda: two.peers.connections()[0]["serving"] == 0)
    await one.ask(two)
    assert one.peers.connections()[0]["late_answers"] == 0


async def test_a_handler_that_cancels_itself_is_a_failure(nodes):
    async def give_up(call, args):
        raise asyncio.CancelledError

    one, two = await nodes.start(), await nodes.start(Service(give_up=give_up))
    with pytest.raises(errors.ServiceError) as caught:
        await one.ask(two, "give_up")
    assert caught.value.data["ran"] == "yes"
