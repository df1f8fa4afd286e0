"""What operators want of servers and nodes, as coordination has it: entries that no session holds, one a server or node.

Gateways write them, the agent that answers for the server or the node brings them about, also after a restart, and removes them
when they are fulfilled. The drain of a server is never fulfilled: it stands until it is taken back.
"""

from __future__ import annotations

import time
from typing import Final, Literal

import msgspec

from callboard import errors
from callboard.coordination import engine
from callboard.names import model

_SERVER: Final = f"{model.WISHES}/server."
_NODE: Final = f"{model.WISHES}/node."


class Standing(msgspec.Struct, frozen=True):
    """A wish that stands."""

    path: str
    number: int
    """Of its entry: a wish in its place has another one."""
    wish: model.Wish


def of_server(name: str) -> str:
    """Return the path of wishes for a server; its name is empty on one machine."""
    return _SERVER + name


def of_node(incarnation: str) -> str:
    """Return the path of wishes for a node."""
    return _NODE + incarnation


def node_of(path: str) -> str | None:
    """Return which node a wish is for, None when it is for a server."""
    return path.removeprefix(_NODE) if path.startswith(_NODE) else None


async def wish(session: engine.Session, path: str, what: Literal["drain", "renew"], by: str) -> model.Wish:
    """Wish something of a server or node; `by` is the id of the key. Returns what stands now.

    A wish that stands already stays as it is. Raises InvalidInput for the renewal of a node; StateRefused for that of a server
    that is to be drained; CoordinationConflict when somebody else wished at this moment: ask again; CoordinationUnavailable:
    unknown whether it was wished.
    """
    if what == "renew" and node_of(path) is not None:
        raise errors.InvalidInput("a node cannot be renewed: drain it, and its agent starts another in its place")
    made = model.Wish(what=what, at=time.time_ns() // 1000, by=by)
    found = (await read(session)).get(path)
    if found is not None and found.wish.what == what:
        return found.wish
    if found is not None and what == "renew":
        raise errors.StateRefused("this server is to be drained: take that back first")
    changes: list[engine.Operation] = [engine.Remove(path, found.number)] if found is not None else []
    await session.apply([*changes, engine.Create(path, msgspec.json.encode(made), lasting=True)])
    return made


async def take_back(session: engine.Session, path: str) -> bool:
    """Remove whatever is wished of a server or node; tell whether anything was. Raises CoordinationUnavailable."""
    found = (await read(session)).get(path)
    return found is not None and await fulfil(session, found)


async def fulfil(session: engine.Session, standing: Standing) -> bool:
    """Remove a wish that was read, unless another one is in its place; tell whether it was. Raises CoordinationUnavailable."""
    try:
        await session.apply([engine.Remove(standing.path, standing.number)])
    except errors.CoordinationConflict:
        return False
    return True


async def read(session: engine.Session) -> dict[str, Standing]:
    """Return all wishes that stand, by path. Raises CoordinationUnavailable."""
    found = {}
    for entry in await session.entries(model.WISHES):
        try:
            found[entry.path] = Standing(entry.path, entry.number, msgspec.json.decode(entry.body, type=model.Wish))
        except msgspec.MsgspecError:  # Written by a version to come: nothing that is known here.
            continue
    return found
