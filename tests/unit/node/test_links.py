"""Hubs of several servers, linked over mutual TLS: who hears what, how often, and that nobody is held up by another."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callboard import errors, settings
from callboard.coordination import engine
from callboard.coordination.engines import memory
from callboard.jobs import hints, hub_hints
from callboard.kit import clock
from callboard.names import model
from callboard.node import layout, links
from callboard.rpc import certs, hub, network, peers, serving, sockets

Until = Callable[..., Awaitable[None]]
READY = hints.Hint(ready=(("main", "images"),))
LATER = hints.Hint(ready=(("main", "letters"),))
MAIN = "main"


class Process(hub_hints.HubHints):
    """A process of a server, which keeps what it hears from others and from itself."""

    def __init__(self, file: Path, listens: bool) -> None:
        super().__init__(file)
        self.got: list[hints.Hint] = []
        if listens:
            self.listen(self.got.append)

    @property
    def ready_queues(self) -> list[str]:
        return [queue for hint in self.got for _, queue in hint.ready]


class Server:
    """An agent's hub and links, and the processes there."""

    def __init__(self, certificates: Path, name: str, incarnation: str) -> None:
        self.name, self.incarnation = name, incarnation
        self.directory = certificates / name
        self._open = contextlib.AsyncExitStack()
        flags = {"data": str(self.directory), "wire.server": name, "wire.certificates": str(certificates)}
        self.settings = settings.load(flags=flags)

    async def start(self, site: memory.Site) -> None:
        place = layout.Layout(self.directory)
        place.prepare()
        opened = memory.MemoryEngine(site, session_seconds=30)
        self._open.push_async_callback(opened.close)
        served = hub.Hub()
        await served.start()
        self._open.push_async_callback(served.stop)
        hub.write_address(place.hub, served.address)
        self.session = await opened.session(f"agent-{self.incarnation}")
        self._open.push_async_callback(self.session.close)
        self.links = links.Links(self.settings, self.session, clock.SystemClock())
        await self.links.start()
        self._open.push_async_callback(self.links.stop)
        await self.declare(self.links.address)

    async def declare(self, address: network.Address) -> None:
        """Say in coordination where an agent is reached."""
        said = {"agent": address.incarnation, "host": address.host, "port": address.port, "server": address.server}
        body = msgspec.json.encode(model.ServerFacts(**said))
        await self.session.apply([engine.Create(f"{model.SERVERS}/{address.incarnation}", body)])

    async def process(self, *, listens: bool = True) -> Process:
        made = Process(layout.Layout(self.directory).hub, listens)
        await made.start()
        self._open.push_async_callback(made.stop)
        return made

    async def stop(self) -> None:
        await self._open.aclose()


class World:
    """Servers of one site."""

    def __init__(self, directory: Path, eventually: Until) -> None:
        self.site = memory.Site()
        self.directory = directory
        self.until = eventually
        self._open = contextlib.AsyncExitStack()
        self._made = 0
        certs.init(directory)

    def server(self, name: str) -> Server:
        if not certs.files(self.directory, name)[0].exists():
            certs.issue(self.directory, name)
        self._made += 1
        return Server(self.directory, name, f"{self._made:032x}")

    async def start(self, *names: str) -> list[Server]:
        """Start servers and wait until all are linked."""
        made = [self.server(name) for name in names]
        for each in made:
            self._open.push_async_callback(each.stop)
            await each.start(self.site)
        await self.linked(*made)
        return made

    async def linked(self, *servers: Server) -> None:
        everybody = {each.incarnation for each in servers}
        await self.until(lambda: all(each.links.linked >= everybody - {each.incarnation} for each in servers))

    async def reach(self, sender: Process, listener: Process) -> None:
        """Wait until hints of one process come to another one."""

        async def heard() -> bool:
            sender.publish(hints.Hint(ready=(("main", "trial"),)))
            return "trial" in listener.ready_queues

        await self.until(heard)

    async def close(self) -> None:
        await self._open.aclose()


@pytest.fixture
async def world(tmp_path: Path, eventually: Until) -> AsyncIterator[World]:
    made = World(tmp_path, eventually)
    yield made
    await made.close()


async def settled(world: World, sender: Process, *listeners: Process) -> None:
    """Have all that was said until now be heard: what comes over one connection keeps its order."""
    sender.publish(LATER)
    await world.until(lambda: all("letters" in each.ready_queues for each in listeners))


async def test_what_is_said_at_one_server_is_heard_once_at_each_other_one_and_never_comes_back(world: World) -> None:
    one, two, three = await world.start("one", "two", "three")
    sender, beside = await one.process(), await one.process()
    there = [await two.process(), await three.process(), await three.process()]
    for each in (beside, *there):
        await world.reach(sender, each)
    sender.publish(READY)
    await settled(world, sender, beside, *there)
    assert [each.ready_queues.count("images") for each in (sender, beside, *there)] == [1] * 5
    assert two.links.sent == three.links.sent == 0 and two.links.heard == three.links.heard == one.links.sent / 2


async def test_a_thousand_submissions_are_a_few_notices_that_say_all_of_it(world: World) -> None:
    one, two = await world.start("one", "two")
    sender, listener = await one.process(), await two.process()
    await world.reach(sender, listener)
    before, began = one.links.sent, asyncio.get_running_loop().time()
    for number in range(1000):
        sender.publish(hints.Hint(ready=(("main", f"q{number % 50}"),), cancelled=((b"n", "main", number.to_bytes(2)),)))
        await asyncio.sleep(0)
    await world.until(lambda: sum(len(hint.cancelled) for hint in listener.got) == 1000)
    windows = (asyncio.get_running_loop().time() - began) / links.WINDOW_SECONDS
    assert set(listener.ready_queues) >= {f"q{number}" for number in range(50)}
    assert [int.from_bytes(id) for hint in listener.got for _, _, id in hint.cancelled] == list(range(1000))
    assert 1 <= one.links.sent - before <= windows + 2
    assert two.links.heard - one.links.sent == 0 and two.links.sent == 0


async def test_what_comes_after_a_rest_goes_at_once_and_what_follows_soon_together(eventually: Until, monkeypatch: Any) -> None:
    monkeypatch.setattr(links, "WINDOW_SECONDS", 0.5)
    sent: list[bytes] = []
    flow = links.Flow(sent.append)
    said = [msgspec.msgpack.encode(hints.Hint(ready=(("main", name),))) for name in "abcd"]
    flow.add(said[0])
    assert sent == [said[0]]
    for body in said[1:3]:
        flow.add(body)
    assert len(sent) == 1
    await eventually(lambda: len(sent) == 2)
    assert msgspec.msgpack.decode(sent[1], type=hints.Hint).ready == (("main", "b"), ("main", "c"))
    rested = asyncio.get_running_loop().time() + links.WINDOW_SECONDS
    await eventually(lambda: asyncio.get_running_loop().time() > rested)
    flow.add(said[3])
    assert sent[2:] == [said[3]]
    flow.add(said[0])
    flow.close()
    flow.add(b"\xc1")
    assert len(sent) == 3


async def test_finished_jobs_go_only_where_somebody_waits(world: World) -> None:
    one, two, three = await world.start("one", "two", "three")
    worker, waiter, other = await one.process(), await two.process(), await three.process()
    assert not worker.awaited and not worker.waiting
    stop = waiter.await_finished()
    assert waiter.waiting
    await world.until(lambda: worker.awaited and other.awaited)
    assert not worker.waiting, "others wait, and none of them has heard that this one does"
    await world.reach(worker, other)
    await settled(world, worker, other)
    heard = three.links.heard
    worker.publish(hints.Hint(finished=(b"1" * 16,)))
    await world.until(lambda: hints.Hint(finished=(b"1" * 16,)) in waiter.got)
    assert three.links.heard == heard
    stop()


async def test_nobody_waits_any_more_when_the_server_that_did_is_gone(world: World) -> None:
    one, two = await world.start("one", "two")
    worker, waiter = await one.process(), await two.process()
    waiter.await_finished()
    await world.until(lambda: worker.awaited)
    await two.stop()
    await world.until(lambda: not worker.awaited and not one.links.linked)


async def test_while_coordination_is_away_links_go_on_and_a_lost_one_is_made_again(world: World) -> None:
    one, two = await world.start("one", "two")
    sender, listener = await one.process(), await two.process()
    await world.reach(sender, listener)
    world.site.stop()
    for each in tuple(one.links._peers._all):
        each.close("the test cut it")
    assert not one.links._peers.connections()
    listener.got.clear()
    await world.reach(sender, listener)
    world.site.resume()


async def test_the_next_agent_of_a_server_is_found(world: World) -> None:
    one, two = await world.start("one", "two")
    sender = await one.process()
    await two.stop()
    (again,) = await world.start("two")
    await world.linked(one, again)
    await world.reach(sender, await again.process())
    assert one.links.linked == {again.incarnation}
    assert [each.incarnation for each in one.links._remotes] == [again.incarnation], "the dead one is dialled no more"


async def test_a_server_that_answers_nothing_holds_nobody_up(world: World) -> None:
    one, two = await world.start("one", "two")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        await one.declare(network.Address("f" * 32, host, port, "three"))
        await world.until(lambda: len(one.links._remotes) == 2)
        sender, listener = await one.process(), await two.process()
        await world.reach(sender, listener)
        assert one.links.linked == {two.incarnation} and one.links.dropped == 0


class Elsewhere:
    """A server whose agent runs in a thread of its own, and can be frozen: nothing of it moves or reads then."""

    def __init__(self, server: Server, other: network.Address, until: Until) -> None:
        self.server = server
        self._other = other
        self._until = until
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._go = threading.Event()

    async def start(self) -> None:
        async def begin() -> None:
            await self.server.start(memory.Site())
            await self.server.declare(self._other)
            await self.server.process()

        await self._there(begin())

    def freeze(self) -> None:
        self._loop.call_soon_threadsafe(self._go.wait)

    async def stop(self) -> None:
        async def end() -> None:
            listener = self.server.links._peers._listener
            await self.server.stop()
            await self._until(lambda: no_sockets(listener))

        self._go.set()
        await self._there(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _there(self, task: Awaitable[None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(task, self._loop))  # type: ignore[arg-type]


async def test_a_frozen_server_loses_hints_and_holds_nobody_up(world: World) -> None:
    one, two = await world.start("one", "two")
    frozen = Elsewhere(world.server("frozen"), one.links.address, world.until)
    await frozen.start()
    try:
        await one.declare(frozen.server.links.address)
        await world.linked(one, frozen.server)
        sender, listener = await one.process(), await two.process()
        await world.reach(sender, listener)
        frozen.freeze()
        wide = "q" * 900_000  # What the sockets take is gone long before a silent server is given up.
        for number in range(40):
            if one.links.dropped:
                break
            sender.publish(hints.Hint(ready=(("main", f"{wide}{number}"),)))
            await world.until(lambda number=number: f"{wide}{number}" in listener.ready_queues)
        assert one.links.dropped
        out = next(each.out for each in one.links._peers._all if each.peer.incarnation == frozen.server.incarnation)
        assert out.waiting_bytes <= links.BACKLOG_BYTES
        await world.until(lambda: one.links.linked == {two.incarnation}, 20)
    finally:
        await frozen.stop()


NEWS_HERE = f"{links.LABEL}.{hub_hints.NEWS}"


class Stranger:
    """Somebody with a wire of its own, who asks for the news and keeps what it hears."""

    def __init__(self, certificates: Path | None) -> None:
        tls = None
        if certificates is not None:
            made = certs.issue(certificates, "stranger")
            tls = sockets.Tls.load(certs.files(certificates, certs.AUTHORITY)[0], made.certificate, made.key)
        me = peers.Identity("callboard", MAIN, "e" * 32)
        table = serving.Table(me.incarnation)
        known = {"clock": clock.SystemClock(), "secret": b"", "secret_of": lambda _address: b"", "server": "stranger"}
        self.wire = peers.Peers(me, sockets.Sockets(tls), table, **known)
        self.heard: list[bytes] = []
        self.wire.listen(NEWS_HERE, lambda _who, body: self.heard.append(body))

    async def ask(self, one: Server, topics: bytes = msgspec.msgpack.encode([hub_hints.NEWS])) -> None:
        address = one.links.address
        await self.wire.request(address, label=links.LABEL, domain=MAIN, method="want", args=topics, timeout=5)


@pytest.fixture
async def strangers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callable[[str, World], Awaitable[Stranger]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(cluster: str, world: World) -> Stranger:
            place = world.directory if cluster == "this" else tmp_path_factory.mktemp(cluster)
            if cluster == "another":
                certs.init(place)
            made = Stranger(None if cluster == "none" else place)
            await made.wire.start()
            stack.push_async_callback(made.wire.stop)
            return made

        yield start


def no_sockets(listener: Any) -> bool:
    """Whether nobody is connected to a port, not even somebody in the midst of being refused."""
    listening = listener._server
    return not getattr(listening, "_active_count", 0) and not getattr(listening, "_clients", ())


@pytest.mark.parametrize("cluster", ["none", "another"])
async def test_who_has_no_certificate_of_this_cluster_hears_nothing(world: World, strangers: Any, cluster: str) -> None:
    (one,) = await world.start("one")
    stranger = await strangers(cluster, world)
    with pytest.raises((errors.Unreachable, errors.WrongCertificate)):
        await stranger.ask(one)
    assert not one.links.linked and not one.links._peers.connections()
    await world.until(lambda: no_sockets(one.links._peers._listener))


async def test_an_entry_in_coordination_is_no_certificate(world: World, strangers: Any) -> None:
    (one,) = await world.start("one")
    stranger = await strangers("another", world)
    await one.declare(stranger.wire.address)
    await world.until(lambda: one.links._remotes)
    with pytest.raises((errors.Unreachable, errors.WrongCertificate)):
        await one.links._tell(stranger.wire.address)
    assert not one.links._peers.connections() and not stranger.wire.connections()
    await world.until(lambda: no_sockets(one.links._peers._listener))


async def test_who_has_one_hears_and_is_told_when_it_asks_for_nonsense(world: World, strangers: Any) -> None:
    (one,) = await world.start("one")
    member, sender = await strangers("this", world), await one.process()
    await member.ask(one)
    await world.until(lambda: hub_hints.NEWS in sender._client.wanted)
    sender.publish(READY)
    await world.until(lambda: member.heard)
    with pytest.raises(errors.InvalidInput, match="numbers"):
        await member.ask(one, b"\xc1")


async def test_a_stop_may_come_twice_and_before_the_start(world: World) -> None:
    (one,) = await world.start("one")
    other = links.Links(one.settings, one.session, clock.SystemClock())
    await other.stop()
    await one.links.stop()
    await one.links.stop()
