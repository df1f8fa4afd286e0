"""The memory engine: a lock around the tables, units that are applied or taken back, and the reads."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines.memory import reads, verbs
from callboard.jobs.engines.memory.tables import NEVER, Key, Tables


class Store:
    """Tables and the lock that whoever reads or writes them holds: for one unit, or for one read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tables = Tables()


class MemoryEngine:
    """An engine on a `Store`; several may share one. Any thread may call anything at any time."""

    name = "memory"
    abilities = seam.Abilities(durable=False, shared=False)

    def __init__(self, store: Store) -> None:
        self._store: Store | None = store

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        store = self._opened()
        for unit in units:
            for op in unit:
                if type(op) not in verbs.VERBS:
                    raise errors.Unsupported(f"the memory engine has no operation {type(op).__name__}", engine=self.name)
        return [_apply(store, unit) for unit in units]

    def get(self, keys: Sequence[Key]) -> list[model.Job | None]:
        store = self._opened()
        with store.lock:
            return [store.tables.job(*key) for key in keys]

    def states(self, keys: Sequence[Key]) -> list[tuple[model.State, int] | None]:
        return [None if job is None else (job.state, job.run) for job in self.get(keys)]

    def attempt_errors(self, domain: str, id: bytes) -> list[model.AttemptError]:
        store = self._opened()
        with store.lock:
            return list(store.tables.errors.get((domain, id), ()))

    def find(self, filter: seam.Filter, limit: int, cursor: bytes | None = None) -> seam.Page:
        store = self._opened()
        with store.lock:
            keys, following = reads.find(store.tables, filter, limit, cursor)
            return seam.Page([store.tables.rows[key].job for key in keys], following)

    def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        store = self._opened()
        with store.lock:
            return reads.counts(store.tables, domain, subtree)

    def ready(self, takes: Sequence[seam.Take], now: int) -> bool:
        store = self._opened()
        with store.lock:
            return reads.ready(store.tables, takes, now)

    def claimants(self) -> list[tuple[bytes, int]]:
        store = self._opened()
        with store.lock:
            return reads.claimants(store.tables)

    def documents(self, domain: str, prefix: str) -> list[model.Document]:
        store = self._opened()
        with store.lock:
            return [
                model.Document(domain, path, written.version, written.body)
                for path, written in sorted(store.tables.documents.get(domain, {}).items())
                if written.body is not None and path.startswith(prefix)
            ]

    def document(self, domain: str, path: str) -> model.Document:
        store = self._opened()
        with store.lock:
            written = store.tables.documents.get(domain, {}).get(path, NEVER)
        return model.Document(domain, path, written.version, written.body or b"")

    def domains(self) -> list[str]:
        store = self._opened()
        with store.lock:
            return reads.domains(store.tables)

    def close(self) -> None:
        self._store = None

    def _opened(self) -> Store:
        store = self._store
        if store is None:
            raise errors.StoreUnavailable("this memory store was closed: open it again")
        return store


def _apply(store: Store, unit: seam.Unit) -> seam.UnitResult:
    results: list[seam.Result] = []
    with store.lock:
        try:
            for index, op in enumerate(unit):
                result = verbs.VERBS[type(op)](store.tables, op)
                if isinstance(result, verbs.FAILURES):
                    store.tables.take_back()
                    return seam.Refused(index, result)
                results.append(result)
        except BaseException:
            store.tables.take_back()
            raise
        store.tables.keep()
    return results
