"""What was published of a cluster's file, in the coordination of each of its sites: written there, compared with at a start."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from callboard import errors, settings
from callboard.cli import output
from callboard.cluster import model, pushed
from callboard.coordination import engine, engines
from callboard.kit import telemetry

PATIENCE_SECONDS: Final = 5.0
"""How long the start of a server waits for coordination to say what was published."""

T = TypeVar("T")


def compared(given: settings.Settings, version: int, text: str) -> settings.Settings:
    """Return the settings of a server whose file this is; one with an older file, or another of the same version, stands for no
    office, and says so. While coordination is out of reach nothing can be compared: it says so, too, and stands."""
    try:
        before = asyncio.run(_within(given.coordination_url, given.coordination.session_seconds, pushed.read))
    except (errors.CoordinationError, errors.StartupError, TimeoutError) as error:
        output.note(f"which version of the cluster's file was published is not known: {error or 'coordination does not answer'}")
        return given
    try:
        if before is not None:
            pushed.check(before, version=version, text=text)
    except errors.StateRefused as error:
        output.note(f"{error.message}; until then this server stands for no office")
        return msgspec.structs.replace(given, stands=False)
    return given


def push(topology: model.Topology, text: str) -> dict[str, pushed.Pushed | None]:
    """Publish a file at each of its sites; return what was there before, by site.

    Raises what `pushed.push` raises, and CoordinationUnavailable also when a site does not answer: then those before it have it
    already, and the same push again goes on.
    """
    found = {}
    for site, (url, seconds) in sorted(_sites(topology).items()):

        async def put(session: engine.Session) -> pushed.Pushed | None:
            return await pushed.push(session, version=topology.version, text=text, cluster=topology.cluster)

        try:
            found[site] = asyncio.run(_within(url, seconds, put))
        except TimeoutError:
            raise errors.CoordinationUnavailable(f"the coordination of site {site} does not answer: push again later") from None
    return found


def _sites(topology: model.Topology) -> dict[str, tuple[str, float]]:
    templates = (topology.auto,) if topology.auto else ()
    found = {}
    for server in (*topology.servers.values(), *templates):
        given = settings.load(under=server.given)
        found[server.site] = given.coordination_url, given.coordination.session_seconds
    return found


async def _within(url: str, session_seconds: float, ask: Callable[[engine.Session], Awaitable[T]]) -> T:
    telemetry.configure("error", "text", role="file")  # What a short session goes through is nobody's matter.
    opened = engines.open(url, session_seconds=session_seconds)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            session = await opened.session(f"file-{secrets.token_hex(8)}")
            try:
                return await ask(session)
            finally:
                await session.close()
    finally:
        await opened.close()
