"""A process of simulated nodes for `servers_view`: real wires, real coordination, and nothing behind them.

One session in coordination declares all nodes of a process, as what is measured does not pass through the nodes' own. With
`leads`, a site controller stands beside the first. Each line on standard input is answered by one with what was seen until then.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any, Final

import msgspec
import uvloop

from callboard.app import exposure
from callboard.cluster import view
from callboard.coordination import engines, presence
from callboard.kit import clock, grammar, telemetry, uuid7
from callboard.names import groups, model
from callboard.node import viewing
from callboard.roles import offices, site_controller
from callboard.rpc import network, peers, serving, sockets

SITE: Final = "bench"
PROBE: Final = "probe"
"""The entry in the folder of servers that is changed to see how long that takes to reach everybody."""
SECRET: Final = b"bench"


class Task(msgspec.Struct, frozen=True):
    """What one process is."""

    coordination: str
    nodes: int
    leads: bool


class Said(msgspec.Struct, frozen=True):
    """What one process answers."""

    cpu_seconds: float
    sent_bytes: int
    """By its nodes, over their wires."""
    knows: list[int]
    """How many nodes each of its nodes sees."""
    seen: list[list[tuple[int, float]]]
    """Of each of its nodes: what the probe said, and when the node knew it, on the machine's monotonic clock."""


class CountedLink:
    """A link that counts what is sent over it."""

    def __init__(self, link: network.Link, count: Counted) -> None:
        self._link = link
        self._count = count

    @property
    def peer_server(self) -> str:
        return self._link.peer_server

    def send(self, message: bytes) -> None:
        self._count.sent += len(message)
        self._link.send(message)

    def close(self) -> None:
        self._link.close()


class CountedReceiver:
    """A receiver whose link counts."""

    def __init__(self, receiver: network.Receiver, count: Counted) -> None:
        self._receiver = receiver
        self._count = count
        self.received = receiver.received
        self.paused = receiver.paused
        self.resumed = receiver.resumed
        self.closed = receiver.closed

    def connected(self, link: network.Link) -> None:
        self._receiver.connected(CountedLink(link, self._count))


class Counted:
    """A `rpc.network.Network` that counts the bytes of messages sent."""

    def __init__(self, real: network.Network) -> None:
        self.sent = 0
        self._real = real

    async def listen(self, host: str, port: int, accept: network.Accept) -> network.Listener:
        return await self._real.listen(host, port, lambda: CountedReceiver(accept(), self))

    async def dial(self, address: network.Address, receiver: network.Receiver) -> None:
        await self._real.dial(address, CountedReceiver(receiver, self))


class Crowd:
    """The nodes of this process."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._clock = clock.SystemClock()
        self._network = Counted(sockets.Sockets(None))
        self._nodes: list[viewing.Viewing] = []
        self._seen: list[list[tuple[int, float]]] = []
        self._watching: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        opened = engines.open(self._task.coordination, session_seconds=10.0)
        session = await opened.session(f"node-{uuid7.make(self._clock.now()).hex()}")
        declared = presence.Presence(session, self._clock)
        await declared.start()
        for number in range(self._task.nodes):
            await self._node(declared, leads=self._task.leads and number == 0)

    async def _node(self, declared: presence.Presence, *, leads: bool) -> None:
        incarnation = declared.incarnation if leads else uuid7.make(self._clock.now()).hex()
        wire = peers.Peers(
            peers.Identity("bench", SITE, incarnation),
            self._network,
            serving.Table(incarnation),
            clock=self._clock,
            secret=SECRET,
            secret_of=lambda address: SECRET,
        )
        made = viewing.Viewing(wire)
        await made.start()
        await wire.start()
        self._nodes.append(made)
        self._seen.append([])
        self._watching.append(asyncio.create_task(self._watch(made, self._seen[-1])))
        offers = [model.Offer("worker", "role", "all", "bench")]
        if leads:
            offers.append(await self._lead(declared, wire))
        here = wire.address
        facts = model.NodeFacts(incarnation=incarnation, host=here.host, port=here.port, site=SITE, offers=tuple(offers))
        await declared.declare(f"{model.NODES}/{incarnation}", msgspec.json.encode(facts))

    async def _lead(self, declared: presence.Presence, wire: peers.Peers) -> model.Offer:
        candidacy = offices.Candidacy(
            presence=declared,
            groups=groups.Groups({SITE: (grammar.ROOT_DOMAIN,)}),
            stands_for=(SITE,),
            order=0,
            preempt=False,
            address=lambda: wire.address,
            site=SITE,
        )
        made = site_controller.SiteController(declared.session, wire, candidacy, self._clock)
        await made.start()
        wire.table.add(made)
        return exposure.role_offer(made, active="one")

    async def _watch(self, node: viewing.Viewing, seen: list[tuple[int, float]]) -> None:
        version, stale = view.NOTHING.version, view.NOTHING.stale
        while True:
            now = await node.watched.after(version, stale)
            version, stale = now.version, now.stale
            probe = now.servers.get(PROBE)
            if probe is not None:
                seen.append((int(probe.software), time.monotonic()))

    def said(self) -> Said:
        times = os.times()
        knows = [len(node.watched.view.nodes) for node in self._nodes]
        return Said(times.user + times.system, self._network.sent, knows, self._seen)


async def _serve(task: Task) -> None:
    crowd = Crowd(task)
    await crowd.open()
    answer = msgspec.json.Encoder().encode
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        os.write(1, answer(crowd.said()) + b"\n")


def main(text: str) -> Any:
    """Run until standard input ends."""
    telemetry.configure("error", "text")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(msgspec.json.decode(text, type=Task)))


if __name__ == "__main__":
    main(sys.argv[1])
