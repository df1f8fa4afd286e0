"""Ends the claims of servers that have gone silent, so that their jobs run elsewhere; `silence` judges, this looks and acts.

Two looks decide: after the first that finds somebody silent, a confirmed round trip makes sure that this office is held and
that coordination is read as it is now, and a second look must find the same. The store has the last word, by the term.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.coordination import engine
from callboard.jobs import engine as jobs
from callboard.jobs import queue
from callboard.kit import clock, lifecycle, uuid7
from callboard.names import model
from callboard.roles.domain_controller import silence

LOOK_SECONDS: Final = 1.0
"""Between two looks. There is one at once when a session comes or goes, and when somebody will have been silent long enough."""
SHORTEST_SECONDS: Final = 0.02
SWEEP_SECONDS: Final = 30.0
"""Between two searches for what agents of long ago have left in coordination."""
STALLED_SECONDS: Final = 10.0
"""Without a word from the store for so long, this office is of no use to anybody."""
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


class Rescue(lifecycle.Lifecycle):
    """Looks from its start to its stop. On the session's loop."""

    def __init__(
        self,
        queue: queue.Queue,
        session: engine.Session,
        clock: clock.Clock,
        session_of: Callable[[str], str],
        limits: silence.Limits,
        office: Office,
    ) -> None:
        super().__init__()
        self.rescued = 0
        """Jobs that were given back."""
        self._queue = queue
        self._session = session
        self._clock = clock
        self._session_of = session_of
        self._limits = limits
        self._office = office
        self._record = silence.Record()
        self._held_up = False
        self._reached_at = clock.boot()
        self._sweep_at = 0
        self._gone: set[str] = set()
        self._woken = asyncio.Event()
        self._ends: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    def stalled(self) -> bool:
        """Tell whether the store has been out of reach for so long that another node should try its luck."""
        return self._clock.boot() - self._reached_at > STALLED_SECONDS * silence.NS

    async def _start(self) -> None:
        self._ends = [self._session.watch(engine.SESSIONS, self._woken.set), self._session.follow(self._turned)]
        self._task = asyncio.create_task(self._run(), name="rescue")

    async def _stop(self) -> None:
        for end in self._ends:
            end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _turned(self, state: engine.State) -> None:
        if state is not engine.State.CONNECTED:
            self._record = silence.Record()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.round()
                self._say(held_up="")
            except (errors.DocumentConflict, errors.CoordinationConflict):
                self._office.superseded()
                return
            except (errors.StoreError, errors.CoordinationError) as error:
                self._record = silence.Record()
                self._say(held_up=error.message)
            except Exception:
                self._record = silence.Record()
                log.exception("looking after silent servers failed")  # A bug: told, and tried again, since jobs wait for it.
            await self._pause()

    async def round(self) -> None:
        """Look once, and act on it. Raises StoreError, CoordinationError, DocumentConflict."""
        if not await self._look():
            return
        await self._session.apply([self._office.check])
        if silent := await self._look():
            await self._expire(silent)

    async def _look(self) -> Sequence[str]:
        """Look once more; return who is silent. Where nobody has claims, coordination is not asked."""
        began = self._clock.boot()
        renewed = {node.hex(): at for node, at in await self._queue.claimants()}
        self._reached_at = self._clock.boot()
        site = Site(frozenset(), ())
        if renewed or began >= self._sweep_at:
            site = await self._read_site()
        look = silence.Look(
            began=began,
            ended=self._clock.boot(),
            living=frozenset(node for node in renewed if self._session_of(node) in site.sessions),
            answered=site.nodes(answered=True),
            listed=site.nodes(answered=False),
            renewed=renewed,
        )
        self._record = silence.after(self._record, look, self._limits)
        if began >= self._sweep_at:
            self._sweep_at = began + round(SWEEP_SECONDS * silence.NS)
            await self._sweep(site, look)
        return silence.silent(self._record, look, self._limits)

    async def _read_site(self) -> Site:
        """Read who is there: first what is known of them, so that who comes meanwhile is found alive."""
        if self._session.state is not engine.State.CONNECTED:
            raise errors.CoordinationUnavailable("coordination is out of reach: nobody is taken for silent meanwhile")
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

    async def _sweep(self, site: Site, look: silence.Look) -> None:
        """Remove the rosters of agents that were gone at the last sweep, too, and whose nodes have no claims and no sessions."""
        gone = set()
        for entry, roster in site.rosters:
            left = any(node in look.renewed or self._session_of(node) in site.sessions for node in roster.nodes)
            if roster.session in site.sessions or left:
                continue
            gone.add(entry.path)
            if entry.path in self._gone:
                with contextlib.suppress(errors.CoordinationConflict):  # Another controller was faster.
                    await self._session.apply([engine.Remove(entry.path, entry.number)])
        self._gone = gone

    def _say(self, held_up: str) -> None:
        if held_up and not self._held_up:
            log.warning("nobody is taken for silent: the count starts again later", why=held_up)
        self._held_up = bool(held_up)

    async def _pause(self) -> None:
        ripe, now = silence.ripe_at(self._record, self._limits), self._clock.boot()
        seconds = LOOK_SECONDS if ripe is None else min(LOOK_SECONDS, max(SHORTEST_SECONDS, (ripe - now) / silence.NS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
