"""What a node says of itself, to those who list nodes, to its agent, and to those who look names up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from callboard.coordination import sessions
from callboard.names import protocol
from callboard.node import hosting, layout, processes
from callboard.rpc import network

STARTED_AT: Final = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def made(
    record: layout.NodeRecord,
    hosted: Sequence[hosting.Hosted] = (),
    address: network.Address | None = None,
    *,
    draining: bool = False,
) -> bytes:
    """Return the content of this process's entry: what it hosts, where its wire listens, whether it is coming to its end."""
    roles = [{"role": each.role.name, **each.role.facts()} for each in hosted if each.role.name != protocol.NODE]
    roles.sort(key=lambda facts: facts["role"] != record.role)  # What it is there for comes first.
    entry = layout.NodeEntry(
        pid=os.getpid(),
        pid_started=processes.this().started,
        started_at=STARTED_AT,
        incarnation=record.incarnation,
        roles=roles,
        host=address.host if address is not None else "",
        port=address.port if address is not None else 0,
        server=address.server if address is not None else "",
        site=record.settings.site,
        offers=tuple(each.offer for each in hosted),
        state="draining" if draining else "serving",
    )
    return msgspec.json.encode(entry)


def put(session: sessions.ProcessSession, record: layout.NodeRecord, entry: bytes) -> None:
    """Write the entry into the data directory. Blocks for a small file. Raises DataUnusable."""
    session.put(layout.NODES + record.incarnation, entry)
