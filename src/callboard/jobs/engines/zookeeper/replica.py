"""What a process holds of the store: the memory engine's tables, without results, big arguments and documents' bodies.

It changes in two ways: by the verbs, on trial, until the commit that they led to is known (`keep` or `take_back`); and by
following the log, for good. What the verbs of a unit touched is noted with what was there before. Which version each node in
ZooKeeper has is known from counting its changes: `stamps`. Locks are the engine's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from callboard.jobs import model
from callboard.jobs.engines.memory import tables
from callboard.jobs.engines.memory.tables import Key, Row
from callboard.jobs.engines.zookeeper import codec

HELD: Final = b""
"""Stands for the body of a document, which is not held."""
LEFT_OUT: Final = 20
"""Bits of a job's place in the order for those made in one commit."""
INDEX: Final = (1 << LEFT_OUT) - 1
_NUMBERS: Final = 32
"""Bits for the commits of one epoch."""
SPREAD_SECONDS: Final = 2.0
"""How long processes that met over the same jobs take different ones."""

Before = tuple[Row | None, tuple[int, ...]]
"""A job before a unit, and the fences with an error."""


class Replica(tables.Tables):
    """Tables that note what is touched. `errors` holds the fences of a job's errors instead of the errors."""

    def __init__(self, backlog: int) -> None:
        super().__init__()
        self.backlog = backlog
        self.stamps: dict[Any, int] = {}
        """By job (domain, id), document (domain, path) or node: the version of its node in ZooKeeper; absent without one."""
        self.touched: dict[Key, Before] = {}
        self.touched_documents: dict[tuple[str, str], None] = {}
        self.touched_nodes: dict[bytes, None] = {}
        self.new_errors: dict[Key, list[model.AttemptError]] = {}
        self.fences: dict[Key, tuple[int, ...]] = {}
        self.spread = Spread()

    # On trial

    def begin(self, epoch: int, number: int) -> None:
        """Begin a trial that would be the log's next commit: its jobs come after all others."""
        self._seq = order(epoch, number, 0)

    def begin_unit(self) -> None:
        self.touched, self.touched_documents, self.touched_nodes, self.new_errors = {}, {}, {}, {}

    def full(self) -> int | None:
        held = len(self.rows)
        if held < self.backlog:
            return None
        unfinished = held - sum(map(len, self.finished.values()))
        return self.backlog if unfinished >= self.backlog or held >= 4 * self.backlog else None

    def write(self, job: model.Job) -> None:
        key = (job.domain, job.id)
        self._touch(key)
        super().write(job)

    def remove(self, key: Key) -> None:
        self._touch(key)
        self._change(key, self.rows[key], None)
        if key in self.fences:
            self._back.append(_putting(self.fences, key, self.fences.pop(key)))

    def append_error(self, key: Key, error: model.AttemptError) -> None:
        old = self.fences.get(key, ())
        self._back.append(_putting(self.fences, key, old))
        self.fences[key] = (*old, error.fence)
        self.new_errors.setdefault(key, []).append(error)

    def write_document(self, domain: str, path: str, written: tables.Written) -> None:
        self.touched_documents[domain, path] = None
        super().write_document(domain, path, written)

    def write_renewed(self, node: bytes, now: int | None) -> None:
        self.touched_nodes[node] = None
        super().write_renewed(node, now)

    def first(self, fronts: Iterable[Iterable[Any]], number: int) -> list[Any]:
        mine = self.spread.share()
        if mine is None or number < 1:
            return super().first(fronts, number)
        shares, own = mine
        front = super().first(fronts, 2 * shares * number)
        chosen = [item for item in front if int.from_bytes(item[-1][1][-2:], "big") % shares == own][:number]
        return chosen or front[:number]

    def replace(self, key: Key, job: model.Job) -> None:
        """Hold less of a job than was written; no index knows the difference."""
        self.rows[key] = Row(self.rows[key].seq, job)

    def _touch(self, key: Key) -> None:
        if key not in self.touched:
            self.touched[key] = (self.rows.get(key), self.fences.get(key, ()))

    # Following

    def load(self, job: model.Job, seq: int, stamp: int, fences: tuple[int, ...]) -> None:
        """Take in a job that was there before the log that will be followed."""
        key = (job.domain, job.id)
        row = Row(seq, job)
        self._enter(key, row)
        self.rows[key] = row
        self.ids.setdefault(key[0], tables.Ordered()).add(key[1])
        self.stamps[key] = stamp
        if fences:
            self.fences[key] = fences

    def follow(self, entry: codec.Entry, epoch: int, number: int, *, loading: bool = False, own: set[Key] | None = None) -> bool:
        """Take over what a commit changed. False when it does not fit: then this replica is wrong.

        `loading`: a job that was changed may be gone already. `own`: jobs made by commits that come later in the log.
        """
        if own and not own.isdisjoint(_keys(entry)):
            return False
        for key in entry.removed:
            self._forget(key)
        for body in entry.created:
            key = (body.fixed.domain, body.fixed.id)
            self._forget(key)
            self.load(codec.slim(body), order(epoch, number, body.fixed.index), 0, body.moving.fences)
        rows = self.rows
        for change in entry.changed:
            key = (change.domain, change.id)
            row = rows.get(key)
            if row is None:
                if loading:
                    continue
                return False
            moved = Row(row.seq, codec.moved(row.job, change.moving))
            self._leave(key, row)
            self._enter(key, moved)
            rows[key] = moved
            self.stamps[key] = change.stamp
            if change.moving.fences:
                self.fences[key] = change.moving.fences
        for one in entry.documents:
            self.take_document(one.domain, one.path, one.stamp, one.version, one.present)
        for renewed in entry.renewed:
            self.take_renewed(renewed.node, renewed.stamp, renewed.at)
        return True

    def place(self, made: Iterable[Key], epoch: int, number: int) -> None:
        """Give jobs that were made here their place in the order, now that it is known."""
        for key in made:
            row = self.rows.get(key)
            if row is not None:
                self._leave(key, row)
                row = Row(order(epoch, number, row.seq & INDEX), row.job)
                self._enter(key, row)
                self.rows[key] = row

    def take_document(self, domain: str, path: str, stamp: int, version: int, present: bool) -> None:
        self.documents.setdefault(domain, {})[path] = tables.Written(version, HELD if present else None)
        self.stamps[domain, path] = stamp

    def take_renewed(self, node: bytes, stamp: int, at: int | None) -> None:
        if at is None:
            self.renewed.pop(node, None)
            self.stamps.pop(node, None)
        else:
            self.renewed[node] = at
            self.stamps[node] = stamp

    def _forget(self, key: Key) -> None:
        row = self.rows.pop(key, None)
        if row is None:
            return
        self._leave(key, row)
        ids = self.ids[key[0]]
        ids.remove(key[1])
        if not ids:
            del self.ids[key[0]]
        self.stamps.pop(key, None)
        self.fences.pop(key, None)


class Spread:
    """Which share of the jobs this process prefers for a while, after it met others over the same ones or one of them said so."""

    def __init__(self) -> None:
        self.node: bytes | None = None
        """Who claims here."""
        self._until = 0.0
        self._shares = 1
        self._own = 0

    def begin(self, others: Iterable[bytes]) -> None:
        """Prefer an own share from now on, if anybody claims here; `others` are the nodes known to claim."""
        if self.node is not None:
            nodes = sorted({self.node, *others})
            self._shares, self._own = len(nodes), nodes.index(self.node)
            self._until = time.monotonic() + SPREAD_SECONDS

    def share(self) -> tuple[int, int] | None:
        """Return (number of shares, own share), None when alone."""
        return (self._shares, self._own) if self._shares > 1 and time.monotonic() < self._until else None


def order(epoch: int, number: int, index: int) -> int:
    """Return the place of a job in the order of arrival, from the commit that made it; the same in every process."""
    return (epoch << _NUMBERS | number) << LEFT_OUT | index


def _keys(entry: codec.Entry) -> Iterator[Key]:
    yield from entry.removed
    yield from ((body.fixed.domain, body.fixed.id) for body in entry.created)
    yield from ((change.domain, change.id) for change in entry.changed)


def _putting(table: dict[Any, Any], key: Any, value: Any) -> Any:
    return lambda: table.__setitem__(key, value)
