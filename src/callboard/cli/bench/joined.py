"""A process that takes part in the wire of a deployment without being one of its nodes: what the measurements call from."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from callboard.kit import clock, uuid7
from callboard.names import resolver
from callboard.node import layout
from callboard.rpc import doors, peers, serving, sockets


@contextlib.asynccontextmanager
async def wire(data: Path) -> AsyncIterator[peers.Peers]:
    """Give the peers of a new node that knows the doors in the data directory `data`."""
    time = clock.SystemClock()
    incarnation = uuid7.make(time.now()).hex()
    opened = peers.Peers(
        peers.Identity("callboard", "main", incarnation),
        sockets.Sockets(),
        serving.Table(incarnation),
        clock=time,
        secret=secrets.token_bytes(32),
        secret_of=doors.Doors(layout.Layout(data).nodes).secret_of,
    )
    await opened.start()
    try:
        yield opened
    finally:
        await opened.stop()


@contextlib.asynccontextmanager
async def names(data: Path) -> AsyncIterator[resolver.Resolver]:
    """Give a resolver that finds registries by the doors in the data directory `data`."""
    book = doors.Doors(layout.Layout(data).nodes)

    async def read() -> list[doors.Door]:
        return list(book.read())

    async with wire(data) as opened:
        made = resolver.Resolver(opened, read)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()
