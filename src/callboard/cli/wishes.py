"""`callboard drain`, `undrain`, `renew`: nodes and servers that are to come to rest, or to be replaced.

A wish is written down, and the agent of the server brings it about: a command that does not wait, or is interrupted, changes
nothing of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from cyclopts import Parameter

from callboard import client, errors
from callboard.cli import access, exits, output
from callboard.client import operating
from callboard.http import shapes

LOOK_SECONDS: Final = 0.3
"""Between two looks how far it is."""
Server = Annotated[str, Parameter(help="Name of a server; `local` where there is one machine.")]
Wait = Annotated[bool, Parameter(help="Wait until it is done.")]
Seconds = Annotated[float, Parameter(help="Seconds to wait, for each. [300]")]


async def drain(
    *given: Annotated[str, Parameter(help="Nodes: their ids, or the ends of them.")],
    server: Annotated[str | None, Parameter(help="A whole server, by its name.")] = None,
    force: Annotated[bool, Parameter(help="Even the last server that has something: a role, a service, a kind of job.")] = False,
    wait: Wait = False,
    timeout: Seconds = 300.0,
    to: access.Access = access.HERE,
) -> int:
    """Let nodes come to their end: they take no work any more, and what runs gets its grace time.

    A node is replaced by another one. A server stays empty, also when its agent starts again, until 'callboard undrain'. The
    server with the last gateway cannot be drained: nobody could take it back.

    Piped columns: node or server, then `draining`, or `drained` after waiting.
    """
    if bool(given) == (server is not None):
        raise errors.InvalidInput("drain takes nodes, or --server and its name: give one of the two")
    if force and server is None:
        raise errors.InvalidInput("--force is for --server: a node is replaced by another one")
    _check(timeout)
    done: list[tuple[str, shapes.Wished]] = []
    try:
        async with to.client() as gateways:
            for each in (server,) if server is not None else given:
                done.append(await _drained(gateways, each, server is not None, force, timeout if wait else 0.0))
    finally:
        if to.json and done:
            output.document({"drained": [{"state": word, **_told(wished)} for word, wished in done]})
        elif done:
            output.table(("", "state"), ((_named(wished), word) for word, wished in done))
    return exits.Exit.OK


async def undrain(*, server: Server, to: access.Access = access.HERE) -> int:
    """Take the drain of a server back: its agent starts its nodes again, at once if it lives, or when it is started.

    Piped columns: server, then `serving`, or `unchanged` when nothing was wished of it.
    """
    async with to.client() as gateways:
        found = await gateways.undrain_server(server)
    if to.json:
        output.document(found)
    else:
        output.table(("server", "state"), [(found.server or operating.UNNAMED, "serving" if found.stood else "unchanged")])
    return exits.Exit.OK


async def renew(
    *,
    server: Annotated[tuple[str, ...], Parameter(help="Name of a server; may be given several times.")] = (),
    all: Annotated[bool, Parameter(help="All servers that are not drained.")] = False,
    timeout: Seconds = 300.0,
    to: access.Access = access.HERE,
) -> int:
    """Have agents start themselves anew, with the software and the file that are there now, and replace their nodes one by one.

    One server after another: the next one begins when the last node of the one before is ready. A node that cannot start stops it
    all, and leaves the rest at work.

    Piped columns: server, version of its software, seconds that it took.
    """
    if bool(server) == all:
        raise errors.InvalidInput("renew takes --server and a name, or --all: give one of the two")
    _check(timeout)
    done: list[dict[str, Any]] = []
    try:
        async with to.client() as gateways:
            for name in await _chosen(gateways) if all else server:
                done.append(await _renewed(gateways, name, timeout))
                if not to.json:
                    output.line("\t".join(output.cell(value) for value in done[-1].values()))
    finally:
        if to.json:
            output.document({"renewed": done})
    return exits.Exit.OK


async def _drained(
    gateways: client.Client, given: str, is_server: bool, force: bool, seconds: float
) -> tuple[str, shapes.Wished]:
    """Wish it; wait for it if there are seconds to wait. Returns how far it is."""
    if not is_server:
        wished = await gateways.drain_node(given)
        if not seconds:
            return "draining", wished

        async def gone() -> bool:
            found = await gateways.roster()
            return not found.partial and all(each.get("incarnation") != wished.node for each in found.nodes)

        await _until(gone, seconds, f"node {wished.node} has not ended")
        return "drained", wished
    wished = await gateways.drain_server(given, force=force)
    if not seconds:
        return "draining", wished

    async def empty() -> bool:
        found = [each.state for each in await gateways.servers() if each.server == wished.server]
        return bool(found) and set(found) == {"drained"}

    try:
        await _until(empty, seconds, f"server {given} is not empty")
    except errors.Unreachable:
        raise errors.Unreachable(
            f"server {given} drains, and so did the gateways that were asked: name those of another server with --url"
        ) from None
    return "drained", wished


async def _chosen(gateways: client.Client) -> list[str]:
    """Return the servers that can be renewed, by name."""
    found = await gateways.servers()
    for each in found:
        if each.wish == "drain":
            output.note(f"server {each.server or operating.UNNAMED} is to be drained: it is left as it is")
    return sorted({each.server or operating.UNNAMED for each in found if each.wish != "drain"})


async def _renewed(gateways: client.Client, name: str, seconds: float) -> dict[str, Any]:
    """Renew one server, and wait until all its nodes are new. Raises StartupError when one of them could not start."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    before = {each.agent for each in await gateways.servers()}
    wished = await gateways.renew_server(name)
    seen: list[shapes.Server] = []

    async def done() -> bool:
        """Judged by the agent that was born of it: the others' word may be old."""
        seen[:] = [each for each in await gateways.servers() if each.server == wished.server]
        return (
            bool(seen)
            and all(each.wish is None for each in seen)
            and any(each.agent not in before or each.trouble for each in seen)
        )

    await _until(done, seconds, f"server {name} is not renewed", patient=True)
    newest = max(seen, key=lambda each: each.agent)
    if newest.trouble:
        raise errors.StartupError(f"server {name} is not renewed: {newest.trouble}")
    return {"server": name, "software": newest.software, "seconds": round(loop.time() - began, 1)}


async def _until(done: Callable[[], Awaitable[bool]], seconds: float, late: str, *, patient: bool = False) -> None:
    """Look until it is done. Raises WaitTimeout; `patient`: gateways may be away meanwhile, as those that are renewed."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        try:
            if await done():
                return
        except (errors.CoordinationError, errors.NotActive):
            pass  # It is away for a moment: nothing is known.
        except errors.Unreachable:
            if not patient:
                raise
        if loop.time() >= end:
            raise errors.WaitTimeout(f"{late} after {seconds:g} s: it goes on, look again with 'callboard nodes'")
        await asyncio.sleep(LOOK_SECONDS)


def _check(seconds: float) -> None:
    if not 0 < seconds < float("inf"):
        raise errors.InvalidInput(f"--timeout {seconds:g} is out of range: seconds over 0")


def _named(wished: shapes.Wished) -> str:
    return wished.node or wished.server or operating.UNNAMED


def _told(wished: shapes.Wished) -> dict[str, Any]:
    return {"node": wished.node, "server": wished.server, "wished_at": wished.wished_at}
