"""Links to what does not behave like a broker: silent, talking nonsense, full, gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from callboard import errors
from callboard.brokers import address, frames, link, wire

CONNECTED = b"CONNECTED\nversion:1.2\nheart-beat:1000,1000\nserver:Fake/1\n\n\0\n"


class Told:
    """Remembers what a link told."""

    def __init__(self):
        self.messages = []
        self.refusals = []
        self.losses = []

    def received(self, messages):
        self.messages += messages

    def refused(self, subscription, error):
        self.refusals.append((subscription, error))

    def lost(self, why):
        self.losses.append(why)


class Peer:
    """Answers `greeting` to the first frame, and lets a test say more."""

    def __init__(self, greeting=CONNECTED):
        self.greeting = greeting
        self.heard = b""
        self.writers = []

    async def __call__(self, reader, writer):
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            self.heard += await reader.readuntil(b"\0")
            if self.greeting is None:
                writer.close()
                return
            writer.write(self.greeting)
            while part := await reader.read(65536):
                self.heard += part
        writer.close()

    @property
    def writer(self):
        return self.writers[-1]

    def hang_up(self):
        for writer in self.writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def listening(peer):
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        peer.hang_up()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def linked(peer, **more):
    told = Told()
    async with listening(peer) as host:
        made = link.Link(address.Address(hosts=(host,), **more), told)
        await made.open(5)
        try:
            yield made, told
        finally:
            peer.hang_up()
            await made.close()


async def failure(peer, seconds=5.0, **more):
    async with listening(peer) as host:
        made = link.Link(address.Address(hosts=(host,), **more), Told())
        with pytest.raises(errors.BrokerError) as raised:
            await made.open(seconds)
        assert not made.alive
        await made.close()
    assert "\n" not in raised.value.message
    return raised.value


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\1\x46\1ActiveMQ\0\0", b"220 mail.example ESMTP\r\n"]
)
async def test_what_speaks_something_else(greeting):
    error = await failure(Peer(greeting))
    assert "does not speak STOMP" in error.message


async def test_what_says_nothing():
    error = await failure(Peer(b""), seconds=0.2)
    assert isinstance(error, errors.BrokerUnavailable) and "accepts connections but says nothing" in error.message


async def test_what_hangs_up():
    error = await failure(Peer(None))
    assert isinstance(error, errors.BrokerUnavailable) and "?tls=true" in error.message


async def test_a_login_that_is_refused_names_the_user_and_not_the_password():
    peer = Peer(b"ERROR\nmessage:User name [u] or password is invalid.\n\njava.lang.SecurityException\n\0")
    error = await failure(peer, user="u", password="secret")
    assert isinstance(error, errors.BrokerRefused) and "the user u" in error.message and "secret" not in error.message
    assert b"login:u\n" in peer.heard and b"passcode:secret\n" in peer.heard


async def test_nobody_there_and_a_name_that_leads_nowhere():
    async with listening(Peer()) as host:
        pass
    for nowhere in (host, ("no-such-host.invalid", 61613)):
        with pytest.raises(errors.BrokerUnavailable, match="out of reach"):
            await link.Link(address.Address(hosts=(nowhere,)), Told()).open(5)


async def test_the_next_host_is_taken_and_stays_the_first():
    down, up = Peer(b""), Peer()
    async with listening(down) as frozen, listening(up) as serving:
        given = address.Address(hosts=(frozen, serving))
        first = link.Link(given, Told())
        await first.open(0.6)
        assert first.host == serving and first.greeting["server"] == "Fake/1"
        second = link.Link(given, Told(), first=first.host)
        await second.open(5)
        assert second.host == serving and len(down.writers) == 1
        up.hang_up()
        for made in (first, second):
            await made.close()


async def test_silence_ends_a_link(monkeypatch, eventually):
    monkeypatch.setattr(wire, "TICK_SECONDS", 0.01)
    async with linked(Peer()) as (made, told):
        await eventually(lambda: told.losses)
        assert "has said nothing" in told.losses[0] and not made.alive


async def test_a_broker_that_promised_no_heartbeat_may_be_silent(monkeypatch, eventually):
    monkeypatch.setattr(wire, "TICK_SECONDS", 0.005)
    peer = Peer(CONNECTED.replace(b"1000,1000", b"0,1000"))
    async with linked(peer) as (made, told):
        heard = len(peer.heard)
        await eventually(lambda: len(peer.heard) > heard + 2)
        assert not told.losses and made.alive
        assert set(peer.heard[heard:]) == {ord("\n")}


async def test_nonsense_between_frames_is_let_be_and_a_flood_of_it_is_not(eventually):
    peer = Peer()
    async with linked(peer) as (made, told):
        peer.writer.write(b"what is this\0" * 10 + b"MESSAGE\nsubscription:1\nmessage-id:a\nack:b\nredelivered:true\n\nbody\0")
        await eventually(lambda: told.messages)
        assert (told.messages[0].id, told.messages[0].body, told.messages[0].redelivered) == ("a", b"body", True)
        peer.writer.write(b"what is this\0" * 2_000)
        await eventually(lambda: told.losses)
        assert "no STOMP" in told.losses[0] and not made.alive


async def test_a_frame_after_which_nothing_can_be_told_ends_the_link(eventually, monkeypatch):
    monkeypatch.setattr(frames, "READABLE_HEAD_BYTES", 1_000)
    peer = Peer()
    async with linked(peer) as (_, told):
        peer.writer.write(b"MESSAGE\n" + b"a:b\n" * 1_000)
        await eventually(lambda: told.losses)
        assert "headers take more" in told.losses[0]


async def test_a_message_without_what_acknowledges_it_is_said_and_not_handed_on(eventually, caplog):
    peer = Peer()
    async with linked(peer) as (_, told):
        peer.writer.write(b"MESSAGE\nsubscription:1\nmessage-id:7\n\nbody\0" * 3 + b"MESSAGE\nack:1\n\nbody\0")
        await eventually(lambda: told.messages)
        assert [message.ack for message in told.messages] == ["1"]
        assert caplog.text.count("cannot be acknowledged") == 1


async def test_a_message_that_is_too_long_tells_so_and_is_refused(eventually):
    peer = Peer()
    async with linked(peer) as (made, told):
        peer.writer.write(b"MESSAGE\nack:7\nsubscription:1\n\n" + b"x" * (link.MOST_BYTES + 1) + b"\0")
        await eventually(lambda: told.messages)
        (message,) = told.messages
        assert message.dropped > link.MOST_BYTES and message.body == b""
        await made.dead_letter(message, "too long", made)
        await eventually(lambda: b"NACK\nid:7\n\n\0" in peer.heard)


async def test_a_receipt_that_does_not_come_and_a_connection_that_breaks_meanwhile():
    peer = Peer()
    async with linked(peer) as (made, told):
        with pytest.raises(errors.BrokerUnavailable, match="StorePercentUsage") as raised:
            await made.send("shop", b"x", seconds=0.05)
        assert raised.value.data == {"unknown": True, "destination": "shop"} and made.alive
        waiting = asyncio.create_task(made.send("shop", b"x"))
        await asyncio.sleep(0)
        peer.hang_up()
        with pytest.raises(errors.BrokerUnavailable, match="the connection to the message broker broke") as raised:
            await waiting
        assert raised.value.data["unknown"] and len(told.losses) == 1
        with pytest.raises(errors.BrokerUnavailable, match="no connection"):
            await made.send("shop", b"x")
        with pytest.raises(errors.BrokerUnavailable, match="no connection"):
            made.subscribe("shop", 1)
        made.unsubscribe("1")
        made.ack([])


async def test_a_broker_that_does_not_read_holds_senders_back():
    peer = Peer()
    async with linked(peer) as (made, _):
        peer.writer.transport.pause_reading()
        with pytest.raises(errors.BrokerUnavailable):
            for _ in range(100):
                await made.send("shop", b"x" * 1_000_000, seconds=0.02)
                pytest.fail("nobody confirmed it")
        sends = [made.send("shop", b"x" * 1_000_000, seconds=0.1) for _ in range(20)]
        ends = await asyncio.gather(*sends, return_exceptions=True)
        assert all(isinstance(each, errors.BrokerUnavailable) for each in ends)
        assert made._wire._transport.get_write_buffer_size() < 25_000_000


async def test_complaints_about_nothing_are_logged_once_and_end_nothing(caplog, eventually):
    peer = Peer()
    async with linked(peer) as (made, told):
        with caplog.at_level(logging.WARNING):
            peer.writer.write(b"ERROR\nmessage:Unexpected ACK\n\n\0" * 3 + b"MESSAGE\nack:1\n\n\0")
            await eventually(lambda: told.messages)
        assert made.alive and [record.getMessage().count("Unexpected ACK") for record in caplog.records] == [1]
        peer.hang_up()
        await eventually(lambda: told.losses)
        assert told.losses[0].endswith("it said Unexpected ACK")


async def test_headers_cannot_smuggle_frames():
    peer = Peer()
    async with linked(peer) as (made, _):
        with pytest.raises(errors.BrokerUnavailable):
            await made.send("shop", b"x", {"a": "b\n\n\0SEND\ndestination:other"}, seconds=0.1)
        assert peer.heard.count(b"\0") == 2 and peer.heard.count(b"\ndestination:") == 1


async def test_what_is_sent_is_a_text_unless_it_cannot_be_one():
    peer = Peer()
    async with linked(peer) as (made, _):
        for body in (b"text", b"with\0nul", b"\xff"):
            with pytest.raises(errors.BrokerUnavailable):
                await made.send("shop", body, seconds=0.05)
    sent = peer.heard.split(b"SEND\n")[1:]
    assert [b"content-length" in each for each in sent] == [False, True, True]
