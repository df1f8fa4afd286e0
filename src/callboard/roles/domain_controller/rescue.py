"""Ends the claims of servers that have gone silent, so that their jobs run elsewhere; `looks` sees, `silence` judges, this acts.

Two looks decide: after the first that finds somebody silent, a confirmed round trip makes sure that this office is held and
that coordination is read as it is now, and a second look must find the same. The store has the last word, by the term.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.coordination import engine, heeding
from callboard.jobs import engine as jobs
from callboard.jobs import queue
from callboard.kit import clock, uuid7
from callboard.names import model
from callboard.roles.domain_controller import looks, silence

SWEEP_SECONDS: Final = 30.0
"""Between two searches for what agents of long ago have left in coordination."""
KEPT_SECONDS: Final = 86_400.0
"""How long the roster of an agent that is gone stays, without claims, when nobody else answers for its nodes. They may only be
cut off from coordination, and claim again: who is in no roster then is never expired."""
SHOWN: Final = 100
"""Jobs of a silent node that the log names."""
_roster = msgspec.json.Decoder(model.Roster)
log = structlog.get_logger("callboard.controller")


class Site(msgspec.Struct, frozen=True):
    """What coordination says: the names of the sessions, and the agents' rosters with their entries."""

    sessions: frozenset[str]
    rosters: Sequence[tuple[engine.Entry, model.Roster]]

    def nodes(self, *, answered: bool) -> frozenset[str]:
        """Return the nodes in all rosters, or in those of agents that live."""
        chosen = (each for _, each in self.rosters if not answered or each.session in self.sessions)
        return frozenset(node for each in chosen for node in each.nodes)


class Office(msgspec.Struct, frozen=True):
    """The office under which it is done."""

    check: engine.Check
    """Holds in coordination as long as the office does."""
    guards: jobs.Unit
    """Go into every write."""
    superseded: Callable[[], None]
    """Called once, when either is refused."""


class Rescue(heeding.Heeding):
    """Acts from its start to its stop: after each look, and when a session comes or goes. On the session's loop."""

    def __init__(
        self,
        queue: queue.Queue,
        session: engine.Session,
        clock: clock.Clock,
        session_of: Callable[[str], str],
        looks: looks.Looks,
        office: Office,
    ) -> None:
        super().__init__(session, (engine.SESSIONS,))
        self.rescued = 0
        """Jobs that were given back."""
        self._queue = queue
        self._clock = clock
        self._session_of = session_of
        self._looks = looks
        self._office = office
        self._sweep_at = 0
        self._gone: dict[str, int] = {}
        """Rosters that nobody needs, as far as sweeps tell, each with when the first of them told."""

    async def _start(self) -> None:
        await super()._start()
        self._ends.append(self._looks.tell(self.woken.set))
        self.woken.set()  # What was seen before this office was taken may be enough.

    async def _keep(self) -> None:
        while True:
            await self.woken.wait()
            self.woken.clear()
            try:
                await self.round()
            except (errors.DocumentConflict, errors.CoordinationConflict):
                self._office.superseded()
                return
            except (errors.StoreError, errors.CoordinationError) as error:
                log.debug("silent servers wait", why=error.message)  # The looks tell it for people.

    async def round(self) -> None:
        """Act on what was seen. Raises StoreError, CoordinationError, DocumentConflict."""
        if await self._silent(self._looks.record):
            await self._session.apply([self._office.check])
            record = await self._looks.look()
            silent = await self._silent(record)
            if silent and self._clock.boot() - record.looked <= self._looks.limits.patience:  # Else it tells of long ago.
                await self._expire(silent)
        if self._clock.boot() >= self._sweep_at:
            self._sweep_at = self._clock.boot() + round(SWEEP_SECONDS * silence.NS)
            await self._sweep()

    async def _silent(self, record: silence.Record) -> Sequence[str]:
        """Return who is silent. Where everybody renews, coordination is not asked."""
        ripe = silence.ripe(record, self._looks.limits)
        return silence.silent(ripe, self._present(await self._read_site(), ripe)) if ripe else ()

    def _present(self, site: Site, nodes: Collection[str]) -> silence.Presence:
        return silence.Presence(
            living=frozenset(node for node in nodes if self._session_of(node) in site.sessions),
            answered=site.nodes(answered=True),
            listed=site.nodes(answered=False),
        )

    async def _read_site(self) -> Site:
        """Read who is there: first what is known of them, so that who comes meanwhile is found alive."""
        rosters = []
        for entry in await self._session.entries(model.ROSTERS):
            with contextlib.suppress(ValueError, msgspec.MsgspecError):
                rosters.append((entry, _roster.decode(entry.body)))
        return Site(frozenset(await self._session.sessions()), rosters)

    async def _expire(self, nodes: Sequence[str]) -> None:
        ended = await self._queue.expire([bytes.fromhex(node) for node in nodes], self._office.guards)
        if ended:
            self.rescued += len(ended)
            named = [uuid7.text(job.id) for job in ended[:SHOWN]]
            log.warning("claims of silent servers ended", nodes=list(nodes), jobs=len(ended), ids=named)

    async def _sweep(self) -> None:
        """Remove the rosters of agents that were gone at the last sweep, too, and whose nodes have no claims and no sessions:
        at once when another agent answers for the nodes."""
        claimants = {node.hex() for node, _ in await self._queue.claimants()}
        site, now = await self._read_site(), self._clock.boot()
        answered, gone = site.nodes(answered=True), dict[str, int]()
        for entry, roster in site.rosters:
            left = any(node in claimants or self._session_of(node) in site.sessions for node in roster.nodes)
            if roster.session in site.sessions or left:
                continue
            gone[entry.path] = self._gone.get(entry.path, now)
            kept = 0.0 if answered.issuperset(roster.nodes) else KEPT_SECONDS
            if entry.path in self._gone and now - gone[entry.path] >= kept * silence.NS:
                with contextlib.suppress(errors.CoordinationConflict):  # Another controller was faster.
                    await self._session.apply([engine.Remove(entry.path, entry.number)])
        self._gone = gone
