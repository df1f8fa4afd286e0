"""What the memory engine keeps: rows, the indexes over them, documents, and how a unit is taken back.

Every change of a job goes through `write`, which keeps the indexes right and remembers the opposite until `keep` or
`take_back`. No index is ever scanned past what is asked for. Knows the fields of a job and decides nothing; locks are the
engine's. `engine`, `verbs` and `reads` use this; so does an engine whose processes hold a replica of what is stored elsewhere.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import msgspec

from callboard.jobs import model
from callboard.jobs.model import State

RUN_LENGTH: Final = 1_000

Key = tuple[str, bytes]
Bucket = tuple[Any, ...]
Item = TypeVar("Item", bound=Any)


class Ordered(Generic[Item]):
    """A sorted set held in runs of bounded length, so that a change moves few items, however many there are."""

    __slots__ = ("_lasts", "_runs")

    def __init__(self) -> None:
        self._runs: list[list[Item]] = []
        self._lasts: list[Item] = []

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def __iter__(self) -> Iterator[Item]:
        for run in self._runs:
            yield from run

    def add(self, item: Item) -> None:
        if not self._runs:
            self._runs.append([item])
            self._lasts.append(item)
            return
        at = min(bisect.bisect_left(self._lasts, item), len(self._runs) - 1)
        run = self._runs[at]
        bisect.insort(run, item)
        if len(run) > RUN_LENGTH:
            half = len(run) // 2
            self._runs.insert(at + 1, run[half:])
            self._lasts.insert(at + 1, run[-1])
            del run[half:]
        self._lasts[at] = run[-1]

    def remove(self, item: Item) -> None:
        at = bisect.bisect_left(self._lasts, item)
        run = self._runs[at]
        del run[bisect.bisect_left(run, item)]
        if run:
            self._lasts[at] = run[-1]
        else:
            del self._runs[at], self._lasts[at]

    def below(self, item: Item | None) -> Iterator[Item]:
        """Yield what is less than `item` (everything for None), the greatest first."""
        if item is None:
            at, within = len(self._runs), 0
        else:
            at = bisect.bisect_left(self._lasts, item)
            within = bisect.bisect_left(self._runs[at], item) if at < len(self._runs) else 0
        if within:
            yield from reversed(self._runs[at][:within])
        for run in reversed(self._runs[:at]):
            yield from reversed(run)


class Row(msgspec.Struct, frozen=True):
    """A job and its place in the order of arrival."""

    seq: int
    job: model.Job


class Written(msgspec.Struct, frozen=True):
    """A document's last version; body None once removed."""

    version: int
    body: bytes | None


NEVER: Final = Written(0, None)
"""What is found where nothing was ever written."""


class Tables:
    """All that one store holds. The indexes are read by the engine and written here only."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.ids: dict[str, Ordered[bytes]] = {}
        """By domain."""
        self.ready: dict[Bucket, Ordered[tuple[int, int, int, Key]]] = {}
        """AVAILABLE, by (domain, queue, lane, kind, version): (priority, run_at, seq, key)."""
        self.due: dict[Bucket, Ordered[tuple[int, int, Key]]] = {}
        """SCHEDULED and RETRYABLE, by the same: (run_at, seq, key)."""
        self.running: dict[Bucket, Ordered[tuple[int, Key]]] = {}
        """RUNNING, by (node,): (seq, key)."""
        self.finished: dict[Bucket, Ordered[tuple[int, int, Key]]] = {}
        """Terminal, by (domain,): (finished_at, seq, key)."""
        self.numbers: dict[str, dict[tuple[str, str, model.Lane, State], int]] = {}
        """How many, by domain and (queue, kind, lane, state); never 0."""
        self.errors: dict[Key, tuple[model.AttemptError, ...]] = {}
        self.documents: dict[str, dict[str, Written]] = {}
        self.renewed: dict[bytes, int] = {}
        self._seq = 0
        self._back: list[Callable[[], object]] = []

    def job(self, domain: str, id: bytes) -> model.Job | None:
        row = self.rows.get((domain, id))
        return None if row is None else row.job

    def write(self, job: model.Job) -> None:
        """Store a job, new or changed."""
        key = job.key
        old = self.rows.get(key)
        if old is None:
            self._seq += 1
        self._change(key, old, Row(self._seq if old is None else old.seq, job))

    def remove(self, key: Key) -> None:
        """Forget a job and its errors."""
        self._change(key, self.rows[key], None)
        if key in self.errors:
            self._back.append(partial(self.errors.__setitem__, key, self.errors.pop(key)))

    def append_error(self, key: Key, error: model.AttemptError) -> None:
        old = self.errors.get(key)
        self.errors[key] = (*(old or ()), error)
        self._back.append(partial(_restore, self.errors, key, old))

    def write_document(self, domain: str, path: str, written: Written) -> None:
        documents = self.documents.setdefault(domain, {})
        self._back.append(partial(_restore, documents, path, documents.get(path)))
        documents[path] = written

    def write_renewed(self, node: bytes, now: int | None) -> None:
        """Remember when a node renewed; forget it for None."""
        self._back.append(partial(_restore, self.renewed, node, self.renewed.get(node)))
        _restore(self.renewed, node, now)

    def first(self, fronts: Iterable[Iterable[Item]], number: int) -> list[Item]:
        """Return the first items of several sorted ones: what a claim, or a promotion, is about."""
        return list(islice(heapq.merge(*fronts), number))

    def full(self) -> int | None:
        """Return how many jobs this store takes at most, when it holds as many."""
        return None

    def mark(self) -> int:
        """Return what `take_back` goes back to."""
        return len(self._back)

    def keep(self) -> None:
        """The unit is applied: what was changed since the last call stays."""
        self._back.clear()

    def take_back(self, mark: int = 0) -> None:
        """The unit is refused: undo what was changed since the mark, or else since the last `keep`."""
        back, self._back = self._back[mark:], self._back[:mark]
        for undo in reversed(back):
            undo()
        del self._back[mark:]

    def _change(self, key: Key, old: Row | None, new: Row | None) -> None:
        if old is not None:
            self._leave(key, old)
        if new is not None:
            self._enter(key, new)
            self.rows[key] = new
            if old is None:
                self.ids.setdefault(key[0], Ordered()).add(key[1])
        else:
            del self.rows[key]
            _discard(self.ids, key[0], key[1])
        self._back.append(partial(self._change, key, new, old))

    def _enter(self, key: Key, row: Row) -> None:
        job = row.job
        place = self._place(key, row)
        if place is not None:
            index, bucket, item = place
            found = index.get(bucket)
            if found is None:
                found = index[bucket] = Ordered()
            found.add(item)
        numbers = self.numbers.setdefault(job.domain, {})
        number = (job.queue, job.kind, job.lane, job.state)
        numbers[number] = numbers.get(number, 0) + 1

    def _leave(self, key: Key, row: Row) -> None:
        job = row.job
        place = self._place(key, row)
        if place is not None:
            _discard(*place)
        numbers = self.numbers[job.domain]
        number = (job.queue, job.kind, job.lane, job.state)
        numbers[number] -= 1
        if not numbers[number]:
            del numbers[number]

    def _place(self, key: Key, row: Row) -> tuple[dict[Bucket, Any], Bucket, Any] | None:
        job = row.job
        state = job.state
        bucket = (job.domain, job.queue, job.lane, job.kind, job.version)
        if state == State.AVAILABLE:
            return self.ready, bucket, (job.priority, job.run_at, row.seq, key)
        if state == State.RUNNING:
            return self.running, (job.node,), (row.seq, key)
        if state in model.TERMINAL:
            return self.finished, (job.domain,), (job.finished_at, row.seq, key)
        if state == State.PENDING:
            return None
        return self.due, bucket, (job.run_at, row.seq, key)


def _discard(index: dict[Any, Any], bucket: Any, item: Any) -> None:
    found = index[bucket]
    found.remove(item)
    if not found:
        del index[bucket]


def _restore(table: dict[Any, Any], key: Any, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
