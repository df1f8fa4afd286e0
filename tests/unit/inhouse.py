"""One node's table with callers in the same process: names and calls without sockets, for tests of what is above them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from callboard import errors
from callboard.app import services
from callboard.coordination import presence
from callboard.coordination.engines import memory
from callboard.kit import clock, codec, grammar
from callboard.names import groups, model
from callboard.roles import offices, service
from callboard.rpc import broadcast, frames, network, serving

INCARNATION = "a" * 32
ADDRESS = network.Address(INCARNATION, "127.0.0.1", 1)


class Inhouse:
    """A `services.Caller` that knows one node: its own table. `calls` counts."""

    def __init__(self, incarnation: str = INCARNATION) -> None:
        self.table = serving.Table(incarnation)
        self.clock = clock.SystemClock()
        self.calls = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    async def call(
        self, name: str, method: str, args: bytes, *, timeout: float = 10.0, domain: str = grammar.DEFAULT_DOMAIN
    ) -> bytes:
        self.calls += 1
        self.loop = asyncio.get_running_loop()
        parsed = model.parse(name, domain)
        request = frames.Request(
            self.calls, parsed.label, parsed.domain, method, 0, round(timeout * 1e6), args, parsed.incarnation
        )
        deadline = self.clock.boot() + round(timeout * 1e9)
        told = serving.Call(request.name, parsed.domain, method, 0, INCARNATION, deadline, {})
        async with asyncio.timeout(timeout):
            answer = await self.table.serve(request, told)
        assert isinstance(answer, bytes)
        return answer

    async def broadcast(
        self, target: str, method: str, args: bytes, *, mode: str = "all", timeout: float = 10.0
    ) -> list[broadcast.Outcome]:
        label = model.parse_target(target).label
        member = f"{label}/{self.table.incarnation}"
        try:
            return [broadcast.Outcome(member, "ok", await self.call(member, method, args, timeout=timeout))]
        except errors.CallboardError as error:
            return [broadcast.Outcome(member, "error", None, error.code, error.message)]

    async def ask(self, name: str, method: str, **args: Any) -> Any:
        """Call, with plain arguments and a plain result."""
        result = await self.call(name, method, codec.pack_trusted(args) if args else b"")
        return codec.unpack(result) if result else None


class Candidate:
    """A node that stands for offices at a site in memory."""

    def __init__(self, site: memory.Site, incarnation: str, grouping: groups.Groups, order: int = 0) -> None:
        self.node = Inhouse(incarnation)
        self.incarnation = incarnation
        self.engine = memory.MemoryEngine(site, session_seconds=1.0)
        self.groups = grouping
        self.order = order
        self.preempt = True
        self.services: list[service.Service] = []

    async def start(self, declared: Mapping[str, services.Declared]) -> None:
        self.session = await self.engine.session(f"node-{self.incarnation}")
        self.presence = presence.Presence(self.session, self.node.clock)
        await self.presence.start()
        for each in declared.values():
            made = service.Service(each, clock=self.node.clock, candidacy=self.candidacy())
            self.services.append(made)
            self.node.table.add(made)
            await made.start()

    def candidacy(self) -> offices.Candidacy:
        return offices.Candidacy(
            presence=self.presence,
            groups=self.groups,
            stands_for=self.groups.names,
            order=self.order,
            preempt=self.preempt,
            address=lambda: network.Address(self.incarnation, "127.0.0.1", 1),
        )

    async def stop(self) -> None:
        for each in self.services:
            await each.stop()
        await self.presence.stop()
        await self.session.close()
        await self.engine.close()
