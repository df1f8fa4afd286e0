"""Operations as statements, inside a transaction that `engine` opens and commits.

Runs of single-operation units of the same kind (the common case: submissions, ends of claims) become few big statements:
each step of SQLite hands the interpreter's lock to another thread and has to win it back, so a step a row would
starve beside a busy event loop. When such a statement did not touch every row it should have, it is undone and its
operations are applied one by one, which finds out which guard failed.
"""

from __future__ import annotations

import itertools
import json
from binascii import unhexlify
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import apsw
import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.engines import mapping, undoing
from callboard.jobs.engines.sqlite import routes, schema, statements

MAX_ROUTES: Final = 200
"""Routes asked in one statement (SQLite's bound for compounds is 500)."""
CLAIMED_BOUND: Final = 100_000

_CREATED: Final = (seam.Created(),)
_SETTLED: Final = {state: (seam.Settled(state),) for state in model.State}

Row = tuple[Any, ...]
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Prepared(msgspec.Struct, frozen=True):
    """A big statement for some units, and what follows when it touched a row for each of them."""

    statement: str
    values: Sequence[Any]
    results: list[seam.UnitResult]
    deltas: Counter[tuple[int, model.State]]
    tags: list[Row] = []
    errors: list[tuple[str, bytes, model.AttemptError]] = []
    born: list[tuple[tuple[str, bytes], int]] = []
    """Routes of jobs that are put claimed, by (domain, id)."""
    ended: list[tuple[str, bytes]] = []


class Group(msgspec.Struct, frozen=True):
    """Units that go together, and their statement where it could be made."""

    kind: type[seam.Op] | None
    units: list[seam.Unit]
    prepared: Prepared | None = None


class Picked(msgspec.Struct, frozen=True):
    """Rows that a claim took; they become jobs after the commit, in the list that the claim's result holds."""

    jobs: list[model.Job]
    op: seam.Claim
    rows: list[Row]
    big: dict[int, bytes]
    """Arguments, by row, that did not travel with it."""


class Writes:
    """Applies operations through one connection: `prepare` before the lock is held, `apply` inside the transaction, `finish`
    after its commit or `rolled_back` instead. What can be done outside is, since all processes wait for the one inside.
    Not shared between threads.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._routes = routes.Routes(connection)
        self._deltas: Counter[tuple[int, model.State]] = Counter()
        self._claimed: dict[tuple[str, bytes], int] = {}
        """Routes of the jobs that were claimed through here, so that their ends need not read them."""
        self._picked: list[Picked] = []
        self._born: list[tuple[tuple[str, bytes], int]] = []
        self._ended: list[tuple[str, bytes]] = []
        self._verbs: dict[type[seam.Op], Callable[[Any], seam.Result]] = {
            seam.Put: self._put,
            seam.Require: self._require,
            seam.Claim: self._claim,
            seam.Settle: self._settle,
            seam.Release: self._release,
            seam.Renew: self._renew,
            seam.Cancel: self._cancel,
            seam.Retry: self._retry,
            seam.Expire: self._expire,
            seam.Promote: self._promote,
            seam.Purge: self._purge,
            seam.PutDocument: self._put_document,
        }

    def prepare(self, units: Sequence[seam.Unit]) -> list[Group]:
        """Return units put together for big statements, as far as that can be done before the lock is held."""
        groups: list[Group] = []
        for kind, run in itertools.groupby(units, _bulk):
            if kind == (seam.Put,):
                groups += (
                    Group(seam.Put, chunk, self._prepared_puts(chunk, self._routes.known))
                    for chunk in statements.chunks(list(run))
                )
            elif kind:
                settles = list(run)
                groups.append(Group(seam.Settle, settles, self._prepared_settles(settles)))
            else:
                groups.append(Group(None, list(run)))
        return groups

    def apply(self, groups: Sequence[Group]) -> list[seam.UnitResult]:
        """Apply prepared units in their order, and the differences of the counts with them. Inside a transaction."""
        self._deltas.clear()
        self._picked.clear()
        self._born.clear()
        self._ended.clear()
        self._routes.refresh_if_grown()
        results: list[seam.UnitResult] = []
        for group in groups:
            results.extend(self._together(group))
        self._db.executemany(
            "INSERT INTO counts VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs",
            [(route, int(state), n) for (route, state), n in self._deltas.items() if n],
        )
        return results

    def finish(self) -> None:
        """After the commit: make jobs of the rows that were claimed, and note what is claimed here and what no more."""
        self._claimed.update(self._born)
        for key in self._ended:
            self._claimed.pop(key, None)
        if len(self._claimed) > CLAIMED_BOUND:
            self._claimed.clear()
        for picked in self._picked:
            picked.jobs.extend(self._job(row, picked) for row in picked.rows)

    def rolled_back(self) -> None:
        """Forget what a transaction that was rolled back had made known."""
        self._routes.forget()
        self._claimed.clear()

    # Units

    def _unit(self, unit: seam.Unit) -> seam.UnitResult:
        if len(unit) == 1:
            result = self._verbs[type(unit[0])](unit[0])
            return seam.Refused(0, result) if type(result) in undoing.REFUSING else (result,)
        guarded = undoing.guarded(unit)
        deltas = self._deltas.copy()
        if guarded:
            self._db.execute("SAVEPOINT unit")
        results = []
        for index, op in enumerate(unit):
            results.append(self._verbs[type(op)](op))
            if type(results[-1]) in undoing.REFUSING:
                if guarded:
                    self._undo(deltas)
                return seam.Refused(index, results[-1])
        if guarded:
            self._db.execute("RELEASE unit")
        return results

    def _undo(self, deltas: Counter[tuple[int, model.State]]) -> None:
        self._db.execute("ROLLBACK TO unit; RELEASE unit")
        self._deltas = deltas
        self._routes.forget()
        self._routes.refresh()

    def _together(self, group: Group) -> list[seam.UnitResult]:
        """Apply a group in one big statement, or its units one by one where there is none or a guard fails."""
        prepared = group.prepared
        if prepared is None and group.kind is seam.Put:
            prepared = self._prepared_puts(group.units, self._routes.make)
        if prepared is None:
            return [self._unit(unit) for unit in group.units]
        deltas = self._deltas.copy()
        self._db.execute("SAVEPOINT unit")
        self._db.execute(prepared.statement, prepared.values)
        if self._db.changes() != len(group.units):
            self._undo(deltas)
            return [self._unit(unit) for unit in group.units]
        self._put_tags(prepared.tags)
        self._append_errors(prepared.errors)
        self._db.execute("RELEASE unit")
        self._deltas.update(prepared.deltas)
        self._born += prepared.born
        self._ended += prepared.ended
        return prepared.results

    # Putting

    def _prepared_puts(self, units: list[seam.Unit], route_of: Callable[[model.Job], int | None]) -> Prepared | None:
        """Return the statement for some puts; None when one is too old to go unchecked, or its route has no number yet."""
        values: list[Any] = []
        tags: list[Row] = []
        born: list[tuple[tuple[str, bytes], int]] = []
        deltas: Counter[tuple[int, model.State]] = Counter()
        claimed = any([put.job.node is not None for (put,) in units])  # type: ignore[attr-defined]
        for (put,) in units:
            job = put.job  # type: ignore[attr-defined]
            number = route_of(job)
            if number is None or model.expired(job.id, put.now):  # type: ignore[attr-defined]
                return None
            domain = self._routes.by_number[number].domain
            values += schema.row(job, domain, number)
            if claimed:
                values += (job.node, job.started_at)
                if job.node is not None:
                    born.append((job.key, number))
            tags += ((domain, tag, job.id) for tag in job.tags)
            deltas[number, job.state] += 1
        texts = statements.INSERT_CLAIMED if claimed else statements.INSERT
        return Prepared(texts[len(units)], values, [_CREATED] * len(units), deltas, tags=tags, born=born)

    def _put_tags(self, rows: list[Row]) -> None:
        for chunk in statements.chunks(rows, statements.TAG_CHUNKS):
            self._db.execute(statements.INSERT_TAGS[len(chunk)], [value for row in chunk for value in row])

    def _put(self, op: seam.Put) -> seam.Result:
        job = op.job
        domain = self._routes.make_domain(job.domain)
        found = self._db.execute("SELECT state, digest FROM jobs WHERE domain = ? AND id = ?", (domain, job.id)).fetchone()
        if found is not None:
            state = mapping.STATES[found[0]]
            return seam.Same(state) if found[1] == job.digest else seam.Conflict(state)
        if model.expired(job.id, op.now):
            return seam.Stale()
        route = self._routes.make(job)
        if job.node is None:
            self._db.execute(statements.INSERT[1], schema.row(job, domain, route))
        else:
            self._db.execute(statements.INSERT_CLAIMED[1], (*schema.row(job, domain, route), job.node, job.started_at))
            self._born.append((job.key, route))
        self._put_tags([(domain, tag, job.id) for tag in job.tags])
        self._deltas[route, job.state] += 1
        return _CREATED[0]

    # Claiming

    def _claim(self, op: seam.Claim) -> seam.Result:
        picked, jobs = "[]", 0
        for take in op.takes:
            limit = min(take.limit, op.limit - jobs)
            if limit > 0 and (numbers := self._routes.of_take(take)):
                picked, jobs = self._pick(numbers, limit, picked, jobs)
        if not jobs:
            return seam.Claimed([])
        rows = statements.claimed_rows(self._db.execute(statements.CLAIMED, (picked,)).get)
        self._db.execute(
            "UPDATE jobs SET state = 3, fence = fence + 1, node = ?, started_at = ?, progress = NULL, reason = NULL"
            " WHERE seq IN (SELECT value FROM json_each(?))",
            (op.node, op.now, picked),
        )
        for number, n in Counter(row[2] for row in rows).items():
            self._moved(number, model.State.AVAILABLE, model.State.RUNNING, n)
        big = {row[0]: self._args(row[0]) for row in rows if row[12] is None}
        self._picked.append(Picked([], op, rows, big))
        return seam.Claimed(self._picked[-1].jobs)

    def _pick(self, numbers: list[int], limit: int, picked: str, jobs: int) -> tuple[str, int]:
        """Return the rows picked so far (as JSON) and their number, with the first `limit` available ones of some routes."""
        parts = [numbers[start : start + MAX_ROUTES] for start in range(0, len(numbers), MAX_ROUTES)]
        founds = [self._db.execute(statements.first(len(part)), (picked, limit, *part)).get for part in parts]
        if len(founds) > 1:
            founds = [self._db.execute(statements.BEST, (statements.joined([found for found, _ in founds]), limit)).get]
        ((found, n),) = founds
        return statements.joined([picked, found]), jobs + n

    def _job(self, row: Row, picked: Picked) -> model.Job:
        """Return a claimed row of `statements.CLAIMED` as a job, and remember its route for when it ends here."""
        seq, id, number, priority, run_at, fence, run, attempts, max_attempts, deaths, codec, digest, args, tags = row[:14]
        meta, backoff, timeout, submitted_at = row[14:]
        route = self._routes.by_number[number]
        key = route.name, unhexlify(id)
        self._claimed[key] = number
        return model.Job(
            id=key[1],
            kind=route.kind,
            domain=route.name,
            queue=route.queue,
            lane=route.lane,
            version=route.version,
            state=model.State.RUNNING,
            priority=priority,
            codec=codec,
            args=picked.big[seq] if args is None else unhexlify(args),
            digest=unhexlify(digest),
            tags=tuple(tags.split(",")) if tags else (),
            meta=mapping.meta(meta) if meta else {},
            max_attempts=max_attempts,
            backoff=backoff,
            timeout=timeout,
            submitted_at=submitted_at,
            run_at=run_at,
            started_at=picked.op.now,
            run=run,
            fence=fence + 1,
            attempts=attempts,
            deaths=deaths,
            node=picked.op.node,
        )

    def _args(self, seq: int) -> bytes:
        args: bytes = self._db.execute("SELECT args FROM jobs WHERE seq = ?", (seq,)).get
        return args

    # Ending claims

    def _prepared_settles(self, units: list[seam.Unit]) -> Prepared | None:
        """Return the statement for some ends of claims; None when one of the claims was not made here."""
        rows: list[Row] = []
        moved: list[tuple[int, model.State]] = []
        ops: list[seam.Settle] = [unit[0] for unit in units]  # type: ignore[misc]
        for op in ops:
            number = self._claimed.get((op.domain, op.id))
            if number is None:
                return None
            out = op.outcome
            result = None if out.result is None else out.result.hex()
            row = (self._routes.by_number[number].domain, op.id.hex(), op.fence, out.state, out.run_at, out.attempts)
            rows.append((*row, out.deaths, out.finished_at, result, out.reason))
            moved.append((number, out.state))
        deltas: Counter[tuple[int, model.State]] = Counter(moved)
        for number, n in Counter(number for number, _ in moved).items():
            deltas[number, model.State.RUNNING] -= n
        return Prepared(
            statements.SETTLE,
            (_encode(rows).decode(), ops[0].node),
            [_SETTLED[op.outcome.state] for op in ops],
            deltas,
            errors=[(op.domain, op.id, op.error) for op in ops if op.error is not None],
            ended=[(op.domain, op.id) for op in ops],
        )

    def _settle(self, op: seam.Settle) -> seam.Result:
        seq, job = self._find(op.domain, op.id)
        if job is None or not _owns(job, op.node, op.fence):
            return _lost(job)
        return self._end(seq, job, states.Ended(op.outcome, op.if_cancelled, op.error))

    def _release(self, op: seam.Release) -> seam.Result:
        seq, job = self._find(op.domain, op.id)
        if job is None or not _owns(job, op.node, op.fence):
            return _lost(job)
        return self._end(seq, job, states.released(job, op.now))

    def _end(self, seq: int, job: model.Job, ended: states.Ended) -> seam.Settled:
        after = states.settled(job, ended)
        self._update(seq, job, after)
        self._ended.append(job.key)
        if ended.error is not None:
            self._append_errors([(job.domain, job.id, ended.error)])
        return seam.Settled(after.state)

    def _append_errors(self, rows: list[tuple[str, bytes, model.AttemptError]]) -> None:
        if rows:
            self._db.executemany(
                "INSERT OR IGNORE INTO attempt_errors VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(self._routes.domain(domain), id, e.run, e.fence, *_error_columns(e)) for domain, id, e in rows],
            )

    def _expire(self, op: seam.Expire) -> seam.Result:
        query = (
            f"SELECT seq, {mapping.COLUMNS} FROM jobs INDEXED BY jobs_running WHERE state = 3"
            " AND node IN (SELECT unhex(value) FROM json_each(?)) LIMIT ?"
        )
        nodes = json.dumps([node.hex() for node in op.nodes])
        ended: list[model.Job] = []
        rows: list[Row] = self._db.execute(query, (nodes, op.limit)).fetchall()
        for row in rows:
            job = mapping.job(row[1:], self._routes.by_number[row[2]])
            end = states.died(job, op.now)
            self._end(row[0], job, end)
            ended.append(states.settled(job, end))
        if len(ended) < op.limit:
            self._db.execute("DELETE FROM nodes WHERE node IN (SELECT unhex(value) FROM json_each(?))", (nodes,))
        return seam.Expired(ended)

    def _renew(self, op: seam.Renew) -> seam.Result:
        self._db.execute(
            "INSERT INTO nodes VALUES(?, ?) ON CONFLICT DO UPDATE SET renewed_at = max(renewed_at, excluded.renewed_at)",
            (op.node, op.now),
        )
        owned = "SELECT domain, id, fence, cancel_requested, seq FROM jobs INDEXED BY jobs_running WHERE state = 3 AND node = ?"
        held = {(row[0], row[1], row[2]): row for row in self._db.execute(owned, (op.node,))}
        lost, wished, moved = [], [], []
        for domain, id, fence, progress in op.claims:
            row = held.get((self._routes.domain(domain), id, fence))
            if row is None:
                lost.append((domain, id, fence))
                continue
            if row[3]:
                wished.append((domain, id, fence))
            if progress is not None:
                moved.append((mapping.progress(progress), row[4]))
        self._db.executemany("UPDATE jobs SET progress = ? WHERE seq = ?", moved)
        return seam.Renewed(tuple(lost), tuple(wished))

    # What people ask, and time

    def _cancel(self, op: seam.Cancel) -> seam.Result:
        seq, job = self._find(op.domain, op.id)
        after = None if job is None else states.cancelled(job, op.now)
        if job is None or after is None:
            return seam.NotAllowed(None if job is None else job.state)
        self._update(seq, job, after)
        return seam.Became(after.state, after.node)

    def _retry(self, op: seam.Retry) -> seam.Result:
        seq, job = self._find(op.domain, op.id)
        after = None if job is None else states.retried(job, op.now, op.run)
        if job is None or after is None:
            return seam.NotAllowed(None if job is None else job.state)
        self._update(seq, job, after)
        return seam.Became(after.state)

    def _promote(self, op: seam.Promote) -> seam.Result:
        numbers = json.dumps(self._routes.of_queues(op.queues))
        due = (
            "SELECT json_group_array(json_array(seq, route, state)) FROM (SELECT seq, route, state FROM jobs"
            " INDEXED BY jobs_due WHERE state IN (1, 4) AND route IN (SELECT value FROM json_each(?)) AND run_at <= ?"
            " ORDER BY run_at, seq LIMIT ?)"
        )
        rows = json.loads(self._db.execute(due, (numbers, op.now, op.limit)).get)
        if rows:
            picked = json.dumps([row[0] for row in rows])
            self._db.execute("UPDATE jobs SET state = 2 WHERE seq IN (SELECT value FROM json_each(?))", (picked,))
        for _, route, state in rows:
            self._moved(route, mapping.STATES[state], model.State.AVAILABLE)
        return seam.Promoted(len(rows))

    def _purge(self, op: seam.Purge) -> seam.Result:
        domain = self._routes.domain(op.domain)
        finished = (
            "SELECT coalesce(sum(jobs), 0) FROM counts WHERE state >= 6 AND route IN (SELECT route FROM routes WHERE domain = ?)"
        )
        excess = self._db.execute(finished, (domain,)).get + self._unwritten(op.domain) - op.keep
        oldest = (
            "SELECT json_group_array(json_array(seq, hex(id), route, state, tags, finished_at, attempts + deaths + run)) FROM"
            " (SELECT * FROM jobs INDEXED BY jobs_finished WHERE state >= 6 AND domain = ? AND finished_at < ?"
            " ORDER BY finished_at, seq LIMIT ?)"
        )
        rows = json.loads(self._db.execute(oldest, (domain, max(op.before, op.spare), op.limit)).get)
        gone = [row for index, row in enumerate(rows) if row[5] < op.before or (index < excess and row[5] < op.spare)]
        self._remove(domain, gone)
        return seam.Purged(len(gone))

    def _unwritten(self, name: str) -> int:
        """Return by how much this transaction, so far, changed the number of a domain's finished jobs."""
        return sum(
            n
            for (route, state), n in self._deltas.items()
            if state in model.TERMINAL and self._routes.by_number[route].name == name
        )

    def _remove(self, domain: int, rows: list[Row]) -> None:
        if not rows:
            return
        self._db.execute(
            "DELETE FROM jobs WHERE seq IN (SELECT value FROM json_each(?))", (json.dumps([row[0] for row in rows]),)
        )
        tags = [(domain, tag, unhexlify(row[1])) for row in rows if row[4] for tag in row[4].split(",")]
        self._db.executemany("DELETE FROM job_tags WHERE domain = ? AND tag = ? AND id = ?", tags)
        troubled = [row[1] for row in rows if row[3] != model.State.COMPLETED or row[6] > 2]
        self._db.execute(
            "DELETE FROM attempt_errors WHERE domain = ? AND id IN (SELECT unhex(value) FROM json_each(?))",
            (domain, json.dumps(troubled)),
        )
        for row in rows:
            self._deltas[row[2], mapping.STATES[row[3]]] -= 1

    # Documents

    def _require(self, op: seam.Require) -> seam.Result:
        version = self._version(op.domain, op.path)
        return seam.Held() if version == op.version else seam.Changed(version)

    def _put_document(self, op: seam.PutDocument) -> seam.Result:
        version = self._version(op.domain, op.path)
        if version != op.expect:
            return seam.Changed(version)
        self._db.execute(
            "INSERT INTO documents VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET version = excluded.version, body = excluded.body",
            (self._routes.make_domain(op.domain), op.path, version + 1, op.body),
        )
        return seam.Stored(version + 1)

    def _version(self, domain: str, path: str) -> int:
        query = "SELECT version FROM documents WHERE domain = ? AND path = ?"
        version: int = self._db.execute(query, (self._routes.domain(domain), path)).get or 0
        return version

    # Rows

    def _find(self, domain: str, id: bytes) -> tuple[int, model.Job | None]:
        query = f"SELECT seq, {mapping.COLUMNS} FROM jobs WHERE domain = ? AND id = ?"
        row = self._db.execute(query, (self._routes.domain(domain), id)).fetchone()
        return (0, None) if row is None else (row[0], mapping.job(row[1:], self._routes.by_number[row[2]]))

    def _update(self, seq: int, before: model.Job, job: model.Job) -> None:
        values: Row = (int(job.state), job.priority, job.run_at, job.fence, job.run, job.attempts, job.deaths, job.node)
        values += (job.cancel_requested, job.started_at, job.finished_at, job.result, job.reason)
        self._db.execute(statements.UPDATE, (*values, mapping.progress(job.progress), seq))
        if job.state != before.state:
            self._moved(self._routes.make(job), before.state, job.state)

    def _moved(self, route: int, before: model.State, after: model.State, jobs: int = 1) -> None:
        self._deltas[route, before] -= jobs
        self._deltas[route, after] += jobs


def _bulk(unit: seam.Unit) -> tuple[object, ...]:
    """Return what a unit must share with its neighbours to go into a big statement with them; `()` when it goes alone."""
    if len(unit) == 1:
        op = unit[0]
        if type(op) is seam.Put:
            return (seam.Put,)
        if type(op) is seam.Settle and len(op.outcome.result or b"") <= statements.INLINE_BYTES:
            return seam.Settle, op.domain, op.node
    return ()


def _error_columns(e: model.AttemptError) -> Row:
    return e.attempt, e.code, e.type, e.message, e.traceback, e.at, e.node


def _owns(job: model.Job, node: bytes, fence: int) -> bool:
    return job.state == model.State.RUNNING and job.node == node and job.fence == fence


def _lost(job: model.Job | None) -> seam.Lost:
    return seam.Lost(None, 0, None) if job is None else seam.Lost(job.state, job.fence, job.node)
