"""The SQLite store: one file, any number of processes of one machine. `open` is its entry point.

`files` opens and checks the file, `lock` queues the writers, `schema` holds the tables, `routes` their dictionaries,
`statements` has the texts that `writes` runs inside a transaction, `reads` answers questions, `engine` ties them to the seam.
"""

from __future__ import annotations

from callboard.jobs import engines
from callboard.jobs.engines.sqlite import engine, files, schema


def open(url: str) -> engine.SqliteEngine:
    """Open `sqlite:///absolute/path.db` (or `sqlite:relative.db`), making the file when it is not there.

    Raises InvalidSetting, DataUnusable, NetworkFileSystem, StoreForeign, StoreTooNew, StoreCorrupt, StoreFull.
    """
    path = files.path_of(url)
    files.prepare(path)
    return engine.SqliteEngine(path)


def migrate(url: str) -> engines.Migrated:
    """Make sure that the file has this version's schema: there is only one so far. Raises as `open`."""
    files.prepare(files.path_of(url))
    return engines.Migrated(schema.VERSION, schema.VERSION, schema.MIN_READER)
