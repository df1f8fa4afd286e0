"""The tables of the stores and the bridge in docs/reference/engines.md: what stores declare, and measured figures.

The figures are those of docs/reference/engines.json, which `make bench-engines` writes; what was not measured is said to be so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from callboard.jobs import engine as seam
from callboard.jobs.engines.memory import engine as memory
from callboard.jobs.engines.sql import engine as sql
from callboard.jobs.engines.sqlite import engine as sqlite
from callboard.jobs.engines.zookeeper import engine as zookeeper

FIGURES: Final = Path(__file__).resolve().parent.parent / "docs" / "reference" / "engines.json"


class Store(NamedTuple):
    """What a reader is told of a store, beside what it declares and what was measured."""

    name: str
    abilities: seam.Abilities
    survives: str
    install: str
    choose: str
    measured: str = ""
    """Its name among the figures."""
    instead: str = ""
    """What stands where it has no figures."""


STORES: Final = (
    Store(
        "`memory:`",
        memory.MemoryEngine.abilities,
        "nothing",
        "nothing",
        "tests and trials",
        instead="not measured",
    ),
    Store(
        "`sqlite:`, the default",
        sqlite.SqliteEngine.abilities,
        "every process, the machine's restart, a loss of power",
        "nothing",
        "one machine is enough",
        instead="[performance](performance.md#goals-and-what-was-reached)",
    ),
    Store(
        "`mysql:` on MariaDB or MySQL",
        sql.SqlEngine.abilities,
        "every process and machine of Callboard's; the server's restart and loss of power",
        "`callboard[mysql]`, MariaDB 10.6 or MySQL 8.0",
        "several machines, and you run MySQL or MariaDB",
        "mariadb",
    ),
    Store(
        "`mysql:` on Galera",
        sql.SqlEngine.abilities,
        "the same, and the loss of any one server for good; of two, once a person says so",
        "`callboard[mysql]`, three MariaDB servers",
        "no single server may stop the work",
        "galera",
    ),
    Store(
        "`postgresql:`",
        sql.SqlEngine.abilities,
        "every process and machine of Callboard's; the server's restart and loss of power; its loss, with a synchronous standby",
        "`callboard[postgresql]`, PostgreSQL 13",
        "several machines, and you run PostgreSQL",
        "postgresql",
    ),
    Store(
        "`zookeeper:`",
        zookeeper.ZooKeeperEngine.abilities,
        "every process and machine of Callboard's; the loss of any one of three servers for good; a loss of power of all",
        "`callboard[zookeeper]`, three servers of ZooKeeper 3.6",
        "you run ZooKeeper and no database, and the backlog is [short](../howto/engines/zookeeper.md)",
        "zookeeper",
    ),
)
ABILITIES: Final = {
    "durable": "durable",
    "shared": "several processes",
    "machines": "several machines",
    "transactional_submit": "[submit in your own transaction](../howto/transactions.md)",
    "age_seconds": "keeps finished jobs [as long as is set](../howto/retention.md)",
}
MEASURED: Final = {
    "end to end": "no-op jobs from submission to the stored result, two workers",
    "submit to start, p50": "submission to start, idle, p50",
    "kill: recovery": "server killed: recovery",
    "kill: first job after it": "server killed: first job after that",
}
"""Figures by what the bench calls them, and what the table does."""


BRIDGE: Final = {
    "bridge": "no-op jobs from the broker's message to its acknowledgement, two workers, the store a file",
    "message to start, p50": "message sent to start, idle, p50",
}
"""The same of the bridge from ActiveMQ."""


def lines() -> Iterator[str]:
    """Return the table: a column for each store."""
    figures = _figures()
    yield _row("", [store.name for store in STORES])
    yield _row("---", ["---"] * len(STORES))
    for ability, said in ABILITIES.items():
        yield _row(said, [_able(store.abilities, ability) for store in STORES])
    yield _row("survives", [store.survives for store in STORES])
    for what, said in MEASURED.items():
        yield _row(said, [_figure(figures, store, what) for store in STORES])
    yield _row("to install", [store.install for store in STORES])
    yield _row("choose it when", [store.choose for store in STORES])


def bridge() -> Iterator[str]:
    """Return the table of the bridge's figures."""
    figures = _figures()
    yield _row("", ["`activemq:`"])
    yield _row("---", ["---"])
    for what, said in BRIDGE.items():
        yield _row(said, [_measured(figures, "activemq", what)])


def _figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    return found


def _able(abilities: seam.Abilities, ability: str) -> str:
    value = getattr(abilities, ability)
    if ability == "age_seconds":
        return "yes" if value is None else f"{value / 60:g} minutes at most"
    return "yes" if value else "no"


def _row(first: str, cells: list[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _figure(figures: dict[str, Any], store: Store, what: str) -> str:
    if not store.measured:
        return "there is no server" if what.startswith("kill") else store.instead
    return _measured(figures, store.measured, what)


def _measured(figures: dict[str, Any], product: str, what: str) -> str:
    for row in figures.get(product, ()):
        if row["what"] == what:
            between = f" ({row['least']:,.15g} to {row['greatest']:,.15g})" if row["least"] != row["greatest"] else ""
            return f"{row['median']:,.15g} {row['unit']}{between}"
    return "not measured yet"
