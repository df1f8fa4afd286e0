"""`callboard names`, `ping`, `move`: who answers for a name, whether they do, and another one instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from cyclopts import Parameter

from callboard.cli import access, calls, exits, nodes, output
from callboard.http import shapes

PIPED: Final = ("name", "kind", "group", "epoch", "nodes", "servers", "stand by", "")
SHOWN: Final = ("name", "node", "server", "epoch", "stand by")
MOST: Final = 2
"""Nodes that are shown by their ids in a cell of a terminal; of more, the number."""

Name = Annotated[str, Parameter(help="Name of a service, like billing@acme, or of a role.")]


async def names(
    prefix: Annotated[str, Parameter(help="How the names begin. [all]")] = "", /, *, to: access.Access = access.HERE
) -> int:
    """List names, with who answers for each, and who would if that one were gone.

    While coordination is out of reach, it is what was known last: that is said on standard error, and in the last column.

    Piped columns: name, service or role, group, epoch, nodes that serve, their servers, nodes that stand by (the next one first),
    `stale` or nothing. Group and epoch are empty where all instances serve.
    """
    async with to.client() as gateways:
        found = await gateways.names(prefix)
    if to.json:
        output.document(found)
        return exits.Exit.OK
    if found.stale:
        output.note("coordination is out of reach: this is what was known last")
    for each in found.names:
        if each.conflict:
            output.note(f"calls of {each.name} are refused: {each.conflict}")
    if output.on_terminal():
        output.table(SHOWN, map(_narrow, found.names))
    else:
        output.table(PIPED, (_row(each, found.stale) for each in found.names))
    return exits.Exit.OK


async def ping(
    name: Annotated[str, Parameter(help="Name of a service, like billing@acme; or an instance, cache/INCARNATION.")],
    /,
    *,
    timeout: calls.Seconds = 10.0,
    to: access.Access = access.HERE,
) -> int:
    """Ask the instance that answers for a name whether it does; print which it is, its epoch, and the round trip.

    What a registry remembers does not count: the node itself must answer, and hold the office if there is one. An exact instance
    may also say that it stands by.
    """
    async with to.client() as gateways:
        found = await gateways.ping(name, timeout=calls.checked(timeout))
    if to.json:
        output.document(found)
        return exits.Exit.OK
    output.facts(
        (
            ("name", found.name),
            ("node", found.node),
            ("server", found.server or None),
            ("active", "yes" if found.active else "no"),
            ("epoch", found.epoch or None),
            ("milliseconds", round(found.seconds * 1000, 2)),
        )
    )
    return exits.Exit.OK


async def move(
    name: Name,
    /,
    *,
    node: Annotated[
        str | None,
        Parameter(name="--to", help="The node that takes over: its id, or the end of it. [the next one that stands by]"),
    ] = None,
    timeout: calls.Seconds = 10.0,
    to: access.Access = access.HERE,
) -> int:
    """Have who is active for a name hand its office over, wait until the other one serves, and print both epochs.

    Calls wait meanwhile; those that run get two seconds to end. The one that handed over stands by from then on, behind the
    others.
    """
    async with to.client() as gateways:
        found = await gateways.move(name, node, timeout=calls.checked(timeout))
    if to.json:
        output.document(found)
        return exits.Exit.OK
    if found.before == found.epoch:
        output.note(f"node {found.holder.node} holds the office already")
    output.facts(
        (
            ("name", found.name),
            ("from", _place(found.left)),
            ("to", _place(found.holder)),
            ("epoch before", found.before),
            ("epoch", found.epoch),
            ("seconds", round(found.seconds, 3)),
        )
    )
    return exits.Exit.OK


def _row(of: shapes.ListedName, stale: bool) -> tuple[Any, ...]:
    servers = sorted({each.server for each in of.instances if each.server})
    return (
        of.name,
        of.kind,
        of.group,
        of.epoch or None,
        " ".join(each.node for each in of.instances),
        " ".join(servers),
        " ".join(each.node for each in of.standbys),
        "stale" if stale else "",
    )


def _narrow(of: shapes.ListedName) -> tuple[Any, ...]:
    servers = sorted({each.server for each in of.instances if each.server})
    return of.name, _few(of.instances), " ".join(servers), of.epoch or None, _few(of.standbys)


def _few(places: Sequence[shapes.Place]) -> str:
    if len(places) > MOST:
        return f"{len(places)} nodes"
    return " ".join(nodes.short(each.node) for each in places)


def _place(of: shapes.Place) -> str:
    return f"{of.node} at {of.server}" if of.server else of.node
