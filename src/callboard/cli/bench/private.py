"""The servers that `bench-engines` measures: private ones with room in memory, as servers have, or a store that somebody gave.

The servers of tests are small; here each gets a cache that a million jobs fit into, and everything is forced to the disk at each
commit, as by default.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol

from callboard import errors
from callboard.testing.engines import activemq, galera, mariadb, postgresql, zookeeper

_MYSQL: Final = ("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M")
_POSTGRESQL: Final = ("shared_buffers=512MB", "max_wal_size=4GB")
_TICK_MILLISECONDS: Final = 500
_BACKLOG: Final = 200_000
"""Unfinished jobs that an ensemble's store takes: more than any measurement leaves."""
BROKER: Final = "activemq"
"""The one that is no store: jobs come from it."""
ROUND_JOBS: Final = {"zookeeper": 5_000}
"""Of each process in a round, where not as many as in databases: an ensemble has all of them in its memory."""
MOST_JOBS: Final = {"zookeeper": 40_000}
"""Of a backlog, where not as many as asked for: fewer than the store takes unless it is told another limit."""


class Served(Protocol):
    """What is measured. Used with `with`; all methods block."""

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def database(self) -> str:
        """Return the URL of a new, empty store."""

    def kill(self) -> None:
        """Kill the server that serves, as a crash does."""

    def start(self) -> None:
        """Start what does not run; wait until it serves."""


class Cluster(galera.Cluster):
    """A cluster of which the first member is killed: the one that everybody writes to."""

    def kill(self, *members: galera.Member) -> None:
        super().kill(*(members or self.members[:1]))

    def close(self) -> None:
        self.kill(*self.members)
        super().close()


class Ensemble(zookeeper.Ensemble):
    """ZooKeeper servers of which the leader is killed. As they have all jobs in their memory, they begin empty for each store."""

    def database(self) -> str:
        self.stop()
        for written in self._ground.directory.glob("data-*/version-*"):
            shutil.rmtree(written)
        self.start()
        return self.url(f"/bench?backlog={_BACKLOG}")

    def kill(self) -> None:
        self.leader().kill()


class Given:
    """A store by its URL, always the same one."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> Given:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def database(self) -> str:
        return self._url

    def kill(self) -> None:
        raise errors.Unsupported("a server that was not started here is not killed")

    start = kill


_INSTALLED: Final[dict[str, Callable[[], str | None]]] = {
    "mariadb": lambda: mariadb.installed() or mariadb.driver(),
    "postgresql": postgresql.installed,
    "galera": lambda: galera.installed() or mariadb.driver(),
    "zookeeper": zookeeper.installed,
}
PRODUCTS: Final = (*_INSTALLED, BROKER)


def open(product: str) -> Served:
    """Return a product's server, not yet started. Raises Unsupported when it is not installed."""
    _check(product, _INSTALLED[product]())
    if product == "mariadb":
        return mariadb.MariaDb(*_MYSQL)
    if product == "galera":
        return Cluster(3, *_MYSQL)
    if product == "zookeeper":
        return Ensemble(tick_milliseconds=_TICK_MILLISECONDS, sync=True)
    return postgresql.PostgreSql(*_POSTGRESQL)


def broker() -> activemq.Broker:
    """Return the message broker, not yet started. Raises Unsupported as `open` does."""
    _check(BROKER, activemq.installed())
    return activemq.Broker()


def _check(product: str, missing: str | None) -> None:
    if missing:
        raise errors.Unsupported(f"{product} cannot be started here: {missing}; 'make engines' installs it")
