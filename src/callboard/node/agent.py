"""The agent: one for a data directory. It starts nodes and keeps them alive, judges them from outside, speaks for their
death to the store and to coordination, keeps the store in order, and is the hub for hints.

`run` is what `callboard up` calls, `stop` what `callboard down` calls. The agent never imports the user's app: what that does
must not stall the one who watches. Killed, or started anew in its own process (`rebirth`), it leaves its nodes at work; the next
one adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec
import structlog
import uvloop

from callboard import errors
from callboard.coordination import presence, sessions
from callboard.jobs import maintenance, model, queue
from callboard.kit import clock, grammar, lifecycle, uuid7
from callboard.names import groups
from callboard.node import (
    children,
    held,
    helm,
    joining,
    layout,
    links,
    liveness,
    nursery,
    obituaries,
    processes,
    published,
    rebirth,
    rosters,
    server_entry,
    shutdown,
    storing,
    survivors,
)
from callboard.settings import ServiceSettings, Settings

LOOK_SECONDS: Final = 0.5
SWEEP_SECONDS: Final = 5.0
"""Between two searches for claims of the dead that nobody announced."""
EXPIRY_SECONDS: Final = 3.0
"""How long a stopping agent tries to end the last claims of those it had to kill."""

OBITUARY_SECONDS: Final = 1.0
"""How long it tries to end their sessions in coordination."""

stop = shutdown.stop

log = structlog.get_logger()

Long = TypeVar("Long", bound=lifecycle.Lifecycle)


class Started(msgspec.Struct, frozen=True):
    """What `callboard up` tells its user."""

    directory: str
    urls: list[str]
    new_key: str | None
    """The admin key, when it was made just now: to be shown once."""
    adopted: int
    """Nodes found at work."""
    again: bool = False
    """Whether the agent had started itself anew."""
    drained: bool = False
    """Whether this server is to run no nodes, as somebody wished."""


class Agent(lifecycle.Lifecycle):
    """The agent of one data directory, in this process. Stopping it stops its nodes; its death does not."""

    def __init__(
        self,
        given: Settings,
        file: published.File = published.NONE,
        again: rebirth.Again | None = None,
        mark: rebirth.Mark | None = None,
    ) -> None:
        """`again` is how it is started anew, `mark` why it was."""
        super().__init__()
        self.helm = helm.Helm(given, file, again or rebirth.Again(), mark)
        self.over = asyncio.Event()
        """Set when it was told to stop."""
        self.hurry = asyncio.Event()
        """Set to cut off the grace time of a stop that is under way."""
        self.started = Started(str(given.directory), given.gateway.urls, None, 0, again=mark is not None)
        self.watcher: asyncio.Task[None] | None = None
        """Ends only by an error, which is a bug: the nodes are left at work then."""
        self._settings = given
        self._layout = layout.Layout(given.directory)
        self._clock = clock.SystemClock()
        self._incarnation = uuid7.make(self._clock.now()).hex()
        self._open = contextlib.AsyncExitStack()
        self._nursery: nursery.Nursery | None = None
        self._expiry: maintenance.Expiry | None = None
        self._obituaries: obituaries.Obituaries | None = None
        self._rosters: rosters.Rosters | None = None
        self._others: survivors.Survivors | None = None
        self._complete = False

    async def _start(self) -> None:
        _check_groups(self._settings.service)
        grammar.check_label(self._settings.site, "site")  # Of an office, too: the site controller's.
        self._layout.prepare()
        lives = self._layout.sessions()
        self._begin_session(lives)
        storing.watch_lock(self._settings, self._open)
        store = await storing.opened(self._settings, self._layout, self._clock, self._open)
        self._expiry = await self._entered(maintenance.Expiry(store, self._expired))
        coordination = await self._entered(joining.late(self._settings, f"agent-{self._incarnation}"))
        self._open.callback(lambda: coordination.leave() if self.helm.left.is_set() else None)
        entry = await self._begin_entry(coordination)
        self._obituaries = await self._entered(obituaries.Obituaries(coordination))
        self._rosters = await self._entered(rosters.Rosters(coordination))
        offices = await self._entered(held.Held(coordination, groups.Groups.parse(self._settings.service.groups)))
        nodes = self._nursery = nursery.Nursery(self._settings, self._layout, self._clock, self._dead)
        self._open.callback(nodes.close)
        others = self._others = survivors.Survivors(
            lives,
            self._layout,
            nodes,
            self._dead,
            owns_store=storing.is_own(self._settings),
            store_url=self._settings.store_url,
            start_seconds=self._settings.agent.start_seconds,
        )
        others.look()
        drained = self._layout.drained.exists()
        self.started = msgspec.structs.replace(self.started, adopted=len(nodes.wards), drained=drained)
        await others.sweep(store)
        self.watcher = asyncio.create_task(self._watch(nodes, others, store), name="watch")
        if not drained:
            nodes.fill()
        self._list()
        if not drained:
            self.started = msgspec.structs.replace(self.started, new_key=await nodes.started())
        kept = self._settings.retention
        await self._entered(maintenance.Maintenance(store, age_seconds=kept.age_seconds, keep=kept.keep, serves=offices.vacant))
        self._complete = True
        self.helm.take(coordination, entry, nodes)
        await self._entered(self.helm)

    async def _begin_entry(self, coordination: joining.LateSession) -> server_entry.ServerEntry:
        given = self._settings
        present = await self._entered(presence.Presence(coordination, self._clock, incarnation=self._incarnation))
        entry = server_entry.ServerEntry(present, server=given.wire.server or "", site=given.site, file=self.helm.file.version)
        await self._entered(entry)
        if given.wire.server:
            linked = await self._entered(links.Links(given, coordination, self._clock))
            await entry.tell(host=linked.address.host, port=linked.address.port)
        return entry

    async def _stop(self) -> None:
        """Also after a failed start: then the nodes that were at work before are left alone, as they are after a bug."""
        try:
            await self.helm.stop()
            if self._nursery is not None and not self.helm.left.is_set():
                await self._stop_nodes(self._nursery)
            if self.watcher is not None:
                self.watcher.cancel()
                await asyncio.wait([self.watcher])
            if self._expiry is not None:
                with contextlib.suppress(TimeoutError):  # The store is away: the next agent finds the claims of the dead.
                    async with asyncio.timeout(EXPIRY_SECONDS):
                        await self._expiry.settled()
                if self._others is not None:
                    self._others.close()
                self._list()
            if self._obituaries is not None:
                with contextlib.suppress(TimeoutError):  # Coordination is away: it will find out by itself.
                    async with asyncio.timeout(OBITUARY_SECONDS):
                        await self._obituaries.settled()
        finally:
            await self._open.aclose()

    async def _stop_nodes(self, nodes: nursery.Nursery) -> None:
        log.info("stopping", nodes=len(nodes.wards))
        broken = self.watcher is not None and self.watcher.done()
        chosen = [ward for ward in nodes.wards.values() if not broken and (self._complete or not ward.adopted)]
        await nodes.stop(chosen, self._settings.worker.grace_seconds + children.STOP_SECONDS, self.hurry)

    async def _watch(self, nodes: nursery.Nursery, others: survivors.Survivors, store: queue.Queue) -> None:
        sweep_at = self._clock.boot() + SWEEP_SECONDS * 1e9
        limits = _limits(self._settings)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            nodes.look(limits)
            others.look()
            self._list()
            if self._clock.boot() >= sweep_at:
                sweep_at = self._clock.boot() + SWEEP_SECONDS * 1e9
                with contextlib.suppress(errors.StoreError, errors.DataUnusable, TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):  # A slow store must not keep it from watching.
                        await others.sweep(store)

    async def _entered(self, part: Long) -> Long:
        await part.start()
        self._open.push_async_callback(part.stop)
        return part

    def _begin_session(self, lives: sessions.ProcessSessions) -> None:
        try:
            session = lives.session(layout.AGENT)
        except errors.AlreadyRunning:
            where = self._layout.directory
            raise errors.AlreadyRunning(
                f"another agent serves {where}: stop it with 'callboard down --data {where}', or name another directory"
            ) from None
        self._open.callback(session.close)
        entry = layout.NodeEntry(
            pid=processes.this().pid,
            pid_started=processes.this().started,
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        session.put(layout.AGENT, msgspec.json.encode(entry))
        self.helm.speak(session, self._incarnation)

    def _list(self) -> None:
        """Have coordination know whom this agent answers for: who lives here, and the dead with claims."""
        if self._rosters is not None and self._expiry is not None and self._others is not None and self._nursery is not None:
            known = self._nursery.wards.keys() if self._stops else self._others.known
            self._rosters.tell({*known, *(node.hex() for node in self._expiry.due)})

    @property
    def _stops(self) -> bool:
        return self.phase is lifecycle.Phase.STOPPED

    def _dead(self, node: bytes) -> None:
        """The kernel has declared a node dead."""
        if self._obituaries is not None:
            self._obituaries.dead(node.hex())
        if self._expiry is not None:
            self._expiry.dead(node)
        self.helm.look()

    def _expired(self, node: bytes, jobs: Sequence[model.Job]) -> None:
        if jobs:
            named = [uuid7.text(job.id) for job in jobs[:100]]
            log.warning("claims of a dead node ended", node=node.hex(), jobs=len(jobs), ids=named)
        if self._others is None or self._stops:
            self._layout.forget(node.hex())
        else:
            self._others.bury(node.hex())


def run(
    given: Settings,
    on_ready: Callable[[Started], None] | None = None,
    *,
    file: published.File = published.NONE,
    again: rebirth.Again | None = None,
) -> None:
    """Serve a data directory until SIGTERM or SIGINT, then stop its nodes; a second signal cuts their grace off. Blocks.

    At SIGUSR2, or when somebody wishes it, the process becomes the agent that `again` starts, if that would start: this does not
    return then. `on_ready` is called once the nodes are ready; `file` is what the settings are from. Raises the CallboardError
    that keeps it from starting: AlreadyRunning, DataUnusable, PortInUse, AppNotFound and other StartupErrors, InvalidSetting,
    StoreErrors. Call in the main thread, with no event loop running.
    """
    mark = rebirth.taken()
    if mark is not None and mark.only == "check":
        return
    made = Agent(given, file, again, mark)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(made, on_ready))
    if made.over.is_set() and (made.helm.left.is_set() or mark is not None):  # Told to stop when nodes may be nobody's.
        rebirth.hold(False)
        with contextlib.suppress(errors.NotRunning):
            shutdown.stop(given.directory, given.worker.grace_seconds)
    elif made.helm.left.is_set():
        rebirth.begin(made.helm.again, made.helm.wish)


async def _serve(agent: Agent, on_ready: Callable[[Started], None] | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: agent.hurry.set() if agent.over.is_set() else agent.over.set())
    loop.add_signal_handler(signal.SIGUSR2, agent.helm.reload_soon)
    rebirth.hold(False)
    signalled = asyncio.create_task(agent.over.wait())
    leaving = asyncio.create_task(agent.helm.left.wait())
    starting = asyncio.create_task(agent.start())
    try:
        await asyncio.wait([starting, signalled], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            agent.helm.left.clear()
            starting.cancel()
            await asyncio.wait([starting])
            return
        starting.result()
        if on_ready is not None:
            on_ready(agent.started)
        assert agent.watcher is not None
        await asyncio.wait([agent.watcher, signalled, leaving], return_when=asyncio.FIRST_COMPLETED)
        if signalled.done():
            agent.helm.left.clear()
        watcher = agent.watcher
        await agent.stop()
        if watcher.done() and not watcher.cancelled():
            watcher.result()
    finally:
        signalled.cancel()
        leaving.cancel()
        rebirth.hold(agent.helm.left.is_set())


def _check_groups(given: ServiceSettings) -> None:
    """Here, so that the user hears of a mistake, and not only the nodes. Raises InvalidSetting, InvalidName."""
    known = groups.Groups.parse(given.groups)
    if given.group is not None and given.group not in known.names:
        raise errors.InvalidSetting(
            f"service.group = {given.group!r} is none of the groups in service.groups: name one of {', '.join(known.names)}"
        )


def _limits(given: Settings) -> liveness.Limits:
    return liveness.Limits(
        stopped_seconds=given.agent.stopped_seconds,
        silent_seconds=given.agent.silent_seconds,
        stall_seconds=given.agent.stall_seconds,
        start_seconds=given.agent.start_seconds,
    )
