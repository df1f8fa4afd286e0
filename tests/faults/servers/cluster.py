"""Three servers from one file, each in a network namespace of its own: a ZooKeeper server, a Galera node, and Callboard's agent.

Started once and used by several tests, each on a loop of its own. Clients are outside, and reach every gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.names import model
from callboard.node import layout
from callboard.rpc import certs
from callboard.testing.engines import galera, places, zookeeper
from tests.faults import breaking, epochs
from tests.faults.book import Book
from tests.faults.deployment import CALLBOARD, ROOT, Deployment, Eventually, Node, boot
from tests.faults.servers import chronicle

T = TypeVar("T")
PORT: Final = 8321
SLOTS: Final = 16
NAMES: Final = ("one", "two", "three")
ROLES: Final = ("gateway", "service", "worker")
OWN_ROLES: Final = ("domain-controller", "gateway", "registry", "service", "worker")
"""Of the first server, which has nodes of their own for what gateways do at the others."""
OFFICES: Final = frozenset(
    {"billing.main", "billing.north", "domain-controller.main", "domain-controller.north", "site-controller.main"}
)
SESSION_SECONDS: Final = 3.0
LEASE_SECONDS: Final = 3.0
START_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 60.0
ASK_SECONDS: Final = 1.0
FILE: Final = """\
version = 1
cluster = "fleet"
app = "tests.faults.servers.shop:app"
store.url = "{store}"
coordination.url = "{coordination}"
wire.certificates = "{certificates}"
worker = {{ count = 1, slots = {slots} }}
service.count = 1
gateway.port = {port}

[groups]
main = ["."]
north = ["north"]
"""
SERVER: Final = """
[servers.{name}]
address = "{address}"
data = "{data}"
gateway.host = "{address}"
"""
OWN: Final = "registry.count = 1\ncontroller.count = 1\n"


class Server(Deployment):
    """One of them: what Callboard runs there, and what it stands on."""

    def __init__(self, cluster: Cluster, name: str, host: places.Host) -> None:
        notes = cluster.notes / name
        notes.mkdir()
        super().__init__(notes / "data", notes, _not_in_use)
        self.name = name
        self.roles = ROLES if cluster.servers else OWN_ROLES
        self.host = host
        self.prefix = host.prefix
        self.zookeeper = cluster.ensemble.members[NAMES.index(name)]
        self.galera = cluster.galera.members[NAMES.index(name)]
        self._cluster = cluster
        self.book = cluster.book
        self.acknowledged, self.killed = cluster.acknowledged, cluster.killed
        self._environment |= {
            "CALLBOARD_TEST_LEDGER": str(cluster.book.file),
            "CALLBOARD_TEST_EPOCHS": str(cluster.notes / "epochs"),
        }

    async def start(self) -> Any:
        """Start its agent, which adopts what is there; return what it printed."""
        await self.close()
        command = [CALLBOARD, "agent", "--config", self._cluster.file, "--server", self.name, "--json"]
        return await self._started(command, ROOT, START_SECONDS)

    def access(self) -> tuple[list[str], str | None]:
        """All gateways of the cluster."""
        return self._cluster.urls, super().access()[1]

    def note(self, id: str, asked: int, created: bool) -> None:
        at = boot()
        self._cluster.chronicle.note(chronicle.Acknowledged(id=id, asked=asked, at=at, created=created))

    def complete(self) -> bool:
        """Whether its agent and all of its nodes live."""
        running = self.agent is not None and self.agent.poll() is None
        return running and [node.role for node in self.nodes()] == list(self.roles)

    def node(self, role: str) -> Node:
        """The one of a role. Fails when there is none."""
        (found,) = self.nodes(role)
        return found

    def changed(self, old: Sequence[Node]) -> Callable[[], bool]:
        """Return the condition that it is complete, and that all of these nodes are gone."""
        return lambda: self.complete() and not set(old) & set(self.nodes())

    def worker(self) -> int:
        """The pid of its worker, which holds its jobs."""
        return self.node("worker").pid

    def sessions(self) -> set[str]:
        """The sessions in coordination of its nodes."""
        return {layout.session_name(node.incarnation) for node in self.nodes()}

    def given_up(self) -> None:
        """Say that its nodes are rightly taken for dead, though they live."""
        self.killed.update(node.pid for node in self.nodes())

    def power_off(self) -> int:
        """Cut its links, and stop everything on it where it is; it will be taken for dead. Returns CLOCK_BOOTTIME just before."""
        at = boot()
        self.host.cut()
        for each in (self.zookeeper, self.galera):
            each.freeze()
        self.freeze_all()
        return at

    def power_on(self) -> None:
        """Let it go on where it was."""
        for each in (self.zookeeper, self.galera):
            each.cont()
        self.thaw_all()
        self.host.heal()


class Office(msgspec.Struct, frozen=True):
    """An office that is held."""

    epoch: int
    incarnation: str
    server: str


class Cluster:
    """See the module's text. `used` starts it; `close` takes it away."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes
        self.book = Book(notes / "ledger")
        self.accepted = epochs.Ledger(notes / "epochs")
        self.acknowledged: list[str] = []
        self.killed: set[int] = set()
        self.chronicle = chronicle.Chronicle(notes / "clients")
        self.servers: list[Server] = []
        self._sessions: list[seam.Session] = []
        self._gates = itertools.count()
        self._open = contextlib.ExitStack()
        try:
            self._stand()
        except BaseException:
            self._open.close()
            raise

    def _stand(self) -> None:
        """Have the network, ZooKeeper and Galera up, and the file written."""
        self.network = self._open.enter_context(places.Network(len(NAMES)))
        self.ensemble = self._open.enter_context(zookeeper.Ensemble(hosts=self.network.hosts))
        self.galera = self._open.enter_context(galera.Cluster(hosts=self.network.hosts))
        self.store = breaking.probed(self.galera.database())
        self.file = self.notes / "cluster.toml"
        certificates = self.notes / "certificates"
        certs.init(certificates)
        for name in NAMES:
            certs.issue(certificates, name)
        text = FILE.format(
            store=self.store,
            coordination=self.ensemble.url("/fleet"),
            certificates=certificates,
            slots=SLOTS,
            port=PORT,
        )
        for name, host in zip(NAMES, self.network.hosts, strict=True):
            made = Server(self, name, host)
            text += SERVER.format(name=name, address=host.address, data=made.data) + ("" if self.servers else OWN)
            self.servers.append(made)
            self._open.callback(made.sweep)
        self.file.write_text(text)

    def close(self) -> None:
        """Kill all of it, and take the network away. Allowed twice."""
        self._open.close()

    @contextlib.asynccontextmanager
    async def used(self, eventually: Eventually) -> AsyncIterator[None]:
        """Have all of it up for a test; what was acknowledged and seen before is the tests' before."""
        self.acknowledged.clear()
        self.chronicle.events.clear()
        async with contextlib.AsyncExitStack() as open_:
            gate = self.notes / f"gate-{next(self._gates)}"
            for each in self.servers:
                each.eventually, each.gate = eventually, gate
                open_.push_async_callback(each.close)
            for number, member in enumerate(self.ensemble.members):
                await open_.enter_async_context(self._asking(number, member))
            for each in self.servers:
                if each.agent is None or each.agent.poll() is not None:
                    await each.start()
                else:
                    each.connect()
            await self.settle(eventually)
            try:
                yield
            finally:
                await asyncio.to_thread(self.mend)

    def mend(self) -> None:
        """Let everything go on that a test has left cut off, frozen or dead, but for agents, which the next test starts."""
        self.network.heal()
        for member in self.ensemble.members:
            member.cont()
        for each in self.servers:
            if each.agent is not None and each.agent.poll() is None:
                each.thaw_all()
        self.ensemble.start()
        self.galera.mend()

    @contextlib.asynccontextmanager
    async def _asking(self, number: int, member: zookeeper.Member) -> AsyncIterator[None]:
        """Have a session with one server of the ensemble, to ask it what it knows."""
        coordination = engines.open(f"zookeeper://{member.address}:{member.port}/fleet")
        session = await coordination.session(f"test-{number}")
        self._sessions.append(session)
        try:
            yield
        finally:
            self._sessions.remove(session)
            await session.close()
            await coordination.close()

    async def settle(self, eventually: Eventually) -> None:
        """Wait until everybody lives and every office is held by one who does."""
        try:
            await eventually(self.whole, SETTLE_SECONDS)
        except BaseException:
            print(*(f"{each.name}: {each.nodes()}\n{each.log()}" for each in self.servers), await self.offices(), sep="\n")
            raise

    # What it is made of

    @property
    def urls(self) -> list[str]:
        """All gateways."""
        return [f"http://{host.address}:{PORT}" for host in self.network.hosts]

    def others(self, *gone: Server) -> list[Server]:
        return [each for each in self.servers if each not in gone]

    def bare(self, *gone: Server) -> str:
        """The database's URL, without the nodes of some servers."""
        hosts = self.galera.hosts
        left = ",".join(f"{each.galera.address}:{each.galera.port}" for each in self.others(*gone))
        return self.store.replace(hosts, left)

    def holder(self, office: Office) -> tuple[Server, Node]:
        """Return who holds an office: the server, and the node there."""
        server = next(each for each in self.servers if each.name == office.server)
        return server, next(node for node in server.nodes() if node.incarnation == office.incarnation)

    # What coordination says

    async def whole(self) -> bool:
        """Whether everybody lives, is told of, and every office is held by one who does."""
        if not all(each.complete() for each in self.servers):
            return False
        living = {node.incarnation for each in self.servers for node in each.nodes()}
        known = await self._asked(lambda session: session.entries(model.NODES))
        held = await self.offices()
        mine = {office.incarnation for office in held.values()}
        return {entry.name for entry in known} == living and held.keys() >= OFFICES and mine <= living

    async def offices(self) -> dict[str, Office]:
        """Return the offices that are held, by name."""
        found = {}
        for entry in await self._asked(lambda session: session.entries(model.ACTIVE)):
            told = msgspec.json.decode(entry.body, type=model.Office)
            found[entry.name] = Office(entry.number, told.incarnation, told.server)
        return found

    async def gone(self, sessions: Collection[str]) -> bool:
        """Whether ZooKeeper has ended these sessions, as far as any of its servers knows."""
        told = await asyncio.gather(*(_within(each.sessions()) for each in self._sessions))
        return any(names is not None and not set(sessions) & set(names) for names in told)

    async def _asked(self, question: Callable[[seam.Session], Coroutine[Any, Any, Sequence[T]]]) -> Sequence[T]:
        """Return the first answer that any server of the ensemble gives; nothing when none does."""
        for session in self._sessions:
            found = await _within(question(session))
            if found is not None:
                return found
        return ()

    # Judgement

    async def verdict(self) -> dict[str, list[str]]:
        """Wait until all is finished that was acknowledged, and judge all that was seen: by clients, in handlers, in services."""
        at = self.servers[0]
        jobs = await at.finished(SETTLE_SECONDS)
        lines = self.accepted.lines()
        ran = [line.mark for line in lines if line.mark]
        found = dict(at.judged(jobs).faults)
        found |= chronicle.faults(self.chronicle.events, ran)
        found |= {"epochs": late} if (late := epochs.faults(lines)) else {}
        return found


async def _within(asked: Coroutine[Any, Any, T]) -> T | None:
    with contextlib.suppress(TimeoutError, Exception):
        async with asyncio.timeout(ASK_SECONDS):
            return await asked
    return None


async def _not_in_use(condition: Callable[[], object], seconds: float = 0) -> None:
    raise AssertionError("outside of `used` nothing is waited for")
