"""The way in for the local commands: the gateways' addresses and an admin key, in a file of mode 0600.

Done by the first gateway's node, not by the agent: what makes keys comes with the whole HTTP server.
"""

from __future__ import annotations

import msgspec

from callboard.jobs import queue
from callboard.kit import files, grammar
from callboard.node import layout
from callboard.roles.gateway import keys
from callboard.settings import Settings


async def ensure(store: queue.Queue, given: Settings) -> str | None:
    """Write `local.json`; return the admin key when it had to be made. Raises StoreError, DataUnusable."""
    place = layout.Layout(given.directory)
    before = layout.read_local(place.local)
    made = await keys.ensure_admin(store)
    if made is None and not await _of_this(store, before.key if before else None):
        # There are admin keys, but none of them for this directory: another server's was first; or the one for it is lost, and
        # nobody can read it back from its hash; or it is of the store that was used here before.
        _, _, made = await keys.create(store, "local commands", [keys.ADMIN], grammar.ROOT_DOMAIN)
    key = made or (before.key if before else None)
    try:
        files.write_private(place.local, msgspec.json.encode(layout.LocalAccess(given.gateway.urls, key)), durable=True)
    except OSError as error:
        raise layout.unusable(place.directory, error) from None
    return made


async def _of_this(store: queue.Queue, key: str | None) -> bool:
    """Whether a key was made in this store. One that was revoked stays so: somebody wished it."""
    return key is not None and any(key.startswith(f"cb_{known}_") for known, _ in await keys.listed(store))
