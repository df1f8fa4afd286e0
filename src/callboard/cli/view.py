"""`callboard view`: which servers, nodes and offices there are, and what changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from cyclopts import Parameter

from callboard.cli import access, exits, output
from callboard.cluster import view as views
from callboard.names import model

SERVERS: Final = ("server", "site", "state", "software", "file", "nodes")
OFFICES: Final = ("office", "epoch", "server", "node")
HERE: Final = "(this machine)"
"""Stands for a server that has no name."""
NO_AGENT: Final = "no agent"
"""The state of a server whose nodes are there, and nobody who looks after them."""

Row = tuple[Any, ...]


async def view(
    *,
    follow: Annotated[bool, Parameter(help="Go on: print what changes, until interrupted.")] = False,
    to: access.Access = access.HERE,
) -> int:
    """Show which servers, nodes and offices there are at the site.

    A node that is coming to its end, or whose server is, counts as leaving: it takes no work. With --follow, changes are printed
    as they happen; changes that happen together are printed together.

    Piped, the first column says what a line is about: server, site, state, software, file, nodes by role; or office, epoch,
    server, node; or version, and whether it is stale. Changes: time, came, changed or gone, and such a line.
    """
    async with to.client() as gateways:
        if not follow:
            _show(await gateways.view(), json=to.json)
            return exits.Exit.OK
        first = True
        async for change in gateways.watch_view():
            if to.json:
                output.document(change)
            elif first:
                _show(change.view, json=False)
            else:
                _tell(change)
            first = False
    return exits.Exit.OK


def _show(now: views.View, *, json: bool) -> None:
    if json:
        output.document(now)
        return
    servers, offices = list(_servers(now)), [_office(now.offices[name]) for name in sorted(now.offices)]
    if output.on_terminal():
        output.table(SERVERS, servers)
        output.line("")
        output.table(OFFICES, [(name, epoch, server, node[-8:]) for name, epoch, server, node in offices])
        output.line(f"\nversion {now.version}" + (", which may be out of date: nobody tells of changes" if now.stale else ""))
        return
    for row in servers:
        _line("server", *row)
    for row in offices:
        _line("office", *row)
    _line("version", now.version, "stale" if now.stale else "fresh")


def _servers(now: views.View) -> Iterator[Row]:
    """A row for each server with an agent, and for each that has only nodes."""
    known = sorted(now.servers.values(), key=lambda facts: (facts.server, facts.agent))
    for facts in known:
        roles = _roles(node for node in now.nodes.values() if node.server == facts.server)
        yield facts.server or HERE, facts.site, facts.state, facts.software, facts.file or None, roles
    orphans = {node.server: node.site for node in now.nodes.values()}
    for server in sorted(orphans.keys() - {facts.server for facts in known}):
        roles = _roles(node for node in now.nodes.values() if node.server == server)
        yield server or HERE, orphans[server], NO_AGENT, None, None, roles


def _roles(nodes: Iterable[views.Node]) -> str:
    """Count nodes by what they are there for: `gateway 1, worker 2 (1 leaving)`."""
    found, leaving = Counter[str](), Counter[str]()
    for node in nodes:
        found[_kind(node)] += 1
        leaving[_kind(node)] += not node.available
    return ", ".join(f"{kind} {found[kind]}" + (f" ({leaving[kind]} leaving)" if leaving[kind] else "") for kind in sorted(found))


def _kind(node: views.Node) -> str:
    """What a node is there for: a gateway has other roles beside it."""
    for role in ("gateway", "worker"):
        if role in node.roles:
            return role
    return ", ".join(node.roles) or ("service" if node.services else "node")


def _office(office: views.Office) -> Row:
    return office.name, office.epoch, office.server or HERE, office.incarnation


def _tell(change: views.Change) -> None:
    """Print a line for each thing that changed."""
    at = datetime.now(UTC)
    for word, told in (
        ("changed", _rows(change.servers, change.nodes, change.offices)),
        ("gone", _rows(change.gone_servers, change.gone_nodes, change.gone_offices)),
    ):
        for row in told:
            _line(at, word, *row)
    _line(at, "version", change.view.version, "stale" if change.view.stale else "fresh")


def _rows(servers: Iterable[model.ServerFacts], nodes: Iterable[views.Node], offices: Iterable[views.Office]) -> Iterator[Row]:
    for facts in servers:
        yield "server", facts.server or HERE, facts.site, facts.state, facts.software, facts.file or None
    for node in nodes:
        yield "node", node.incarnation, node.server or HERE, _kind(node), "available" if node.available else "leaving"
    for office in offices:
        yield "office", *_office(office)


def _line(*cells: Any) -> None:
    between = "  " if output.on_terminal() else "\t"
    output.line(
        between.join(output.cell(each if isinstance(each, datetime) else each if each is None else str(each)) for each in cells)
    )
