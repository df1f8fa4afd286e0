"""Nodes on loopback for tests of the wire: real ones (`Node`), and strangers that say whatever a test wants."""

import asyncio
import contextlib

import msgspec

from callboard.kit import clock
from callboard.rpc import frames, handshake, network, peers, serving, sockets

SECRET = b"of the tests"
CLUSTER = "test"


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def incarnation(number):
    return f"{number:032x}"


class Service:
    """A label whose methods are plain async functions `(call, args) -> bytes`."""

    def __init__(self, label="echo", epoch=0, **methods):
        self.label = label
        self.epoch = epoch
        self.methods = {name: serving.Method(name, run) for name, run in methods.items()}

    def admit(self, domain, epoch):
        return self.epoch


async def echo(call, args):
    return args


class Hanging:
    """A method that runs until it is cancelled, and counts."""

    def __init__(self):
        self.begun = self.cancelled = 0

    async def __call__(self, call, args):
        self.begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Node:
    """A node: its peers, its table, and a way to ask others."""

    def __init__(self, number, *services, secret=SECRET, cluster=CLUSTER, net=None, secret_of=lambda _address: SECRET, **limits):
        self.incarnation = incarnation(number)
        self.table = serving.Table(self.incarnation)
        for service in services:
            self.table.add(service)
        identity = peers.Identity(cluster, "here", self.incarnation)
        self.peers = peers.Peers(
            identity,
            net or sockets.Sockets(),
            self.table,
            clock=clock.SystemClock(),
            secret=secret,
            secret_of=secret_of,
            limits=peers.Limits(**{"dial_seconds": 3.0, **limits}),
            chance=lambda: 0.5,
        )

    @property
    def address(self):
        return self.peers.address

    async def ask(self, other, method="echo", args=b"\x80", *, label="echo", timeout=5.0, **more):
        address = other if isinstance(other, network.Address) else other.address
        return await self.peers.request(address, label=label, domain="main", method=method, args=args, timeout=timeout, **more)


class Nodes:
    """Starts nodes, and stops what it started."""

    def __init__(self):
        self._started = contextlib.AsyncExitStack()
        self._last = 0

    async def start(self, *services, number=None, **how):
        self._last = number or self._last + 1
        node = Node(self._last, *services, **how)
        await node.peers.start()
        self._started.push_async_callback(node.peers.stop)
        return node

    async def stranger(self, script):
        """Open a port where `script(stranger, frames)` answers each message."""
        met = []

        def accept():
            met.append(Stranger(script))
            return met[-1]

        async def close():
            await listener.close()
            for stranger in met:
                await stranger.leave()

        listener = await sockets.Sockets().listen("127.0.0.1", 0, accept)
        self._started.push_async_callback(close)
        return network.Address(incarnation(0xBAD), "127.0.0.1", listener.port)

    async def stop(self):
        await self._started.aclose()


class Stranger:
    """A receiver that notes what comes and is closed; `script(self, frames)` may answer."""

    def __init__(self, script=None, opened=None):
        self.got = []
        self.why = None
        self._script = script
        self._opened = opened

    def connected(self, link):
        self.link = link
        self.dialled = handshake.Dialled(handshake.Identity(CLUSTER, "there", incarnation(0xBAD)), SECRET)
        if self._script is not None:
            self.say(self.dialled.opening())

    def received(self, message):
        came = frames.decode(message)
        self.got += came
        if self._script is not None:
            self._script(self, came)

    def paused(self):
        pass

    def resumed(self):
        pass

    def closed(self, why):
        self.why = why

    async def leave(self):
        if self.why is None:
            self.link._abort(self.link._transport)
            await until(lambda: self.why)
        await asyncio.sleep(0)

    def say(self, *said):
        self.link.send(frames.encode(said))

    def greet(self, came):
        """Let the other side in, when it greets; return the requests among what came."""
        for frame in came:
            if isinstance(frame, frames.Hello):
                self.say(self.dialled.heard(frame)[1])
        return [frame for frame in came if isinstance(frame, frames.Request)]


async def dial(node, *, greet=True, number=0xBAD, secret=SECRET, cluster=CLUSTER):
    """Dial a node as a stranger; with `greet`, be let in as a proper node would."""
    stranger = Stranger()
    await sockets.Sockets().dial(node.address, stranger)
    await until(lambda: stranger.got)
    if greet:
        me = handshake.Identity(cluster, "there", incarnation(number))
        dialling = handshake.Dialling(me, node.address, secret)
        stranger.say(dialling.heard(stranger.got[0])[1])
        await until(lambda: len(stranger.got) > 1)
    return stranger


def packed(value):
    return msgspec.msgpack.encode(value)
