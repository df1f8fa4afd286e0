"""The seam to the network between nodes: messages over links that break, to addresses that may be dead.

`peer` speaks the protocol over it; `sockets` is the real one (WebSocket over TCP, loopback or TLS), `callboard.testing.simnet`
one that drops, delays and partitions by seed on virtual time. All on one event loop; no method blocks.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

MAX_MESSAGE: int = 4 << 20
"""Bytes of one message; a sender splits before, a receiver closes a link that exceeds it."""


class Address(msgspec.Struct, frozen=True):
    """Where a node is reached. The incarnation makes sure that it is still the same one."""

    incarnation: str
    """32 hexadecimal digits."""
    host: str
    port: int
    server: str = ""
    """Name of its server, which its certificate carries; empty on one machine, where a secret takes the certificate's place."""


class Receiver(Protocol):
    """The owner of one link, as the network sees it. Called on the loop, never after `closed`."""

    def connected(self, link: Link) -> None:
        """The link is open; called once, before everything else."""

    def received(self, message: bytes) -> None:
        """A whole message, in the order of sending."""

    def paused(self) -> None:
        """More waits than the network wants to hold: send only what must be sent, until `resumed`."""

    def resumed(self) -> None: ...

    def closed(self, why: str) -> None:
        """The link is gone; what was sent last may have arrived or not. Called once."""


class Link(Protocol):
    """One open connection, both ways."""

    @property
    def peer_server(self) -> str:
        """The server name in the other side's certificate; empty where there are none."""

    def send(self, message: bytes) -> None:
        """Send a message; after the link has closed, nothing happens."""

    def close(self) -> None:
        """Close at once. `Receiver.closed` is called soon after. Allowed twice."""


class Listener(Protocol):
    """An open port."""

    host: str
    port: int

    async def close(self) -> None:
        """Accept no more; open links stay. Allowed twice."""


class Accept(Protocol):
    """Makes the receiver for a link that somebody else opened."""

    def __call__(self) -> Receiver: ...


class Network(Protocol):
    """Ways to other nodes."""

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        """Open a port (0: any free one). Raises PortInUse, StartupError."""

    async def dial(self, address: Address, receiver: Receiver) -> None:
        """Open a link to an address; `receiver.connected` was called when this returns.

        Raises Unreachable, WrongCertificate. The caller bounds the time.
        """
