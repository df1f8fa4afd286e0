"""Database servers to be broken, whichever product they are, and what each needs by itself to serve again.

A `Victim` is a server of a product, or one node of a cluster. How long it needs by itself is seen through a bare connection of
the driver's: when that one has written, the database is back, and Callboard's own time begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, Literal, Protocol

import pytest
from kazoo import client as kazoo
from kazoo import exceptions
from kazoo.handlers import threading as handlers

from callboard.client import Client
from callboard.databases import address
from callboard.kit import urls
from callboard.testing.engines import galera, mariadb, postgresql, zookeeper
from tests.faults.deployment import Deployment, boot

How = Literal["kill", "freeze", "restart"]
BACK_SECONDS = 30.0
END_SECONDS = 20.0
Measured = Callable[[str, float, float], None]
_DRIVERS = {"mysql": "MySQLdb", "postgresql": "psycopg"}
_PROBE = "/callboard_probe"
SESSION_SECONDS = 3.0
TRY_SECONDS = 1.0
"""In which a server of an ensemble takes a session, and a write, or is tried anew."""


class Breakable(Protocol):
    """A server, or several that are broken as one."""

    @property
    def frozen(self) -> bool: ...

    def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def stop(self) -> None: ...

    def cont(self) -> None: ...


class Members:
    """Servers of a ZooKeeper ensemble: `member` is one that follows, `leader` the one that leads when it comes to it, `all`."""

    def __init__(self, ensemble: zookeeper.Ensemble, which: str) -> None:
        self._ensemble = ensemble
        self._which = which
        self._chosen: list[zookeeper.Member] = []

    @property
    def frozen(self) -> bool:
        return any(member.frozen for member in self._chosen)

    def kill(self) -> None:
        self._each("kill")

    def freeze(self) -> None:
        self._each("freeze")

    def stop(self) -> None:
        self._each("stop")

    def cont(self) -> None:
        self._each("cont")

    def _each(self, what: str) -> None:
        """The leader last: it has nobody to lead by then, and nobody takes its place meanwhile."""
        if what != "cont":
            self._chosen = self._choice()
        for member in self._chosen:
            getattr(member, what)()

    def _choice(self) -> list[zookeeper.Member]:
        if self._which == "all":
            return list(self._ensemble.members)
        leader = self._ensemble.leader()
        return [leader] if self._which == "leader" else self._ensemble.followers()[:1]


class Victim:
    """One server, and the database on it that a deployment works on."""

    def __init__(self, name: str, url: str, server: Breakable, start: Callable[[], None], bare: str | None = None) -> None:
        """`start` starts what does not run, and waits; `bare` names servers of a cluster which go on without it."""
        self.name = name
        self.url = url
        self.server = server
        self.replaced = bare is not None
        """Whether others go on while it is broken."""
        self.bare = bare or url
        self._start = start

    def break_(self, how: How) -> None:
        """Kill it, freeze it, or stop it in order."""
        {"kill": self.server.kill, "freeze": self.server.freeze, "restart": self.server.stop}[how]()

    def set_read_only(self, on: bool) -> None:
        """Have it refuse to write, or write again. Not for clusters."""
        if isinstance(self.server, postgresql.PostgreSql):
            self.server.sql(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
            self.server.sql("SELECT pg_reload_conf()")
        else:
            assert isinstance(self.server, mariadb.MariaDb)
            self.server.sql(f"SET GLOBAL read_only = {int(on)}")

    def mend(self) -> int:
        """Let it go on, or start it; return when it was told to (CLOCK_BOOTTIME)."""
        at = boot()
        if self.server.frozen:
            self.server.cont()
        else:
            self._start()
        return at


def victims(*names: str, long: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test for each of some servers; for those in `long`, in its long form alone.

    They are `mariadb`, `postgresql`, the nodes of a cluster (`galera-1` is the one that all write at), and those of an ensemble:
    `zookeeper-member`, `zookeeper-leader`, `zookeeper-all`.
    """
    given = [pytest.param(name, marks=_marks(name, long=False)) for name in names]
    given += [pytest.param(name, marks=_marks(name, long=True)) for name in long]
    return pytest.mark.parametrize("victim", given, indirect=True)


def stores(*short: str) -> pytest.MarkDecorator:
    """Run tests on a file in the data directory and on those named, and in their long form on all others too."""
    names = ("zookeeper", "mariadb", "postgresql", "galera-1")
    others = [pytest.param(name, marks=_marks(name, long=name not in short)) for name in names]
    return pytest.mark.parametrize("store", [pytest.param(None, id="file"), *others], indirect=True)


def _marks(name: str, *, long: bool) -> list[pytest.MarkDecorator]:
    group = pytest.mark.xdist_group(name.partition("-")[0])
    return [group, pytest.mark.long] if long else [group]


def made(name: str, fixture: Callable[[str], Any]) -> Victim:
    """Return the server of that name, with a new database; `fixture` gives the private servers."""
    product, _, node = name.partition("-")
    server = fixture(product)
    if product == "zookeeper":
        url = probed(server.url(f"/faults-{time.time_ns()}"))
        return Victim(name, url, Members(server, node or "all"), server.start, None if node in ("", "all") else url)
    return of_galera(server, int(node) - 1) if node else Victim(name, probed(server.database()), server, server.start)


def of_galera(cluster: galera.Cluster, node: int) -> Victim:
    """Bare connections go to the other nodes, which serve while this one does not."""
    url = probed(cluster.database())
    place = address.parsed(url)
    healthy = [host for number, host in enumerate(place.hosts) if number != node]
    others = urls.places(healthy)
    bare = url.replace(urls.places(place.hosts), others)
    return Victim(f"galera-{node + 1}", url, cluster.members[node], cluster.start, bare)


def back(url: str, seconds: float = BACK_SECONDS) -> int:
    """Wait until a bare connection to the first host that takes it has written; return when (CLOCK_BOOTTIME). Blocks."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _touched(url) if url.startswith("zookeeper:") else _inserted(url):
            return boot()
        time.sleep(0.01)
    raise TimeoutError(f"{', '.join(hosts(url))} cannot be written within {seconds:g} s")


def hosts(url: str) -> list[str]:
    """Return the servers that a URL names, each with its port."""
    found = re.match(r"\w+://(?:[^/@]*@)?([^/?]+)", url)
    assert found, url
    return found[1].split(",")


async def works_again(deployment: Deployment, bare: str, what: str, bound: float, measured: Measured) -> int:
    """A new job ends within so many seconds after a bare connection could write; return when it could (CLOCK_BOOTTIME)."""
    at = await asyncio.to_thread(back, bare)
    urls, key = deployment.access()
    async with Client(urls, key, timeout=END_SECONDS) as client:
        receipt = await client.submit(f"{deployment.APP}.nap", {})
        deployment.acknowledged.append(receipt.id)
        await client.wait(receipt.id, END_SECONDS)
    measured(f"{what}, back to the next job's end", (boot() - at) / 1e9, bound)
    return at


async def judged(deployment: Deployment) -> None:
    """End what is held: each job has run once, under its first claim."""
    deployment.release()
    jobs = await deployment.finished()
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 0, 1)}
    verdict = await deployment.verdict()
    assert not verdict.faults and not verdict.repeated


def probed(url: str) -> str:
    """Make what bare connections write; return the URL."""
    if url.startswith("zookeeper:"):
        with _session(hosts(url)) as session:
            session.ensure_path(_PROBE)
        return url
    place = address.parsed(url)
    driver = importlib.import_module(_DRIVERS[place.product])
    with contextlib.closing(_connected(driver, place, place.hosts[0])) as raw:
        _write(raw, "CREATE TABLE callboard_probe (at BIGINT NOT NULL PRIMARY KEY)", ())
    return url


def _inserted(url: str) -> bool:
    place = address.parsed(url)
    driver = importlib.import_module(_DRIVERS[place.product])
    for host in place.hosts:
        with contextlib.suppress(driver.Error), contextlib.closing(_connected(driver, place, host)) as raw:
            _write(raw, "INSERT INTO callboard_probe VALUES (%s)", (time.time_ns(),))
            return True
    return False


def _touched(url: str) -> bool:
    """Write through every server at once, so that a frozen one holds nobody up; tell whether one of them took it."""
    tries = hosts(url)
    pool = futures.ThreadPoolExecutor(len(tries))
    try:
        return any(each.result() for each in futures.as_completed([pool.submit(_touched_through, host) for host in tries]))
    finally:
        pool.shutdown(wait=False)


def _touched_through(host: str) -> bool:
    with contextlib.suppress(handlers.KazooTimeoutError, exceptions.KazooException), _session([host]) as session:
        session.set_async(_PROBE, str(time.time_ns()).encode()).get(timeout=TRY_SECONDS)
        return True
    return False


@contextlib.contextmanager
def _session(at: Sequence[str]) -> Iterator[Any]:
    """A bare session with one of these servers."""
    made = kazoo.KazooClient(",".join(at), timeout=SESSION_SECONDS)
    made.start(timeout=TRY_SECONDS)
    try:
        yield made
    finally:
        made.stop()
        made.close()


def _connected(driver: Any, place: address.Address, host: urls.Host) -> Any:
    where = {"host": host[0], "port": host[1], "user": place.user, "password": place.password}
    if place.product == "postgresql":
        return driver.connect(**where, dbname=place.name, connect_timeout=2)
    return driver.connect(**where, database=place.name, connect_timeout=1, read_timeout=10)


def _write(raw: Any, text: str, values: Sequence[Any]) -> None:
    with contextlib.closing(raw.cursor()) as cursor:
        cursor.execute(text, values)
    raw.commit()
