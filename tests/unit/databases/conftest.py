"""A product whose servers are told what they are; behind each is an SQLite database in memory."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from callboard.databases import address, database, lookout, products
from callboard.databases.products import Means
from callboard.kit import urls


class Hosts:
    """See `products.Product`. `servers` says what each host is: a `Server`, or the error that it answers a login with."""

    name = "fake"
    url = "sqlite://"
    marks = ""

    def __init__(self) -> None:
        self.servers: dict[urls.Host, products.Server | Exception | None] = {}
        self.connections: list[sqlite3.Connection] = []
        self.given_up = 0
        self.answering = True

    def engine_options(self) -> dict[str, Any]:
        return {}

    def greets(self, host: urls.Host, seconds: float) -> bool:
        return self.servers[host] is not None

    def connect(self, host: urls.Host) -> Any:
        said = self.servers[host]
        if isinstance(said, Exception):
            raise said
        raw = _Raw(":memory:")
        raw.server = said
        raw.of = self
        self.connections.append(raw)
        return raw

    def examine(self, raw: Any) -> products.Server:
        return raw.server

    def prepare(self, raw: Any, server: products.Server) -> None:
        pass

    def token(self, raw: Any) -> str:
        return "token"

    def descriptor(self, raw: Any) -> int:
        return 0

    def alive(self, host: urls.Host) -> bool:
        return self.answering

    def means(self, error: BaseException) -> Means:
        return Means.REFUSED if isinstance(error, PermissionError) else Means.LOST if isinstance(error, OSError) else Means.BUG

    def told(self, error: BaseException) -> str:
        return str(error)

    def mend(self, error: BaseException) -> str:
        return "ask" if isinstance(error, PermissionError) else ""


class _Raw(sqlite3.Connection):
    server: Any
    of: Hosts

    def close(self) -> None:
        self.of.given_up += 1
        super().close()


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def three(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> database.Database:
    """A database of the hosts one, two and three, all fit."""
    monkeypatch.setattr(database.Database, "guard", lambda *_: _Unguarded())
    monkeypatch.setattr(lookout.shared, "errand", lambda *_: None)
    given = address.parsed("mysql://u:secret@one,two,three/n")
    hosts.servers = dict.fromkeys(given.hosts, products.Server("1"))
    return database.Database(given, hosts)


class _Unguarded:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
