"""What operators want of servers and nodes, on its way into coordination: judged here, brought about by the agents."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from callboard import errors
from callboard.cluster import wishes
from callboard.coordination import engine
from callboard.http import shapes
from callboard.names import model, protocol
from callboard.roles.gateway import calls, keys, roster, views
from callboard.roles.gateway import desk as desks

UNNAMED: Final = "local"
"""How the server of a deployment on one machine is written, which has no name."""
SHOWN: Final = 6
_facts = msgspec.json.Decoder(model.ServerFacts)


async def servers(desk: desks.Desk) -> shapes.Servers:
    """Return the servers whose agents live, by name, with what is wished of them. Raises CoordinationUnavailable."""
    session = _session(desk)
    standing = await wishes.read(session)
    nodes = await desk.roster.nodes()
    found = [_server(facts, standing, nodes) for facts in await _agents(session)]
    return shapes.Servers(sorted(found, key=lambda each: (each.server, each.agent)))


async def drain_node(desk: desks.Desk, grant: keys.Grant, given: str) -> shapes.Wished:
    """Wish that a node comes to its end and is replaced; it is named by its id, or the end of that.

    Raises Forbidden, NotFound, InvalidInput for an end that several have, CoordinationUnavailable.
    """
    calls.check_operator(grant)
    node = roster.meant(given, [each["incarnation"] for each in await desk.roster.nodes() if each.get("incarnation")], "is alive")
    wish = await wishes.wish(_session(desk), wishes.of_node(node), "drain", grant.key_id)
    return shapes.Wished(node=node, what=wish.what, wished_at=views.time(wish.at), by=wish.by)


async def wish_server(
    desk: desks.Desk, grant: keys.Grant, given: str, what: Literal["drain", "renew"], *, force: bool = False
) -> shapes.Wished:
    """Wish that a server comes to rest, or that all that runs there is replaced.

    Raises Forbidden, NotFound; StateRefused for the drain of the last server that has something (unless forced), and for the
    renewal of one that is to be drained; CoordinationConflict, CoordinationUnavailable.
    """
    calls.check_operator(grant)
    session = _session(desk)
    name = await _known(session, given)
    if what == "drain":
        await _check_last(desk, session, name, force)
    wish = await wishes.wish(session, wishes.of_server(name), what, grant.key_id)
    if what == "drain":
        try:
            await _check_last(desk, session, name, force)
        except errors.StateRefused:  # Somebody wished the same of another server at this moment.
            await wishes.take_back(session, wishes.of_server(name))
            raise
    return shapes.Wished(server=name, what=wish.what, wished_at=views.time(wish.at), by=wish.by)


async def take_back(desk: desks.Desk, grant: keys.Grant, given: str) -> shapes.TakenBack:
    """Wish nothing of a server any more: one that was drained serves. Raises Forbidden, NotFound, CoordinationUnavailable."""
    calls.check_operator(grant)
    session = _session(desk)
    name = given
    if wishes.of_server(given) not in await wishes.read(session):  # A server that is gone may have left one.
        name = await _known(session, given)
    return shapes.TakenBack(server=name, stood=await wishes.take_back(session, wishes.of_server(name)))


def _session(desk: desks.Desk) -> engine.Session:
    if desk.coordination is None:
        raise errors.NotActive("this gateway has no part in coordination: ask another one", ran="no")
    return desk.coordination


async def _agents(session: engine.Session) -> list[model.ServerFacts]:
    found = []
    for entry in await session.entries(model.SERVERS):
        try:
            found.append(_facts.decode(entry.body))
        except ValueError:  # Bytes that are no text are none of msgspec's errors.
            continue
    return found


async def _known(session: engine.Session, given: str) -> str:
    """Return the name of a server. Raises NotFound, which names the nearest one."""
    known = {each.server or UNNAMED: each.server for each in await _agents(session)}
    if given not in known:
        near = difflib.get_close_matches(given, sorted(known), n=1)
        mend = f"did you mean {near[0]}?" if near else f"those that are: {', '.join(sorted(known)[:SHOWN]) or 'none'}"
        raise errors.NotFound(f"no server {given!r:.80} is alive: {mend}")
    return known[given]


async def _check_last(desk: desks.Desk, session: engine.Session, name: str, force: bool) -> None:
    """Raise StateRefused when nobody else has something that a server has. The last gateways stay even so: through whom would
    the wish be taken back?"""
    standing = await wishes.read(session)
    resting = {each.server for each in await _agents(session) if _is_resting(each, standing)} | {name}
    nodes = await desk.roster.nodes()
    own = _has(each for each in nodes if each.get("server", "") == name)
    lost = own - _has(each for each in nodes if each.get("server", "") not in resting)
    shown = ", ".join(sorted(lost)[:SHOWN])
    if "role gateway" in lost:
        why = "without a gateway nobody could take this back, 'callboard down' stops a server for good"
        raise errors.StateRefused(f"server {name or UNNAMED} is the last one with {shown}: {why}")
    if lost and not force:
        raise errors.StateRefused(f"server {name or UNNAMED} is the last one with {shown}: it is drained with force alone")


def _is_resting(facts: model.ServerFacts, standing: Mapping[str, wishes.Standing]) -> bool:
    wish = standing.get(wishes.of_server(facts.server))
    return facts.state != "serving" or (wish is not None and wish.wish.what == "drain")


def _has(nodes: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return what nodes have: roles, services, and kinds of jobs."""
    found = set()
    for node in nodes:
        found |= {f"{each['kind']} {each['label']}" for each in node.get("offers", ()) if each["label"] != protocol.NODE}
        found |= {f"kind {kind}" for role in node.get("roles", ()) for kind in role.get("kinds") or ()}
    return found


def _server(
    facts: model.ServerFacts, standing: Mapping[str, wishes.Standing], nodes: Iterable[Mapping[str, Any]]
) -> shapes.Server:
    wish = standing.get(wishes.of_server(facts.server))
    return shapes.Server(
        server=facts.server,
        site=facts.site,
        agent=facts.agent,
        software=facts.software,
        file=facts.file,
        state=facts.state,
        trouble=facts.trouble,
        nodes=sum(each.get("server", "") == facts.server for each in nodes),
        wish=wish.wish.what if wish is not None else None,
        wished_at=views.time(wish.wish.at) if wish is not None else None,
    )
