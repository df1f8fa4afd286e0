"""A bench for the shipped suite on a real database server, or a cluster: every client reaches it through forwarders of its own,
which can be cut."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from callboard import databases
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.databases import address
from callboard.kit import urls
from callboard.testing.conformance.coordination import bench
from tests.conformance import zookeeper_bench

SECONDS = 2.0
ABILITIES = (bench.PROCESSES, bench.EXPIRY, bench.CUT, bench.LEADER, bench.QUORUM)


TABLES = ("callboard_coordination", "callboard_sessions", "callboard_folders", "callboard_entries")


class Server(Protocol):
    """A private server, or a cluster, as `callboard.testing.engines` has them."""

    def url(self) -> str: ...

    def start(self) -> None: ...


class SqlBench(bench.Bench):
    """A database that knows nothing of coordination. `crash` is what `lose_leader` does: the server is killed, and another one,
    or itself started again, serves; `fail` lets nobody serve until `start`."""

    def __init__(self, server: Server, *, crash: Callable[[], None], fail: Callable[[], None]) -> None:
        super().__init__(server.url(), session_seconds=SECONDS, abilities=ABILITIES)
        self._server = server
        self._crash = crash
        self._fail = fail
        self._forwarders: list[list[zookeeper_bench.Forwarder]] = []
        self._ways: dict[seam.Session, list[zookeeper_bench.Forwarder]] = {}

    async def __aenter__(self) -> bench.Bench:
        await asyncio.to_thread(clear, self.url)
        return await super().__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for forwarder in itertools.chain(*self._forwarders):
            forwarder.heal()
        await super().__aexit__(kind, error, trace)
        for forwarder in itertools.chain(*self._forwarders):
            await forwarder.stop()

    async def session(self, named: str = "") -> seam.Session:
        place = address.parsed(self.url)
        way = [zookeeper_bench.Forwarder(port) for _, port in place.hosts]
        self._forwarders.append(way)
        for forwarder in way:
            await forwarder.start()
        before, after = (",".join(f"{host}:{port}" for host, port in hosts) for hosts in (place.hosts, self._near(way)))
        engine = engines.open(self.url.replace(before, after), session_seconds=self.session_seconds)
        session = await engine.session(named or bench.name())
        self._ends.append(session.close)
        self._ways[session] = way
        return session

    async def cut(self, session: seam.Session) -> None:
        for forwarder in self._ways[session]:
            forwarder.cut()

    async def heal(self, session: seam.Session) -> None:
        for forwarder in self._ways[session]:
            forwarder.heal()

    async def lose_leader(self) -> None:
        await asyncio.to_thread(self._crash)

    async def lose_quorum(self) -> None:
        await asyncio.to_thread(self._fail)

    async def regain_quorum(self) -> None:
        await asyncio.to_thread(self._server.start)

    def _near(self, way: Sequence[zookeeper_bench.Forwarder]) -> list[urls.Host]:
        return [("127.0.0.1", forwarder.port) for forwarder in way]


def clear(url: str) -> None:
    """Take away the tables: cheaper than a database for each promise, and PostgreSQL looks at each one after a crash."""
    on = databases.open(url).connect()
    for table in TABLES:
        on.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    on.commit()
    on.close()
