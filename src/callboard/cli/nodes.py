"""`callboard nodes`: who is alive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from callboard.cli import access, exits, jobs, output

PIPED: Final = ("node", "role", "service", "active", "epoch", "pid", "up", "running", "slots", "URL", "kinds", "server")
SHORT: Final = {"domain-controller": "controller", "site-controller": "site"}
"""Roles by the names that a terminal has room for."""
SHOWN: Final = ("node", "server", "role", "active", "epoch", "pid", "up", "running", "serves")


async def nodes(*, to: access.Access = access.HERE) -> int:
    """List the live nodes of the site, those of all its servers.

    While coordination is out of reach, those of one server alone: that is said on standard error.

    A service, or a domain controller, is active where it says `yes`, and stands by where it says `no`; its epoch grows with
    each change of hands. That is what each node said last: where a hung one and its successor both say `yes`, the higher epoch
    answers.

    Piped columns: node, role, service, active, epoch, pid, seconds since its start, running, slots, URL, kinds, server.
    """
    async with to.client() as gateways:
        found = await gateways.roster()
    if to.json:
        output.document(found)
        return exits.Exit.OK
    if found.partial:
        output.note("coordination is out of reach: only nodes of the server that answered are listed")
    rows = [row for node in found.nodes for row in _rows(node)]
    if output.on_terminal():
        _draw(rows)
    else:
        output.table(PIPED, rows)
    return exits.Exit.OK


def _draw(rows: Sequence[Sequence[Any]]) -> None:
    """Print rows for a person; where no server has a name, without a column for it."""
    columns, *cells = SHOWN, *map(_narrow, rows)
    if not any(server for _, server, *_ in cells):
        columns, *cells = ((node, *rest) for node, _, *rest in (columns, *cells))
    output.table(columns, cells)


def _narrow(row: Sequence[Any]) -> tuple[Any, ...]:
    """Fit a row on 80 columns: no role has all of them. The end of a node's id tells it from others, in the logs too."""
    node, role, service, active, epoch, pid, age, running, slots, url, kinds, server = row
    taken = None if slots is None else f"{running}/{slots}"
    return short(node), server, SHORT.get(role, role), active, epoch, pid, age, taken, service or url or kinds


def short(node: str) -> str:
    """Return the end of a node's id, by which people tell it from others."""
    return node[-8:]


def _rows(node: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """A row for each role of a node; a node that only starts has none yet."""
    age = _age(node.get("started_at"))
    for role in node.get("roles") or [{"role": "starting"}]:
        yield (
            node.get("incarnation") or "",
            role.get("role"),
            *_activity(role),
            node.get("pid"),
            age,
            role.get("running"),
            role.get("slots"),
            role.get("url"),
            " ".join(role.get("kinds") or ()),
            node.get("server") or None,
        )


def _activity(role: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return service, active and epoch; several groups with an epoch each are told apart by their names."""
    if "active" not in role:
        return None, None, None
    held = role["active"]
    if not isinstance(held, Mapping):
        return role.get("service"), "yes" if held else "no", None
    epochs = [str(epoch) if list(held) == ["main"] else f"{group}={epoch}" for group, epoch in sorted(held.items())]
    return role.get("service"), "yes" if held else "no", " ".join(epochs) or None


def _age(started_at: Any) -> Any:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(started_at)).total_seconds()
    except (TypeError, ValueError):
        return None
    return jobs.duration(seconds) if output.on_terminal() else round(seconds)
