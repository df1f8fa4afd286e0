"""Ends a session from outside: its entries are found by the seals that its life made, and removed with it.

Together with the entries goes the session's own seal, which guards whatever the dead process may have sent last. What it
created between the look and that is removed next, and no more can come.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from callboard import errors
from callboard.coordination.engines.zookeeper import driver, layout, reading
from callboard.ensembles import requests

_AT_ONCE: Final = 2000
"""Deletions in one transaction."""


async def end(
    of: driver.Driver, reader: reading.Reader, where: layout.Layout, name: str, among: Collection[str] | None = None
) -> bool:
    """End the session of a name, if there is one, and if its life is `among` some; tell whether. Raises Interrupted,
    CoordinationError."""
    life = await _life(of, reader, where, name)
    if life is None or (among is not None and life not in among):
        return False
    own = [requests.delete(where.seal(life)), requests.delete(where.session(name))]
    while life == await _life(of, reader, where, name):
        await _delete(of, [*await _held(of, reader, where, life), *own])
    while left := await _held(of, reader, where, life):
        await _delete(of, left)
    return True


async def _life(of: driver.Driver, reader: reading.Reader, where: layout.Layout, name: str) -> str | None:
    """Return the token of a name's session."""
    await of.ask(requests.sync(where.seals))
    (found,) = await reader.contents([where.session(name)])
    parsed = layout.parse(found.body) if found is not None else None
    return parsed[0].token if parsed else None


async def _held(of: driver.Driver, reader: reading.Reader, where: layout.Layout, life: str) -> list[requests.Step]:
    """Return the deletions of what a life holds: of seals, and of the entries that are still theirs. Lasting ones stay."""
    tokens = [each for each in await reader.names(where.seals) if each.startswith(f"{life}.")]
    seals = await reader.contents([where.seal(each) for each in tokens])
    held = [(token, seal.body.decode()) for token, seal in zip(tokens, seals, strict=True) if seal is not None and seal.ephemeral]
    entries = await reader.contents([where.entry(path) for _, path in held])
    steps = []
    for (token, path), entry in zip(held, entries, strict=True):
        parsed = layout.parse(entry.body) if entry is not None else None
        theirs = parsed is not None and parsed[0].token == token
        steps += [requests.delete(node) for node in (where.seal(token), where.entry(path))[: 1 + theirs]]
    return steps


async def _delete(of: driver.Driver, steps: list[requests.Step]) -> None:
    """Delete, all of it or nothing; nothing where something has gone meanwhile, which the next look shows."""
    for first in range(0, len(steps), _AT_ONCE):
        results: list[requests.Result] = await of.ask(of.multi(steps[first : first + _AT_ONCE]))
        for result in results:
            if result.code not in (requests.OK, requests.SKIPPED, requests.NO_NODE):
                raise errors.CoordinationError(f"ZooKeeper refused with code {result.code}: look at its access rules and its log")
