"""The ends of a node that reach other nodes: its wire, its part in coordination, and how it finds names.

Put together for every node, whatever it hosts, and closed in the opposite order. No role is known here, and nothing here is
waited for that another process must do: without coordination, without a registry a node works on its own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callboard.coordination import presence
from callboard.kit import clock, lifecycle
from callboard.names import groups, resolver
from callboard.names import model as names
from callboard.node import joining, layout, neighbours, viewing
from callboard.rpc import certs, doors, network, peers, serving, sockets
from callboard.settings import WireSettings

PATIENCE_SECONDS: Final = 1.0
"""How long a node's start waits for coordination, so that what `callboard up` calls ready can be found by its name."""
PARTING_SECONDS: Final = 1.0
"""How long a node that stops waits until the others have said goodbye: a frozen one does not."""
SECRET_BYTES: Final = 32


class Wiring(lifecycle.Lifecycle):
    """The parts, public: roles are built on them once this is started. On one event loop."""

    def __init__(self, record: layout.NodeRecord, roles: Sequence[str], clock: clock.Clock) -> None:
        """`roles` is what the node will host, for those who look for one. Raises InvalidSetting, WrongCertificate."""
        super().__init__()
        given = record.settings
        self._incarnation = record.incarnation
        self._roles = roles
        self._server = given.wire.server or ""
        self._secret = b"" if self._server else secrets.token_bytes(SECRET_BYTES)
        self._doors = doors.Doors(layout.Layout(given.directory).nodes)
        self.groups = groups.Groups.parse(given.service.groups, site=given.site)
        self.table = serving.Table(record.incarnation)
        self.peers = peers.Peers(
            peers.Identity(given.cluster, given.site, record.incarnation),
            sockets.Sockets(tls(given.wire)),
            self.table,
            clock=clock,
            secret=self._secret,
            secret_of=self._secret_of,
            host=given.wire.host,
            server=self._server,
            limits=peers.Limits(in_flight=given.wire.in_flight),
        )
        self.session = joining.late(given, layout.session_name(record.incarnation), patience_seconds=PATIENCE_SECONDS)
        self._neighbours = neighbours.Neighbours(self.session)
        self.presence = presence.Presence(self.session, clock)
        self.resolver = resolver.Resolver(self.peers, self._read_doors)
        self.viewing = viewing.Viewing(self.peers)

    async def declare(self, entry: bytes) -> None:
        """Say in coordination what this node is; as soon as it is in reach."""
        await self.presence.declare(f"{names.NODES}/{self._incarnation}", entry)

    async def _start(self) -> None:
        await self.viewing.start()
        await self.peers.start()
        here = self.peers.address
        door = doors.Door(here.incarnation, here.host, here.port, self._secret, tuple(self._roles), here.server)
        await asyncio.to_thread(self._doors.write, door)
        await self.session.start()
        await self.presence.start()
        await self.resolver.start()

    async def _stop(self) -> None:
        """Who looks this node up finds it no more; then it goes."""
        await self.presence.stop()
        await self.session.stop()
        await self.resolver.stop()
        await asyncio.to_thread(self._doors.remove, self._incarnation)
        await self.peers.drain(PARTING_SECONDS)  # What is on its way here is refused, not lost.
        await self.peers.stop()
        await self.viewing.stop()

    def _secret_of(self, address: network.Address) -> bytes | None:
        """Certificates say who a server is: nodes of others have no door here, and none has a secret."""
        return b"" if self._server else self._doors.secret_of(address)

    async def _read_doors(self) -> Sequence[doors.Door]:
        """Those of this machine, which need nobody; then those of other servers."""
        here = await asyncio.to_thread(self._doors.read)
        if not self._server:
            return here
        known = {door.incarnation for door in here}
        return [*here, *(door for door in await self._neighbours.doors() if door.incarnation not in known)]


def tls(given: WireSettings) -> sockets.Tls | None:
    """Return what a server's wires need of its certificates; None on one machine. Raises WrongCertificate."""
    if given.server is None:
        return None
    place = Path(given.certificates).expanduser().absolute()
    authority, _ = certs.files(place, certs.AUTHORITY)
    made = sockets.Tls.load(authority, *certs.files(place, given.server))
    made.check(given.server)
    return made
