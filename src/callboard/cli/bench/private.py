"""The servers that `bench-engines` measures: private ones with room in memory, as servers have, or a store that somebody gave.

The servers of tests are small; here each gets a cache that a million jobs fit into, and everything is forced to the disk at each
commit, as by default.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol

from callboard import errors
from callboard.testing.engines import galera, mariadb, postgresql

_MYSQL: Final = ("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M")
_POSTGRESQL: Final = ("shared_buffers=512MB", "max_wal_size=4GB")


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
}
PRODUCTS: Final = tuple(_INSTALLED)


def open(product: str) -> Served:
    """Return a product's server, not yet started. Raises Unsupported when it is not installed."""
    if missing := _INSTALLED[product]():
        raise errors.Unsupported(f"{product} cannot be started here: {missing}; 'make engines' installs it")
    if product == "mariadb":
        return mariadb.MariaDb(*_MYSQL)
    if product == "galera":
        return Cluster(3, *_MYSQL)
    return postgresql.PostgreSql(*_POSTGRESQL)
