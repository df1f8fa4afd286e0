"""A deployment whose services are called all the time, and what the callers saw."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from callboard import errors
from callboard.cli.bench import joined
from callboard.coordination import election, engines
from callboard.coordination import engine as seam
from callboard.names import resolver
from callboard.node import layout
from callboard.rpc import doors, peers
from tests.faults import epochs
from tests.faults.deployment import Deployment, Eventually, Node, boot

NODES = 6
CALLERS = 3
PAUSE_SECONDS = 0.003
SETTLE_SECONDS = 30.0
TIMEOUT_SECONDS = 10.0


class Answer(msgspec.Struct, frozen=True):
    """Who answered, and when (CLOCK_BOOTTIME, ns) the call was made and came to its end."""

    pid: int
    epoch: int
    asked: int
    at: int


class Failure(msgspec.Struct, frozen=True):
    """What a caller was told instead, and when."""

    code: str
    ran: str
    asked: int
    at: int


class Seen:
    """What callers of one method saw, each making one call after another."""

    def __init__(self, callers: int) -> None:
        self.answers: list[list[Answer]] = [[] for _ in range(callers)]
        self.failures: list[Failure] = []

    def all(self) -> list[Answer]:
        """Return the answers of all callers, by the time that they came."""
        return sorted((answer for each in self.answers for answer in each), key=lambda answer: answer.at)

    def epochs(self) -> set[int]:
        return {answer.epoch for answer in self.all()}

    def begun(self) -> bool:
        return all(self.answers)

    def under_another(self, epoch: int) -> bool:
        """Whether every caller was answered under another epoch last."""
        return all(each[-1].epoch != epoch for each in self.answers)

    def asked_after(self, at: int) -> bool:
        """Whether every caller was answered what it asked after a time."""
        return all(each[-1].asked > at for each in self.answers)

    @property
    def longest_gap(self) -> float:
        """Seconds that one caller was without an answer at most."""
        pairs = (pair for each in self.answers for pair in itertools.pairwise(each))
        return max(((after.at - before.at) / 1e9 for before, after in pairs), default=0.0)

    def went_back(self) -> bool:
        """Whether anybody was answered under an epoch after somebody was under a later one."""
        said = [answer.epoch for answer in self.all()]
        return said != sorted(said)


class Named(Deployment):
    """Two service nodes, two registries, a worker and a gateway. One is used by several tests, each on a loop of its own."""

    APP = "named"

    def __init__(self, data: Path, notes: Path, coordination: str | None) -> None:
        super().__init__(data, notes, _not_in_use)
        self._options = ["--services", "2"]
        # The registries shall act on what is frozen or hangs, not the agent.
        given = {"registry.count": 2, "agent.stopped_seconds": 60, "agent.silent_seconds": 60, "coordination.url": coordination}
        for name, value in given.items():
            if value is not None:
                self._options += ["--set", f"{name}={value}"]
        self._coordination = coordination or f"local://{data}/coordination"
        self._session: seam.Session | None = None
        self._names: resolver.Resolver | None = None
        self._wire: peers.Peers | None = None
        self._ledger = epochs.Ledger(self.book.file)
        self._gates = itertools.count()
        self._frozen: set[int] = set()

    @property
    def names(self) -> resolver.Resolver:
        """The resolver of this process, which takes part in the wire without being a node."""
        assert self._names is not None
        return self._names

    @contextlib.asynccontextmanager
    async def used(self, eventually: Eventually) -> AsyncIterator[None]:
        """Have it up, and this process joined; at the end let go on what was stopped. Ledger and acknowledgements begin anew."""
        self.eventually = eventually
        self.acknowledged.clear()
        self._ledger = epochs.Ledger(self.book.file)
        if self.agent is None or self.agent.poll() is not None:
            await self.start()
        coordination = engines.open(self._coordination)
        self._session = await coordination.session("test")
        try:
            async with joined.names(self.data) as self._names, joined.wire(self.data) as self._wire:
                yield
        finally:
            self.wake()
            await self.close()
            await self._session.close()
            await coordination.close()

    async def start(self) -> Any:
        """Start an agent; return what it printed."""
        return await self.up(*self._options, workers=1, slots=8)

    async def call(self, method: str, name: str = "billing", timeout: float = TIMEOUT_SECONDS, **args: Any) -> dict[str, int]:
        """Call a method through this process's resolver."""
        return _decode(await self.names.call(name, method, msgspec.msgpack.encode(args), timeout=timeout))

    async def settled(self) -> tuple[Node, int]:
        """Wait until everything runs, an instance serves and another one stands by; return its node and the epoch."""
        assert self._session
        session = self._session
        found: list[tuple[Node, int]] = []

        async def whole() -> bool:
            with contextlib.suppress(errors.CallboardError):
                said = await self.call("who", timeout=0.5)
                hosts = self.nodes("service")
                found[:] = [(host, said["epoch"]) for host in hosts if host.pid == said["pid"]]
                candidates = await session.entries(election.CANDIDATES)  # Those for a domain controller's office, too.
                standing = [each for each in candidates if each.name.startswith("billing.")]
                return bool(found) and len(standing) == len(hosts) and len(self.nodes()) == NODES
            return False

        await self.eventually(whole, SETTLE_SECONDS)
        return found[0]

    async def idle(self) -> bool:
        """Whether nobody is active just now."""
        try:
            await self.call("who", timeout=0.1)
        except errors.CallboardError as error:  # A busy machine may answer too late.
            return isinstance(error, errors.NotActive)
        return False

    async def refuses(self, node: Node, epoch: int) -> bool:
        """Whether a node is in reach and refuses what is meant for an epoch."""
        assert self._wire
        door = next(each for each in doors.Doors(layout.Layout(self.data).nodes).read() if each.incarnation == node.incarnation)
        args = msgspec.msgpack.encode({})
        try:
            said = await self._wire.request(
                door.address, label="billing", domain="main", method="who", args=args, epoch=epoch, timeout=1
            )
        except errors.CallboardError as error:
            return isinstance(error, (errors.WrongEpoch, errors.NotActive, errors.LeaseUnconfirmed))
        raise AssertionError(f"accepted under {epoch}: {said!r}")

    @contextlib.asynccontextmanager
    async def callers(self, name: str = "billing", timeout: float = TIMEOUT_SECONDS, count: int = CALLERS) -> AsyncIterator[Seen]:
        """Call the idempotent method of a service all the time meanwhile."""
        seen = Seen(count)
        tasks = [asyncio.create_task(self._ask(seen, answers, name, timeout)) for answers in seen.answers]
        try:
            await self.eventually(seen.begun)
            yield seen
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _ask(self, seen: Seen, answers: list[Answer], name: str, timeout: float) -> None:
        while True:
            asked = boot()
            try:
                said = await self.call("who", name, timeout)
            except errors.CallboardError as error:
                seen.failures.append(Failure(error.code, str(error.data.get("ran")), asked, boot()))
            else:
                answers.append(Answer(said["pid"], said["epoch"], asked, boot()))
            await asyncio.sleep(PAUSE_SECONDS)

    def freeze(self, pid: int) -> int:
        """Stop a process until `wake`; return CLOCK_BOOTTIME just before."""
        self._frozen.add(pid)
        return self.kill(pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let everybody go on who is stopped."""
        while self._frozen:
            with contextlib.suppress(AssertionError, ProcessLookupError):  # It may have died meanwhile.
                self.kill(self._frozen.pop(), signal.SIGCONT)

    def new_gate(self) -> Path:
        """Return a file that does not exist: methods wait for it."""
        return self.gate.with_name(f"gate-{next(self._gates)}")

    # What services wrote down

    def lines(self) -> list[epochs.Line]:
        return self._ledger.lines()

    def marked(self, mark: str) -> list[epochs.Line]:
        """Return what methods wrote down under marks that begin so."""
        return [line for line in self.lines() if line.mark.startswith(mark)]

    def faults(self) -> list[str]:
        """Return what was accepted too late."""
        return epochs.faults(self.lines())


async def _not_in_use(condition: Callable[[], object], seconds: float = 0) -> None:
    raise AssertionError("outside of `used` nothing is waited for")


_decode: Callable[[bytes], dict[str, int]] = msgspec.msgpack.Decoder(dict[str, int]).decode
