"""Which nodes should run, and that they do: places that are kept filled, deaths that are followed by births.

The agent tells what it wants and looks in from time to time. A place is (kind, index). Who dies is restarted with backoff; who
asked for a restart, or was asked to leave, is replaced at once; the place of one who had nothing to do stays empty. Who does
not do what is wanted now (another version, other settings) goes on until `renewal` has it replaced.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Final, Literal

import structlog

from callboard import errors
from callboard.kit import backoff, clock, uuid7
from callboard.node import children, layout, liveness, processes, report
from callboard.settings import Settings

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 30.0
AWAY_DELAY_SECONDS: Final = 2.0
"""The longest for a node that said that what it needs is out of reach for now, like the store: it comes back without a word."""
HEALTHY_SECONDS: Final = 30.0
"""A node that lived so long was well started: the next delay is the first one again."""
START_TRIES: Final = 3
"""Deaths without a word before a first start is given up."""
FIXED: Final = frozenset({"gateway"})
"""Kinds of nodes that listen where they were told: one can begin only when the other has ended."""

log = structlog.get_logger()


def wanted(given: Settings) -> dict[str, int]:
    """Return how many nodes of each kind should run. Built-in kinds have no services, so without an app nobody serves any."""
    return {
        "registry": given.registry.count,
        "domain-controller": given.controller.count,
        "site-controller": given.controller.site_count,
        "service": given.service.count if given.app is not None else 0,
        "worker": given.worker.count,
        "gateway": given.gateway.count,
    }


def delay_after(said: report.Report | None, seconds: float) -> float:
    """Return the seconds until a place is filled again, of which so many are due, after a node that said this at its start."""
    passes = said is not None and bool(said.code) and said.error().retryable
    return min(seconds, AWAY_DELAY_SECONDS) if passes else seconds


class Place:
    """Where one node belongs."""

    def __init__(self, role: str, index: int) -> None:
        self.role = role
        self.index = index
        self.ward: children.Ward | None = None
        self.delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        self.timer: asyncio.TimerHandle | None = None
        self.deaths = 0
        self.started: asyncio.Future[report.Report] = asyncio.get_running_loop().create_future()
        """What the first of its nodes that said anything said."""

    @property
    def name(self) -> str:
        return f"{self.role} {self.index}"


class Nursery:
    """The nodes of one agent. `died(incarnation)` is called for each that the kernel has declared dead."""

    def __init__(self, given: Settings, place: layout.Layout, clock: clock.Clock, died: Callable[[bytes], None]) -> None:
        self._settings = given
        self._layout = place
        self._clock = clock
        self._died = died
        self._directory = os.getcwd()
        self._version = metadata.version("callboard")
        self._open = True
        self.wards: dict[str, children.Ward] = {}
        """Every node that lives and is answered for here, by incarnation."""
        self.places = {(role, index): Place(role, index) for role, count in wanted(given).items() for index in range(count)}

    def want(self, given: Settings) -> None:
        """Start nodes with these settings from now on; how many there are stays as it is."""
        self._settings = given

    def adopt(self, record: layout.NodeRecord, process: processes.Process, *, leaving: bool = False) -> None:
        """Answer for a node that another agent started. One that has no place (any more) is asked to stop, unless it is `leaving`
        already; any other goes on, also if it does not do what is wanted now."""
        ward = children.adopt(record, process, self._ended)
        if ward is None:
            return
        self.wards[record.incarnation] = ward
        if leaving:
            ward.leave()
            return
        place = self.places.get((record.role, record.index))
        if not self._open or place is None or place.ward is not None:
            log.info("node is not needed", node=record.incarnation, role=record.role, index=record.index, pid=process.pid)
            ward.signal(signal.SIGTERM)
            return
        self._cancel(place)
        place.ward = ward
        log.info("node adopted", node=record.incarnation, role=record.role, index=record.index, pid=process.pid)
        self._say(place, report.Report())

    def fill(self) -> None:
        """Start a node in every place that has none, or one that was asked to leave. The first service node finds out for the
        others whether there is work."""
        self._open = True
        for place in self.places.values():
            if place.ward is not None and place.ward.leaving and place.role not in FIXED:
                place.ward = None
            scout = self.places[place.role, 0].started
            if place.role == "service" and place.index and not scout.done():
                scout.add_done_callback(functools.partial(self._scouted, place))
            else:
                self._fill(place)

    def due(self, *, every: bool = False) -> Place | None:
        """Return a place whose node does not do what is wanted now, or with `every` one whose node another agent started. None
        while no nodes are to run."""
        for place in self.places.values() if self._open else ():
            ward = place.ward
            if ward is None or ward.leaving:
                continue
            if (every and ward.adopted) or not self._wanted(place, "").same_work(ward.record):
                return place
        return None

    async def replace(self, place: Place) -> report.Report | None:
        """Have a new node do what the one in a place does, and end that one; return what the new one said when it had started.

        Where it cannot start, the old one goes on, except where it had to make room (`FIXED`): that place is tried again by
        itself. None: it ended without a word.
        """
        if place.role in FIXED:
            return await self._exchange(place)
        ward = self._begin(place)
        if ward is None:
            return report.Report(errors.StartupError.code, "no process can be started for it: the agent's log says why")
        said = await asyncio.shield(ward.ready)
        if said is None or said.code or not self._open:
            return said
        self._cancel(place)
        old, place.ward = place.ward, None if said.idle else ward
        if old is not None:
            old.signal(signal.SIGTERM)
            await old.dead.wait()
        return said

    def dismiss(self, ward: children.Ward) -> None:
        """Ask a node to leave, and fill its place anew; twice is once."""
        if ward.leaving:
            return
        ward.signal(signal.SIGTERM)
        place = self.places.get((ward.record.role, ward.record.index))
        if place is not None and place.ward is ward and place.role not in FIXED:
            place.ward = None
            self._fill(place)

    async def empty(self, grace_seconds: float, hurry: asyncio.Event) -> None:
        """End all nodes, kind by kind: those who take work first, those who are asked last. `fill` may come later."""
        self._open = False
        roles = {ward.record.role for ward in self.wards.values()}
        for role in sorted(roles, key=lambda role: (role == "gateway", role != "worker", role)):
            await self.stop([each for each in self.wards.values() if each.record.role == role], grace_seconds, hurry)

    async def started(self) -> str | None:
        """Return when every place had a node that was ready: the admin key, if one was made. Raises what a failing one says."""
        said = await asyncio.gather(*(self._first_word(place) for place in self.places.values()))
        return next((one.new_key for one in said if one.new_key), None)

    def look(self, limits: liveness.Limits) -> None:
        """Judge every node; kill those that must die."""
        now = self._clock.boot()
        for ward in tuple(self.wards.values()):
            why = ward.judge(self._layout, now, limits) or ward.overdue()
            if why:
                log.error("killing node", node=ward.record.incarnation, role=ward.record.role, pid=ward.process.pid, why=why)
                ward.signal(signal.SIGKILL)
                ward.leaving = False  # Its place is filled again with backoff.

    async def stop(self, wards: Sequence[children.Ward], grace_seconds: float, hurry: asyncio.Event) -> None:
        """Start nothing any more; end these nodes by SIGTERM, by a second one when told to hurry, by SIGKILL when it is too late.

        The second one cuts the grace of running handlers off: what they did not end is handed back. Only a killed node's jobs
        count as lost with their worker.
        """
        self._open = False
        for place in self.places.values():
            self._cancel(place)
        for ward in wards:
            if not ward.leaving:  # Twice would cut its grace off.
                ward.signal(signal.SIGTERM)
        everyone = asyncio.create_task(self._all_dead(wards))
        hurrying = asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait((everyone, hurrying), timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurrying.cancel()
        if hurry.is_set():
            for ward in wards:
                ward.signal(signal.SIGTERM)
            await asyncio.wait((everyone,), timeout=children.HURRY_SECONDS)
        for ward in wards:
            if not ward.dead.is_set():
                log.error("killing node", node=ward.record.incarnation, role=ward.record.role, why="it did not stop in time")
                ward.signal(signal.SIGKILL)
        await everyone

    def close(self) -> None:
        """Stop watching; what lives goes on by itself."""
        self._open = False
        for place in self.places.values():
            self._cancel(place)
        for ward in self.wards.values():
            ward.close()

    @staticmethod
    async def _all_dead(wards: Sequence[children.Ward]) -> Literal[True]:
        for ward in wards:
            await ward.dead.wait()
        return True

    @staticmethod
    async def _first_word(place: Place) -> report.Report:
        said = await asyncio.shield(place.started)
        if said.code:
            raise said.error()
        return said

    def _wanted(self, place: Place, incarnation: str) -> layout.NodeRecord:
        return layout.NodeRecord(
            incarnation=incarnation,
            role=place.role,
            index=place.index,
            directory=self._directory,
            settings=self._settings,
            version=self._version,
        )

    def _scouted(self, place: Place, said: asyncio.Future[report.Report]) -> None:
        if said.result().idle or said.result().code:
            self._say(place, said.result())
        else:
            self._fill(place)

    def _fill(self, place: Place) -> None:
        if place.ward is None and place.timer is None:
            self._start(place)

    def _start(self, place: Place) -> None:
        place.timer = None
        if not self._open:
            return
        place.ward = self._begin(place)
        if place.ward is None:
            self._again(place, place.delays.failed())

    def _begin(self, place: Place) -> children.Ward | None:
        record = self._wanted(place, uuid7.make(self._clock.now()).hex())
        try:
            ward = children.start(record, self._layout, self._ended)
        except OSError as error:
            log.error("node cannot be started", role=place.role, index=place.index, why=str(error))
            return None
        self.wards[record.incarnation] = ward
        ward.ready.add_done_callback(lambda said: self._spoke(place, ward, said.result()))
        log.info("node started", node=record.incarnation, role=place.role, index=place.index, pid=ward.process.pid)
        return ward

    async def _exchange(self, place: Place) -> report.Report | None:
        """Cut off, it leaves a place that is filled as soon as the old one has ended, and no sooner."""
        if place.ward is not None:
            place.ward.signal(signal.SIGTERM)
            await place.ward.dead.wait()
        if place.ward is None:
            self._cancel(place)
            self._start(place)
        return await asyncio.shield(place.ward.ready) if place.ward is not None else None

    def _spoke(self, place: Place, ward: children.Ward, said: report.Report | None) -> None:
        if said is None:
            return
        if said.code:
            log.error("node cannot start", node=ward.record.incarnation, role=place.role, code=said.code, why=said.message)
        self._say(place, said)

    def _say(self, place: Place, said: report.Report) -> None:
        if not place.started.done():
            place.started.set_result(said)

    def _ended(self, ward: children.Ward) -> None:
        record = ward.record
        del self.wards[record.incarnation]
        log.info("node ended", node=record.incarnation, role=record.role, pid=ward.process.pid, exit_code=ward.exit_code)
        self._died(record.node)
        place = self.places.get((record.role, record.index))
        if place is not None and place.ward is ward:
            place.ward = None
            if self._open:
                self._follow(place, ward)

    def _follow(self, place: Place, ward: children.Ward) -> None:
        place.deaths += 1
        if ward.exit_code == report.EXIT_IDLE:
            return
        if ward.leaving or ward.exit_code == report.EXIT_RESTART:
            self._again(place, 0)
            return
        if place.deaths >= START_TRIES:
            where = self._layout.log(ward.record.incarnation)
            self._say(place, report.Report(errors.StartupError.code, f"{place.name} died before it was ready: see {where}"))
        if time.monotonic() - ward.born > HEALTHY_SECONDS:
            place.delays.succeeded()
        self._again(place, delay_after(ward.ready.result() if ward.ready.done() else None, place.delays.failed()))

    def _again(self, place: Place, delay: float) -> None:
        place.timer = asyncio.get_running_loop().call_later(delay, self._start, place)

    def _cancel(self, place: Place) -> None:
        if place.timer is not None:
            place.timer.cancel()
            place.timer = None
