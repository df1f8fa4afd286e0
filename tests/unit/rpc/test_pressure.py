"""Links that do not read, links that fall silent: bounded, noticed, and over in time."""

import asyncio

import pytest

from callboard import errors
from callboard.rpc import frames, network
from tests.unit.rpc import nodes as kit
from tests.unit.rpc.nodes import Service, echo, until


def stop_reading(stranger):
    stranger.link._transport.underlying_transport.pause_reading()


def read_again(stranger):
    stranger.link._transport.underlying_transport.resume_reading()


def only(node):
    (link,) = node.peers._all
    return link


async def test_requests_wait_for_a_node_that_does_not_read_and_are_bounded(nodes):
    met = []

    def script(stranger, came):
        for request in stranger.greet(came):
            if not met:
                stop_reading(stranger)
                met.append(stranger)
            stranger.say(frames.Reply(request.id, request.args[:1]))

    one = await nodes.start(queued_bytes=1 << 20, silent_seconds=60)
    address = await nodes.stranger(script)
    await one.ask(address)
    asked, refused, body = [], None, bytes(100_000)
    while refused is None and len(asked) < 1000:
        asked.append(asyncio.ensure_future(one.ask(address, args=body)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = next((each.exception() for each in asked if each.done()), None)
    assert isinstance(refused, errors.Overloaded) and refused.data["ran"] == "no"
    assert only(one).out.waiting_bytes <= 1 << 20
    read_again(met[0])
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers.count(b"\0") >= len(answers) - 2


async def test_what_was_never_sent_surely_did_not_run(nodes):
    met = []

    def script(stranger, came):
        if stranger.greet(came):
            stop_reading(stranger)
            met.append(stranger)
            stranger.say(frames.Reply(1, b""))

    one = await nodes.start(silent_seconds=60)
    address = await nodes.stranger(script)
    await one.ask(address)
    for _ in range(100):
        kept = asyncio.ensure_future(one.ask(address, args=bytes(1_000_000)))
        await asyncio.sleep(0.001)
        if only(one).out.waiting:
            break
        kept.cancel()
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await one.ask(address, args=b"\x01", timeout=0.02)
    assert caught.value.data["ran"] == "no"
    last = asyncio.ensure_future(one.ask(address, args=b"\x02"))
    await asyncio.sleep(0)
    assert not one.peers.notify(address.incarnation, "t", bytes(64 << 20))
    met[0].link._transport.underlying_transport.abort()
    for each in (kept, last):
        with pytest.raises(errors.ConnectionLost) as broken:
            await each
        assert broken.value.data["ran"] in ("no", "unknown")
    assert broken.value.data["ran"] == "no"


async def test_whoever_does_not_read_its_answers_is_sent_away(nodes):
    async def big(call, args):
        return bytes(100_000)

    two = await nodes.start(Service(big=big), queued_bytes=1 << 20, silent_seconds=60)
    stranger = await kit.dial(two)
    stop_reading(stranger)
    id = 0
    most = 0
    while two.peers._all and id < 1000:
        id += 1
        stranger.say(frames.Request(id, "echo", "main", "big", 0, 10**7, b""))
        await asyncio.sleep(0.001)
        most = max([most, *(link.out.waiting_bytes for link in two.peers._all)])
    assert id < 1000 and most <= (2 << 20) + 2 * 100_000
    await stranger.leave()


async def test_a_silent_node_is_given_up(nodes):
    def script(stranger, came):
        stranger.greet(came)

    one = await nodes.start(keepalive_seconds=0.02, silent_seconds=0.15)
    with pytest.raises(errors.ConnectionLost, match="nothing was heard"):
        await one.ask(await nodes.stranger(script))


async def test_idle_nodes_stay_connected(nodes):
    limits = {"keepalive_seconds": 0.02, "silent_seconds": 0.15}
    one, two = await nodes.start(**limits), await nodes.start(Service(echo=echo), **limits)
    await one.ask(two)
    link, begun = only(one), asyncio.get_running_loop().time()
    await until(lambda: asyncio.get_running_loop().time() > begun + 0.5)
    assert only(one) is link and link.usable


async def test_a_node_whose_loop_was_stuck_gives_up_nobody(nodes):
    one, two = await nodes.start(silent_seconds=0.5, keepalive_seconds=0.1), await nodes.start(Service(echo=echo))
    await one.ask(two)
    link = only(one)
    link._heard_at -= 5
    one.peers._timer.cancel()
    one.peers._tick(asyncio.get_running_loop().time() - 5)
    assert link.usable
    assert await one.ask(two) == b"\x80" and only(one) is link


async def test_a_dial_that_nobody_answers_ends_in_time(nodes):
    one = await nodes.start(dial_seconds=0.05)
    met = []
    mute = await asyncio.start_server(lambda reader, writer: met.append(writer), "127.0.0.1", 0)
    host, port = mute.sockets[0].getsockname()
    with pytest.raises(errors.Unreachable, match=r"within 0\.05 s"):
        await one.ask(network.Address(kit.incarnation(5), host, port))
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await one.ask(network.Address(kit.incarnation(6), host, port), timeout=0.01)
    assert caught.value.data["ran"] == "no"
    mute.close()
    for writer in met:
        writer.close()
        await writer.wait_closed()


async def test_requests_share_a_dial(nodes):
    one, two = await nodes.start(), await nodes.start(Service(echo=echo))
    answers = await asyncio.gather(*(one.ask(two) for _ in range(50)))
    assert answers == [b"\x80"] * 50 and len(one.peers._all) == len(two.peers._all) == 1
