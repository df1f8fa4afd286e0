"""The way in for the local commands: the gateways' addresses and an admin key, in a file of mode 0600. Made by the agent."""

from __future__ import annotations

import ipaddress

import msgspec

from callboard.jobs import model, queue
from callboard.kit import files
from callboard.node import layout
from callboard.roles.gateway import keys
from callboard.settings import GatewaySettings


async def ensure(store: queue.Queue, place: layout.Layout, given: GatewaySettings) -> str | None:
    """Write `local.json`; return the admin key when it had to be made. Raises StoreError, DataUnusable."""
    before = layout.read_local(place.local)
    made = await keys.ensure_admin(store)
    if made is None and (before is None or before.key is None):
        # There are admin keys, but the one for this directory is lost: nobody can read it back from its hash.
        _, _, made = await keys.create(store, "local commands", [keys.ADMIN], model.DEFAULT_DOMAIN)
    key = made or (before.key if before else None)
    try:
        files.write_private(place.local, msgspec.json.encode(layout.LocalAccess(urls(given), key)), durable=True)
    except OSError as error:
        raise layout.unusable(place.directory, error) from None
    return made


def urls(given: GatewaySettings) -> list[str]:
    """Return where this machine reaches its gateways."""
    host = given.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
        host = f"[{host}]" if address.version == 6 else host
    return [f"http://{host}:{given.port + index}" for index in range(given.count)]
