"""A database of one or more servers: which of them is used, and connections to it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import pool

from callboard import errors
from callboard.databases import address, lookout, products
from callboard.databases.products import Means
from callboard.kit import urls

GREETING_SECONDS: Final = 0.5
SILENT_SECONDS: Final = 1.0
_SPELL: Final = "correct the host in the URL, or make the name known"
RETURN_SECONDS: Final = 5.0
"""A server that is preferred is used again when it has been fit for so long; how often it is looked at."""


class Database:
    """The servers of one address. The first fit one, in the order of the URL, is used: by all processes the same."""

    def __init__(self, given: address.Address, product: products.Product) -> None:
        self.address = given
        self.product = product
        self.server: products.Server | None = None
        """What the server said that was connected to last."""
        self._silent: dict[urls.Host, float] = {}
        """When servers did not answer while something was in flight."""
        self._made = threading.local()
        self._engine = sa.create_engine(
            product.url,
            creator=self._take,
            poolclass=pool.NullPool,
            pool_reset_on_return=None,
            hide_parameters=True,  # They are people's data: no error tells them.
            **product.engine_options(),
        )
        self.returns = Returns(self)

    @property
    def galera(self) -> bool:
        """Whether it is a Galera cluster: known after the first connection."""
        return self.server is not None and self.server.galera

    def connect(self) -> sa.Connection:
        """Connect to the first fit server. `connection.info["host"]` says which it is. Its transactions are READ COMMITTED.

        Each host is tried once. Raises StoreUnavailable when none can be used for now, StoreRefused and StoreUnfit when none
        can before somebody changes something.
        """
        failures: list[errors.StoreError] = []
        second: tuple[Any, urls.Host, products.Server] | None = None
        for host in self._order():
            try:
                raw, server = self._reach(host)
            except errors.StoreError as error:
                failures.append(error)
                continue
            if not server.reluctant:
                if second is not None:
                    _drop(second[0])
                return self._adopt(raw, host, server)
            if second is None:
                second = raw, host, server
            else:
                _drop(raw)
        if second is not None:
            return self._adopt(*second)
        raise _telling(failures)

    @contextlib.contextmanager
    def visit(self) -> Iterator[sa.Connection]:
        """Connect for a while, looked after: whoever waits for an answer of a server that is gone gets an error."""
        with self.connect() as on, self.guard(on.connection.driver_connection, on.info["host"]):
            yield on

    def better(self, host: urls.Host) -> bool:
        """Whether a server that is preferred to `host` has been fit for some time: connect anew to move there."""
        return host != self.address.hosts[0] and self.returns.due(host, time.monotonic())

    def translated(self, error: BaseException, host: urls.Host | None = None) -> errors.StoreError:
        """Make a driver's error ours, in one line."""
        product = self.product
        means = product.means(error)
        place = self._named(host) if host else self.address.shown
        kind = products.ERRORS.get(means, errors.StoreUnavailable)
        return self._wrong(kind, f"{place}: {product.told(error)}", product.mend(error))

    @staticmethod
    def _wrong(kind: type[errors.StoreError], what: str, mend: str) -> errors.StoreError:
        """Return an error of what is wrong and what mends it; `data["mend"]` is the latter, where there is any."""
        return kind(f"{what}: {mend}", mend=mend) if mend else kind(what)

    def guard(self, raw: Any, host: urls.Host) -> lookout.Guard:
        """Return what lets the lookout cut a connection when its server is frozen or gone."""
        return lookout.Guard(self.product.descriptor(raw), host, lambda: self._alive(host))

    def fit(self, host: urls.Host) -> bool:
        """Whether a server could be used now."""
        try:
            raw, server = self._reach(host)
        except errors.StoreError:
            return False
        _drop(raw)
        return not server.reluctant

    def _order(self) -> list[urls.Host]:
        """The hosts, with those last that have just been silent: waiting for them once more would cost time."""
        now = time.monotonic()
        return sorted(self.address.hosts, key=lambda host: now - self._silent.get(host, float("-inf")) < SILENT_SECONDS)

    def _alive(self, host: urls.Host) -> bool:
        """Called in the lookout's thread."""
        try:
            alive = self.product.alive(host)
        except socket.gaierror:
            alive = False
        if not alive:
            self._silent[host] = time.monotonic()
        return alive

    def _reach(self, host: urls.Host) -> tuple[Any, products.Server]:
        product = self.product
        try:
            greeted = product.greets(host, GREETING_SECONDS)
        except socket.gaierror:
            raise self._wrong(errors.StoreUnavailable, f"{self._named(host)} is no name that leads anywhere", _SPELL) from None
        if not greeted:
            raise self._wrong(errors.StoreUnavailable, f"{self._named(host)} does not answer", "is it running?")
        raw = None
        try:
            raw = product.connect(host)
            with self.guard(raw, host):
                server = product.examine(raw)
                if server.away or server.unfit:
                    kind = errors.StoreUnavailable if server.away else errors.StoreUnfit
                    what, _, mend = (server.away or server.unfit).rpartition(": ")
                    raise self._wrong(kind, f"{self._named(host)}: {what or mend}", mend if what else "")
                product.prepare(raw, server)
        except Exception as error:
            if raw is not None:
                _drop(raw)
            if isinstance(error, errors.CallboardError) or product.means(error) is Means.BUG:
                raise
            raise self.translated(error, host) from None
        return raw, server

    def _named(self, host: urls.Host) -> str:
        return f"{self.address.scheme} at {urls.written(host)}"

    def _adopt(self, raw: Any, host: urls.Host, server: products.Server) -> sa.Connection:
        self._made.raw = raw
        try:
            with self.guard(raw, host):
                on = self._engine.connect()
        except BaseException as error:
            _drop(raw)
            cause = getattr(error, "orig", error)
            if isinstance(cause, Exception) and self.product.means(cause) is not Means.BUG:
                raise self.translated(cause, host) from None
            raise
        on.info["host"] = host
        on.info["token"] = self.product.token(raw)
        self.server = server
        return on

    def _take(self) -> Any:
        raw, self._made.raw = self._made.raw, None
        return raw


class Returns:
    """Notices when a preferred server is fit again. It is looked at as an errand of the lookout's."""

    def __init__(self, of: Database) -> None:
        self._of = of
        self._looked = float("-inf")
        self._fit_since: dict[urls.Host, float] = {}

    def due(self, host: urls.Host, now: float) -> bool:
        """Whether a server that is preferred to `host` has been fit for long enough. Has it looked at when that was long ago."""
        if now - self._looked >= RETURN_SECONDS:
            self._looked = now
            lookout.shared.errand(self, lambda: self.look(host, time.monotonic()))
        return any(now - self._fit_since[each] >= RETURN_SECONDS for each in self._preferred(host) if each in self._fit_since)

    def look(self, host: urls.Host, now: float) -> None:
        """Look at the servers that are preferred to `host`."""
        for each in self._preferred(host):
            if self._of.fit(each):
                self._fit_since.setdefault(each, now)
            else:
                self._fit_since.pop(each, None)

    def _preferred(self, host: urls.Host) -> tuple[urls.Host, ...]:
        hosts = self._of.address.hosts
        return hosts[: hosts.index(host)]


def _drop(raw: Any) -> None:
    """Close a driver's connection, whatever state it is in."""
    with contextlib.suppress(Exception):  # Drivers complain of one that broke before.
        raw.close()


def _telling(failures: list[errors.StoreError]) -> errors.StoreError:
    """The error that stands for those of all hosts: one that passes by itself, if any does."""
    passing = [each for each in failures if each.retryable]
    first = (passing or failures)[0]
    return type(first)("; ".join(each.message for each in passing or failures[:1]), **first.data)
