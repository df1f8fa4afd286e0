"""The memory engine: a lock around the tables, units that are applied or taken back, and the reads."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines.memory import verbs
from callboard.jobs.engines.memory.tables import NEVER, Key, Tables
from callboard.kit import grammar

LOOKED_AT: Final = 2_000
"""Jobs that one page of `find` looks at, at most."""


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
        found: list[model.Job] = []
        with store.lock:
            last = None
            for looked, key in enumerate(_newest(store.tables, filter, cursor)):
                if len(found) >= limit or looked >= LOOKED_AT:
                    return seam.Page(found, last)
                job = store.tables.rows[key].job
                last = job.id + job.domain.encode()
                if _matches(job, filter):
                    found.append(job)
        return seam.Page(found, None)

    def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        store = self._opened()
        with store.lock:
            return [
                model.Count(inner, queue, kind, lane, state, number)
                for inner, numbers in store.tables.numbers.items()
                if inner == domain or (subtree and grammar.inside(inner, domain))
                for (queue, kind, lane, state), number in numbers.items()
            ]

    def ready(self, takes: Sequence[seam.Take], now: int) -> bool:
        store = self._opened()
        with store.lock:
            tables = store.tables
            return any(
                bucket in tables.ready or any(due[0] <= now for due in islice(tables.due.get(bucket, ()), 1))
                for take in takes
                if take.limit > 0
                for bucket in verbs.buckets(take)
            )

    def claimants(self) -> list[tuple[bytes, int]]:
        store = self._opened()
        with store.lock:
            return [(node, store.tables.renewed.get(node, 0)) for (node,) in store.tables.running]

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
            written = store.tables.documents.items()
            documented = {domain for domain, paths in written if any(last.body is not None for last in paths.values())}
            return sorted(documented.union(store.tables.ids))

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


def _newest(tables: Tables, filter: seam.Filter, cursor: bytes | None) -> Iterator[Key]:
    """Yield the keys of the filter's domains below the cursor, by descending (id, domain)."""
    below = None if cursor is None else _read_cursor(cursor)
    domains = [filter.domain]
    if filter.subtree:
        domains = [domain for domain in tables.ids if grammar.inside(domain, filter.domain)]
    merged = heapq.merge(*(_below(tables, domain, below) for domain in domains), reverse=True)
    return ((domain, id) for id, domain in merged)


def _below(tables: Tables, domain: str, below: tuple[bytes, str] | None) -> Iterator[tuple[bytes, str]]:
    ids = tables.ids.get(domain)
    if ids is None:
        return
    # An id may exist in several domains: those that sort before the cursor's domain still have the cursor's own id to come.
    start = None if below is None else below[0] + b"\x00" * (domain < below[1])
    for id in ids.below(start):
        yield id, domain


def _read_cursor(cursor: bytes) -> tuple[bytes, str]:
    try:
        domain = cursor[16:].decode()
        return cursor[:16], grammar.check_domain(domain)
    except (UnicodeDecodeError, errors.InvalidName):
        raise errors.InvalidInput("the cursor is not one that a page gave: begin again without it") from None


def _matches(job: model.Job, filter: seam.Filter) -> bool:
    return (
        (filter.states is None or job.state in filter.states)
        and (filter.kind is None or job.kind == filter.kind)
        and (filter.queue is None or job.queue == filter.queue)
        and (filter.tag is None or filter.tag in job.tags)
    )
