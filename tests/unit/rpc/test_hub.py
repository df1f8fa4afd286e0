"""The hub over real sockets: who gets what, who is let in, and that nobody is held up."""

import asyncio
import os
import stat
from typing import cast

import pytest
import uvloop

from callboard.rpc import hub, hub_client, hub_frames

A, B = 1, 2


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


class Client(hub_client.HubClient):
    """A client that keeps what it got."""

    def __init__(self, file):
        super().__init__(file, lambda topic, body: self.got.append((topic, body)))
        self.got = []


class Net:
    """A hub and its clients."""

    def __init__(self, file):
        self.file = file
        self.hub = None
        self.made = []

    async def open(self):
        self.hub = hub.Hub()
        await self.hub.start()
        hub.write_address(self.file, self.hub.address)

    async def client(self, *topics):
        made = Client(self.file)
        for topic in topics:
            made.want(topic)
        self.made.append(made)
        await made.start()
        return made

    async def close(self):
        for made in self.made:
            await made.stop()
        if self.hub is not None:
            await self.hub.stop()


@pytest.fixture
async def net(tmp_path):
    made = Net(tmp_path / hub.FILE)
    await made.open()
    yield made
    await made.close()


async def test_what_one_publishes_reaches_every_other_one_that_wants_it(net):
    one, two, three, sender = await net.client(A), await net.client(A, B), await net.client(B), await net.client(A)
    await until(lambda: sender.wanted == {A, B})
    sender.publish(A, b"a")
    sender.publish(B, b"b")
    await until(lambda: one.got and len(two.got) == 2 and three.got)
    assert (one.got, two.got, three.got, sender.got) == ([(A, b"a")], [(A, b"a"), (B, b"b")], [(B, b"b")], [])


async def test_order_is_kept(net):
    listener, sender = await net.client(A), await net.client()
    await until(lambda: sender.wanted)
    for number in range(500):
        sender.publish(A, str(number).encode())
    await until(lambda: len(listener.got) == 500)
    assert [int(body) for _, body in listener.got] == list(range(500))


async def test_everybody_knows_what_others_want(net):
    one, two = await net.client(), await net.client()
    assert one.wanted == two.wanted == frozenset()
    one.want(B)
    await until(lambda: two.wanted == {B})
    assert one.wanted == frozenset()
    two.want(B)
    await until(lambda: one.wanted == {B})
    one.want(B, False)
    await until(lambda: two.wanted == frozenset())
    await two.stop()
    await until(lambda: one.wanted == frozenset())


async def test_a_client_is_told_when_others_want_something_else(net):
    told = []
    made = hub_client.HubClient(net.file, lambda topic, body: None, lambda: told.append(made.wanted))
    net.made.append(made)
    await made.start()
    one = await net.client(A)
    await until(lambda: told == [{A}])
    one.want(B)
    await until(lambda: told == [{A}, {A, B}])
    await net.hub.stop()
    await until(lambda: told == [{A}, {A, B}, frozenset()])


async def test_nothing_is_sent_that_nobody_wants(net):
    one, sender = await net.client(), await net.client()
    sender.publish(A, b"lost")
    one.want(A)
    await until(lambda: sender.wanted == {A})
    sender.publish(A, b"got")
    await until(lambda: one.got)
    assert one.got == [(A, b"got")]


def test_publishing_goes_on_in_the_moment_in_which_the_hub_is_lost(tmp_path):
    """On the loop of production, whose transports raise once they are closed."""

    async def talk():
        net = Net(tmp_path / hub.FILE)
        await net.open()
        try:
            _, sender = await net.client(A), await net.client()
            await until(lambda: sender.wanted)
            ending = asyncio.create_task(net.hub.stop())
            while sender.connected:  # In every turn of the loop: one of them lies between the loss and its being noticed.
                sender.publish(A, b"x")
                await asyncio.sleep(0)
            await ending
        finally:
            await net.close()

    uvloop.run(talk())


async def test_who_does_not_know_the_secret_is_sent_away(net, tmp_path):
    wrong = hub.Address(**{**_fields(net.hub.address), "secret": "guess"})
    hub.write_address(tmp_path / "wrong.json", wrong)
    stranger = hub_client.HubClient(tmp_path / "wrong.json", lambda topic, body: None)
    await stranger.start()
    assert not stranger.connected
    await stranger.stop()


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", hub_frames.encode(hub_frames.Publish(A, b"x")), hub_frames.encode(hub_frames.Hello("x" * 2000))],
)
async def test_a_stranger_is_sent_away_and_reaches_nobody(net, said):
    listener = await net.client(A)
    reader, writer = await asyncio.open_connection(net.hub.address.host, net.hub.address.port)
    writer.write(said)
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionError):
            if await reader.read() == b"":
                raise ConnectionError
    writer.close()
    assert listener.connected and listener.got == []


async def test_one_that_does_not_read_loses_messages_and_holds_up_nobody(net):
    address = net.hub.address
    _, stuck = await asyncio.open_connection(address.host, address.port, limit=1)
    stuck.write(hub_frames.encode(hub_frames.Hello(address.secret, (A,))))
    cast(asyncio.Transport, stuck.transport).pause_reading()
    listener, sender = await net.client(A), await net.client()
    await until(lambda: A in sender.wanted)
    body = bytes(64 * 1024)
    for number in range(200):
        sender.publish(A, body)
        await until(lambda number=number: len(listener.got) == number + 1)
    waiting = max(one._transport.get_write_buffer_size() for one in net.hub._clients)
    assert waiting <= hub.BACKLOG_BYTES + 2 * len(body)
    stuck.transport.abort()


async def test_without_a_hub_a_client_starts_and_finds_it_later(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_client, "LOOK_SECONDS", 0.01)
    net = Net(tmp_path / hub.FILE)
    early = await net.client(A)
    assert not early.connected
    early.publish(A, b"lost")
    await net.open()
    await until(lambda: early.connected)
    await net.close()


async def test_clients_move_to_the_next_hub_and_want_what_they_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_client, "LOOK_SECONDS", 0.01)
    net = Net(tmp_path / hub.FILE)
    await net.open()
    listener, sender = await net.client(A), await net.client()
    await until(lambda: sender.wanted)
    await net.hub.stop()
    await until(lambda: not sender.connected and not listener.connected)
    assert sender.wanted == frozenset()
    await net.open()
    await until(lambda: sender.wanted == {A})
    sender.publish(A, b"again")
    await until(lambda: listener.got == [(A, b"again")])
    await net.close()


async def test_the_address_file_is_private(net):
    assert stat.S_IMODE(net.file.stat().st_mode) == 0o600
    found = hub.read_address(net.file)
    assert found == net.hub.address and found.pid == os.getpid() and found.host == "127.0.0.1"
    assert len(found.secret) >= 32


async def test_each_hub_has_its_own_secret():
    assert hub.Hub().secret != hub.Hub().secret


def test_an_address_that_makes_no_sense_is_none(tmp_path):
    assert hub.read_address(tmp_path / "absent") is None
    (tmp_path / "bad").write_bytes(b"{}")
    assert hub.read_address(tmp_path / "bad") is None


async def test_stop_may_come_twice_and_before_start(tmp_path):
    made = hub_client.HubClient(tmp_path / hub.FILE, lambda topic, body: None)
    await made.stop()
    await made.stop()
    served = hub.Hub()
    await served.start()
    await served.stop()
    await served.stop()


def _fields(address):
    return {name: getattr(address, name) for name in ("host", "port", "secret", "pid")}
