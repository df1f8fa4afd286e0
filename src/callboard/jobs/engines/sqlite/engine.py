"""The SQLite engine: two connections, one lock, transactions, checkpoints, and SQLite's errors turned into ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import apsw

from callboard.jobs import engine as seam
from callboard.jobs.engines import reading
from callboard.jobs.engines.sqlite import files, lock, reads, writes

T = TypeVar("T")

CHECKPOINT_PAGES: Final = 4_000
"""Pages in the write-ahead log (16 MiB) from which a commit is followed by a checkpoint that waits for nobody."""
RESTART_PAGES: Final = 16_000
"""Pages (64 MiB) from which the log is also begun anew, which waits for readers while writers are held off."""
WRITER_CACHE_KIB: Final = 16_384
READER_CACHE_KIB: Final = 4_096

before_commit: Callable[[], None] | None = None
"""Called with the write lock held and everything written, just before COMMIT: where tests freeze or kill a process."""


class SqliteEngine(reading.Reading):
    """See `callboard.jobs.engine.Engine`. `apply` takes the writers' lock, so all processes' commits queue in fair order."""

    name = "sqlite"
    abilities = seam.Abilities(durable=True, shared=True)

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = lock.WriteLock(path.with_name(path.name + ".lock"))
        self._reading = threading.Lock()
        self._closed = False
        self._open()

    def _open(self) -> None:
        self._writer = files.connect(self.path, cache_kib=WRITER_CACHE_KIB)
        self._reader = files.connect(self.path, cache_kib=READER_CACHE_KIB)
        self._wal_pages = 0
        self._writer.set_wal_hook(self._count_pages)
        self._writes = writes.Writes(self._writer)
        self._reads = reads.Reads(self._reader)

    def _count_pages(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    # Writing

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        try:
            groups = self._writes.prepare(units)
            with self._lock:
                results = self._transaction(groups)
                if self._wal_pages > RESTART_PAGES:
                    self._checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
            self._writes.finish()
            if self._wal_pages > CHECKPOINT_PAGES:
                self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            raise files.translated(error, self.path) from None
        return results

    def _transaction(self, groups: Sequence[writes.Group]) -> list[seam.UnitResult]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            results = self._writes.apply(groups)
            if before_commit is not None:
                before_commit()
        except BaseException:
            self._roll_back()
            raise
        try:
            self._writer.execute("COMMIT")
        except apsw.Error as error:
            self._roll_back()
            translated = files.translated(error, self.path)
            translated.data["unknown"] = isinstance(error, apsw.IOError)
            raise translated from None
        return results

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        self._writes.rolled_back()

    def _checkpoint(self, mode: int) -> None:
        """Move the log's pages into the database. A failure changes nothing that was acknowledged: the next one tries again."""
        try:
            remaining, moved = self._writer.wal_checkpoint(mode=mode)
        except apsw.Error:
            return
        self._wal_pages = max(remaining - moved, 0)

    # Reading

    def _read(self, question: Callable[[seam.Reads], T]) -> T:
        with self._reading:
            try:
                self._reader.execute("BEGIN")
                try:
                    return question(self._reads)
                finally:
                    self._reader.execute("COMMIT")
            except apsw.Error as error:
                raise files.translated(error, self.path) from None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._writer.close()
            self._reader.close()
            self._lock.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()
