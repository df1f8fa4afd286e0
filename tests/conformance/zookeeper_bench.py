"""A bench for the shipped suite on a real ensemble: every client reaches it through forwarders of its own, which can be cut."""

from __future__ import annotations

import asyncio
import itertools
import time
from types import TracebackType

from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.testing.conformance.coordination import bench
from callboard.testing.engines import zookeeper as zookeepers

SECONDS = 2.5
_numbers = itertools.count()


class Forwarder:
    """A port that leads to another one, and can be made to let nothing through, without a word."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._target = port
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry(reader, far_writer))
                    both.create_task(self._carry(far_reader, writer))
            finally:
                far_writer.close()
        except* OSError:
            pass  # The server is down, or one side has hung up.
        finally:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


class ZooKeeperBench(bench.Bench):
    """One root of an ensemble."""

    def __init__(self, ensemble: zookeepers.Ensemble) -> None:
        root = f"/suite-{time.time_ns()}-{next(_numbers)}"
        abilities = (bench.PROCESSES, bench.EXPIRY, bench.CUT, bench.LEADER, bench.QUORUM)
        super().__init__(ensemble.url(root), session_seconds=SECONDS, abilities=abilities)
        self._ensemble = ensemble
        self._root = root
        self._forwarders: list[list[Forwarder]] = []
        self._ways: dict[seam.Session, list[Forwarder]] = {}

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for forwarder in itertools.chain(*self._forwarders):
            forwarder.heal()
        await super().__aexit__(kind, error, trace)
        for forwarder in itertools.chain(*self._forwarders):
            await forwarder.stop()

    async def session(self, named: str = "") -> seam.Session:
        way = [Forwarder(member.port) for member in self._ensemble.members]
        self._forwarders.append(way)
        for forwarder in way:
            await forwarder.start()
        hosts = ",".join(f"127.0.0.1:{forwarder.port}" for forwarder in way)
        engine = engines.open(f"zookeeper://{hosts}{self._root}", session_seconds=self.session_seconds)
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
        self._ensemble.leader().kill()

    async def lose_quorum(self) -> None:
        await asyncio.to_thread(self._ensemble.stop)

    async def regain_quorum(self) -> None:
        await asyncio.to_thread(self._ensemble.start)
