"""The MySQL store: `mysql://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE`. `open` is its entry point.

What is not the product's own is in `jobs.engines.sql`; connections, hosts and errors are the affair of `callboard.databases`.
"""

from __future__ import annotations

from callboard import databases
from callboard.jobs import engines
from callboard.jobs.engines.mysql import dialect
from callboard.jobs.engines.sql import engine, migrations


def open(url: str) -> engine.SqlEngine:
    """Open a database, making the tables when there are none.

    Raises InvalidSetting, StoreRefused, StoreUnfit, StoreTooNew, StoreUnavailable.
    """
    at = databases.open(url)
    product = dialect.MySql()
    migrations.prepare(at, product)
    return engine.SqlEngine(at, product)


def migrate(url: str) -> engines.Migrated:
    """Take the steps that the database's schema lacks; see `migrations`. Raises as `open`."""
    return engines.Migrated(*migrations.migrate(databases.open(url), dialect.MySql()))
