"""Database servers to be broken, whichever product they are, and what each needs by itself to serve again.

A `Victim` is a server of a product, or one node of a cluster. How long it needs by itself is seen through a bare connection of
the driver's: when that one has written, the database is back, and Callboard's own time begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from callboard.client import Client
from callboard.databases import address
from callboard.testing.engines import galera, mariadb, postgresql, servers
from tests.faults.deployment import Deployment, boot

How = Literal["kill", "freeze", "restart"]
BACK_SECONDS = 30.0
END_SECONDS = 20.0
Measured = Callable[[str, float, float], None]
_DRIVERS = {"mysql": "MySQLdb", "postgresql": "psycopg"}


class Victim:
    """One server, and the database on it that a deployment works on."""

    def __init__(self, name: str, url: str, server: servers.Server, start: Callable[[], None], bare: str | None = None) -> None:
        """`start` starts what does not run, and waits; `bare` names the other servers of a cluster, which go on without it."""
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

    They are `mariadb`, `postgresql`, and the nodes of a cluster: `galera-1` is the one that all write at.
    """
    given = [pytest.param(name, marks=_marks(name, long=False)) for name in names]
    given += [pytest.param(name, marks=_marks(name, long=True)) for name in long]
    return pytest.mark.parametrize("victim", given, indirect=True)


def stores() -> pytest.MarkDecorator:
    """Run tests on a file in the data directory, and in their long form on all databases too."""
    databases = [pytest.param(name, marks=_marks(name, long=True)) for name in ("mariadb", "postgresql", "galera-1")]
    return pytest.mark.parametrize("store", [pytest.param(None, id="file"), *databases], indirect=True)


def _marks(name: str, *, long: bool) -> list[pytest.MarkDecorator]:
    group = pytest.mark.xdist_group(name.partition("-")[0])
    return [group, pytest.mark.long] if long else [group]


def made(name: str, fixture: Callable[[str], Any]) -> Victim:
    """Return the server of that name, with a new database; `fixture` gives the private servers."""
    product, _, node = name.partition("-")
    server = fixture(product)
    return of_galera(server, int(node) - 1) if node else Victim(name, probed(server.database()), server, server.start)


def of_galera(cluster: galera.Cluster, node: int) -> Victim:
    """Bare connections go to the other nodes, which serve while this one does not."""
    url = probed(cluster.database())
    place = address.parsed(url)
    healthy = [host for number, host in enumerate(place.hosts) if number != node]
    others = ",".join(map(address.written, healthy))
    bare = url.replace(",".join(map(address.written, place.hosts)), others)
    return Victim(f"galera-{node + 1}", url, cluster.members[node], cluster.start, bare)


def back(url: str, seconds: float = BACK_SECONDS) -> int:
    """Wait until a bare connection to the first host that takes it has written; return when (CLOCK_BOOTTIME). Blocks."""
    place = address.parsed(url)
    driver = importlib.import_module(_DRIVERS[place.product])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for host in place.hosts:
            with contextlib.suppress(driver.Error), contextlib.closing(_connected(driver, place, host)) as raw:
                _write(raw, "INSERT INTO callboard_probe VALUES (%s)", (time.time_ns(),))
                return boot()
        time.sleep(0.01)
    raise TimeoutError(f"{place.shown} cannot be written within {seconds:g} s")


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
    """Make the table that bare connections write; return the URL."""
    place = address.parsed(url)
    driver = importlib.import_module(_DRIVERS[place.product])
    with contextlib.closing(_connected(driver, place, place.hosts[0])) as raw:
        _write(raw, "CREATE TABLE callboard_probe (at BIGINT NOT NULL PRIMARY KEY)", ())
    return url


def _connected(driver: Any, place: address.Address, host: address.Host) -> Any:
    where = {"host": host[0], "port": host[1], "user": place.user, "password": place.password}
    if place.product == "postgresql":
        return driver.connect(**where, dbname=place.name, connect_timeout=2)
    return driver.connect(**where, database=place.name, connect_timeout=1, read_timeout=10)


def _write(raw: Any, text: str, values: Sequence[Any]) -> None:
    with contextlib.closing(raw.cursor()) as cursor:
        cursor.execute(text, values)
    raw.commit()
