"""Operations inside one transaction, which `engine` begins and commits; it may be begun anew, with another `Writes`.

Runs of single-operation units of the same kind (the common case: submissions, ends of claims) become one statement each.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import sqlalchemy

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.engines import mapping, undoing
from callboard.jobs.engines.sql import dialect as dialects
from callboard.jobs.engines.sql import routes, schema, texts

OWN_SLOTS: Final = 64
"""Slots of the counts that engines add to; those above are for transactions of users."""
FIRST_TRIES: Final = 10
"""Times that jobs are put of which others put some at the same moment."""
_CREATED: Final = seam.Created()
_SETTLED: Final = {state: seam.Settled(state) for state in model.State}

Key = tuple[str, bytes]
Claimed = dict[Key, tuple[int, int, int]]
"""(seq, route, priority) of jobs that were claimed here, by (domain, id): their ends need not look for them."""


class Stolen(Exception):
    """Raised when claims could not be ended all at once: begin anew, and be careful."""


class Writes:
    """One transaction's work. `slot`: where its differences of the counts are added. `careful`: ends claims one by one."""

    def __init__(
        self,
        on: sqlalchemy.Connection,
        dialect: dialects.Dialect,
        known: routes.Routes,
        claimed: Claimed,
        slot: int,
        *,
        careful: bool = False,
    ) -> None:
        self.alone = False
        """Whether others decide by what was written here though they do not write it: see `Line.alone`."""
        self.ended: list[Key] = []
        """Jobs of `claimed` whose claims were ended here."""
        self._on = on
        self._dialect = dialect
        self._routes = known
        self._claimed = claimed
        self._slot = slot
        self._careful = careful
        self._looked = False
        """Whether the routes are known that there were when this transaction began."""
        self._deltas: Counter[tuple[int, model.State]] = Counter()
        self._verbs: dict[type[seam.Op], Callable[[Any], seam.Result]] = {
            seam.Put: lambda op: self._puts([op])[0],
            seam.Require: self._require,
            seam.Claim: self._claim,
            seam.Settle: lambda op: self._settles([op])[0],
            seam.Release: lambda op: self._end([op])[0],
            seam.Renew: self._renew,
            seam.Cancel: self._cancel,
            seam.Retry: self._retry,
            seam.Expire: self._expire,
            seam.Promote: self._promote,
            seam.Purge: self._purge,
            seam.PutDocument: self._put_document,
        }

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        """Apply units in their order, then the differences of the counts."""
        results: list[seam.UnitResult] = []
        for kind, run in itertools.groupby(units, _bulk):
            if kind is None:
                results.extend(map(self._unit, run))
                continue
            ops: list[Any] = [unit[0] for unit in run]
            done = self._puts(ops) if kind is seam.Put else self._settles(ops)
            results += [seam.Refused(0, each) if type(each) in undoing.REFUSING else (each,) for each in done]
        self.write_counts()
        return results

    # Units

    def _unit(self, unit: seam.Unit) -> seam.UnitResult:
        if len(unit) == 1:
            result = self._verbs[type(unit[0])](unit[0])
            return seam.Refused(0, result) if type(result) in undoing.REFUSING else (result,)
        guarded = undoing.guarded(unit)
        deltas, alone = self._deltas.copy(), self.alone
        if guarded:
            self._run("SAVEPOINT unit")
        results = []
        for index, op in enumerate(unit):
            results.append(self._verbs[type(op)](op))
            if type(results[-1]) in undoing.REFUSING:
                if guarded:
                    self._run("ROLLBACK TO SAVEPOINT unit")
                    self._deltas, self.alone = deltas, alone
                return seam.Refused(index, results[-1])
        if guarded:
            self._run("RELEASE SAVEPOINT unit")
        return results

    # Putting

    def _puts(self, ops: Sequence[seam.Put]) -> list[seam.Result]:
        """Store what is new, all in one statement if nothing is there already."""
        oldest = {now: model.oldest(now) for now in {op.now for op in ops}}
        new: dict[Key, model.Job] = {}
        late = []
        for op in ops:
            job = op.job
            if job.id < oldest[op.now]:
                late.append(job.key)
            else:
                new.setdefault(job.key, job)
        found = self._stored(late) if late else {}
        if found:
            new = {key: job for key, job in new.items() if key not in found}
        claimed = any([job.node is not None for job in new.values()])
        row = schema.inserted_claimed if claimed else schema.inserted
        for _ in range(FIRST_TRIES):
            rows = [row(job, self._routes.domains[job.domain], self._routes.number(job)) for job in new.values()]
            if not new or self._dialect.put(self._on, rows):
                break
            found |= self._stored(new)
            new = {key: job for key, job in new.items() if key not in found}
        else:
            raise errors.StoreUnavailable("others put the same jobs and removed them again, ten times: try again")
        self._put_tags(new.values())
        for (route, state), jobs in Counter([row[2:4] for row in rows]).items():
            self._deltas[route, mapping.STATES[state]] += jobs
        if claimed:
            self._find_claimed(new.values())
        return [_CREATED] * len(ops) if len(new) == len(ops) else [self._put(op, new, found) for op in ops]

    def _find_claimed(self, jobs: Collection[model.Job]) -> None:
        """Remember where those jobs are that were put claimed."""
        for name in {job.domain for job in jobs if job.node is not None}:
            born = {job.id: job for job in jobs if job.domain == name and job.node is not None}
            for id, seq in self._dialect.places(self._on, self._routes.domains[name], list(born)):
                self._claimed[name, id] = seq, self._routes.number(born[id]), born[id].priority

    def _put(self, op: seam.Put, new: dict[Key, model.Job], found: dict[Key, tuple[model.State, bytes]]) -> seam.Result:
        """Return what came of one put; the first one of a new job made it."""
        job = op.job
        if job.key in new:
            first = new.pop(job.key)
            found[job.key] = first.state, first.digest
            return _CREATED
        if job.key not in found:
            return seam.Stale()
        state, digest = found[job.key]
        return seam.Same(state) if digest == job.digest else seam.Conflict(state)

    def _stored(self, keys: Iterable[Key]) -> dict[Key, tuple[model.State, bytes]]:
        """Return (state, digest) of those of some jobs that exist."""
        return {key: (mapping.STATES[state], digest) for key, (state, digest) in self._by_key("state, digest", keys)}

    def _put_tags(self, jobs: Iterable[model.Job]) -> None:
        rows = [(self._routes.domains[job.domain], tag, job.id) for job in jobs for tag in job.tags]
        self._upsert("callboard_tags", ("domain", "tag", "id"), 3, {}, sorted(rows))

    # Claiming

    def _claim(self, op: seam.Claim) -> seam.Result:
        jobs: list[model.Job] = []
        if not self._looked and self._routes.unknown(op.takes):
            self._routes.refresh_if_grown(self._on)
        for take in op.takes:
            limit = min(take.limit, op.limit - len(jobs))
            if limit > 0 and (numbers := self._routes.of_take(take)):
                jobs += self._jobs(self._dialect.claim(self._on, numbers, limit, op.node, op.now), op)
        return seam.Claimed(jobs)

    def _jobs(self, rows: Sequence[schema.Row], op: seam.Claim) -> list[model.Job]:
        moved = Counter([row[3] for row in rows])
        routes = {number: self._routes.route(number, self._on) for number in moved}
        for number, jobs in moved.items():
            self._moved(number, model.State.AVAILABLE, model.State.RUNNING, jobs)
        self._claimed.update([((routes[row[3]].name, row[2]), (row[0], row[3], row[4])) for row in rows])
        return [schema.claimed(row, routes[row[3]], op.node, op.now) for row in rows]

    # Ending claims

    def _settles(self, ops: Sequence[seam.Settle]) -> list[seam.Result]:
        """End claims of one node: in one guarded statement, if all were made here and nobody took one away.

        Raises Stolen when somebody did: the transaction is of no use then.
        """
        keys = [(op.domain, op.id) for op in ops]
        places = [] if self._careful else [place for key in keys if (place := self._claimed.get(key)) is not None]
        if len(set(places)) < len(ops):
            return self._end(ops)
        rows = [_ended(place[0], place[2], op) for place, op in zip(places, ops, strict=True)]
        if self._dialect.end(self._on, ops[0].node, rows) < len(ops):
            raise Stolen
        self.ended += keys
        self._append_errors([(op.domain, op.id, op.error) for op in ops if op.error is not None])
        for (route, state), jobs in Counter([(place[1], row[2]) for place, row in zip(places, rows, strict=True)]).items():
            self._moved(route, model.State.RUNNING, mapping.STATES[state], jobs)
        return [_SETTLED[op.outcome.state] for op in ops]

    def _end(self, ops: Sequence[seam.Settle | seam.Release]) -> list[seam.Result]:
        """End claims one by one: lock the jobs, decide, write."""
        found = self._locked((op.domain, op.id) for op in ops)
        self.ended += ((op.domain, op.id) for op in ops)
        results: list[seam.Result] = []
        for op in ops:
            seq, job = found.get((op.domain, op.id), (0, None))
            if job is None or job.state is not model.State.RUNNING or job.node != op.node or job.fence != op.fence:
                results.append(seam.Lost(None, 0, None) if job is None else seam.Lost(job.state, job.fence, job.node))
                continue
            ended = states.released(job, op.now) if isinstance(op, seam.Release) else _decided(op)
            after = states.settled(job, ended)
            found[job.key] = seq, after
            self._update(seq, job, after)
            self._append_errors([(op.domain, op.id, ended.error)])
            results.append(seam.Settled(after.state))
        return results

    def _append_errors(self, given: Iterable[tuple[str, bytes, model.AttemptError | None]]) -> None:
        rows = [(self._routes.domains[domain], id, *schema.error(e)) for domain, id, e in given if e is not None]
        columns = ("domain", "id", "run", "fence", "attempt", "code", "type", "message", "traceback", "at", "node")
        for part in texts.weighed(rows):
            self._upsert("callboard_errors", columns, 4, {}, part)

    def _expire(self, op: seam.Expire) -> seam.Result:
        if not op.nodes or op.limit < 1:
            return seam.Expired([])
        nodes = tuple(dict.fromkeys(op.nodes))
        these = texts.list_of(nodes)
        ended: list[model.Job] = []
        while (left := op.limit - len(ended)) > 0:  # Once more where others ended claims between the look and the lock.
            owned = f"SELECT seq FROM callboard_jobs WHERE state = 3 AND node IN {these} ORDER BY seq LIMIT {left:d}"
            seqs = [seq for (seq,) in self._run(owned, nodes)]
            for seq, job in self._locked_rows(seqs):
                if job.node in nodes:
                    end = states.died(job, op.now)
                    ended.append(states.settled(job, end))
                    self._update(seq, job, ended[-1])
                    self._append_errors([(job.domain, job.id, end.error)])
            if len(seqs) < left:
                self._run(f"DELETE FROM callboard_nodes WHERE node IN {these}", nodes)
                break
        return seam.Expired(ended)

    def _renew(self, op: seam.Renew) -> seam.Result:
        grows = {"renewed_at": "greatest(callboard_nodes.renewed_at, {new})"}
        self._upsert("callboard_nodes", ("node", "renewed_at"), 1, grows, [(op.node, op.now)])
        owned = "SELECT domain, id, fence, cancel_requested, seq FROM callboard_jobs WHERE state = 3 AND node = %s"
        held = {(row[0], row[1], row[2]): row for row in self._run(owned, (op.node,))} if op.claims else {}
        lost, wished, moved = [], [], []
        for domain, id, fence, progress in op.claims:
            row = held.get((self._routes.domain(domain, self._on), id, fence))
            if row is None:
                lost.append((domain, id, fence))
                continue
            if row[3]:
                wished.append((domain, id, fence))
            if progress is not None:
                moved.append((row[4], mapping.progress(progress), fence))
        self._note(moved, op.node)
        return seam.Renewed(tuple(lost), tuple(wished))

    def _note(self, moved: Sequence[tuple[int, str | None, int]], node: bytes) -> None:
        """Write (seq, progress, fence) of a node's jobs, but of those that nobody holds: it is not worth waiting for."""
        free: set[int] = set()
        for part in texts.parts(sorted(seq for seq, _, _ in moved)):
            held = f"SELECT seq FROM callboard_jobs WHERE seq IN {texts.list_of(part)} ORDER BY seq FOR UPDATE SKIP LOCKED"
            free.update(seq for (seq,) in self._run(held, part))
        text = "UPDATE callboard_jobs SET progress = %s WHERE seq = %s AND fence = %s AND state = 3 AND node = %s"
        for seq, progress, fence in sorted(moved):
            if seq in free:
                self._run(text, (progress, seq, fence, node))

    # What people ask, and time

    def _cancel(self, op: seam.Cancel) -> seam.Result:
        seq, job = self._locked([(op.domain, op.id)]).get((op.domain, op.id), (0, None))
        after = None if job is None else states.cancelled(job, op.now)
        if job is None or after is None:
            return seam.NotAllowed(None if job is None else job.state)
        self._update(seq, job, after)
        return seam.Became(after.state, after.node)

    def _retry(self, op: seam.Retry) -> seam.Result:
        seq, job = self._locked([(op.domain, op.id)]).get((op.domain, op.id), (0, None))
        after = None if job is None else states.retried(job, op.now, op.run)
        if job is None or after is None:
            return seam.NotAllowed(None if job is None else job.state)
        self._update(seq, job, after)
        return seam.Became(after.state)

    def _promote(self, op: seam.Promote) -> seam.Result:
        if any(domain not in self._routes.domains for domain, _ in op.queues):
            self._routes.refresh_if_grown(self._on)
        due = self._first((1, 4), self._routes.of_queues(op.queues), op.now, op.limit, count=True)
        if not due:
            return seam.Promoted(0)
        held = (
            f"SELECT seq, route, state FROM callboard_jobs WHERE seq IN {texts.list_of(due)} AND state IN (1, 4) AND run_at <= %s"
        )
        rows = self._run(f"{held} ORDER BY seq FOR UPDATE SKIP LOCKED", (*due, op.now))
        if not rows:  # Others have all of them in hand.
            return seam.Promoted(0)
        self._run(
            f"UPDATE callboard_jobs SET state = 2, sort = priority * {schema.PRIORITY} + run_at"
            f" WHERE seq IN {texts.list_of(rows)}",
            [row[0] for row in rows],
        )
        for _, route, state in rows:
            self._moved(route, mapping.STATES[state], model.State.AVAILABLE)
        return seam.Promoted(len(rows))

    def _purge(self, op: seam.Purge) -> seam.Result:
        domain = self._routes.domain(op.domain, self._on)
        numbers = [route.route for route in self._routes.all() if route.domain == domain]
        if not numbers:
            return seam.Purged(0)
        counted = f"SELECT coalesce(sum(jobs), 0) FROM callboard_counts WHERE state >= 6 AND route IN {texts.list_of(numbers)}"
        excess = int(self._run(counted, numbers)[0][0]) + self._unwritten(set(numbers)) - op.keep
        oldest = self._first((6, 7, 8), numbers, max(op.before, op.spare) - 1, op.limit)
        ranks = {seq: rank for rank, seq in enumerate(oldest)}
        held = (
            "SELECT seq, id, route, state, tags, finished_at, attempts + deaths + run FROM callboard_jobs"
            f" WHERE seq IN {texts.list_of(oldest)} AND state >= 6 ORDER BY seq FOR UPDATE SKIP LOCKED"
        )
        rows = self._run(held, oldest) if oldest else []
        gone = [row for row in rows if row[5] < op.before or (ranks[row[0]] < excess and row[5] < op.spare)]
        self._remove(domain, gone)
        return seam.Purged(len(gone))

    def _unwritten(self, numbers: set[int]) -> int:
        """Return by how much this transaction, so far, changed the number of finished jobs of some routes."""
        return sum(n for (route, state), n in self._deltas.items() if state in model.TERMINAL and route in numbers)

    def _remove(self, domain: int, rows: Sequence[Any]) -> None:
        if not rows:
            return
        seqs = [row[0] for row in rows]
        self._run(f"DELETE FROM callboard_jobs WHERE seq IN {texts.list_of(seqs)}", seqs)
        tags = sorted((domain, tag, row[1]) for row in rows if row[4] for tag in row[4].split(","))
        for part in texts.parts(tags):
            where = f"(domain, tag, id) IN {texts.lists_of(3, part)}"
            self._run(f"DELETE FROM callboard_tags WHERE {where}", texts.flat(part))
        troubled = [row[1] for row in rows if row[3] != model.State.COMPLETED or row[6] > 2]
        for ids in texts.parts(troubled):
            self._run(f"DELETE FROM callboard_errors WHERE domain = %s AND id IN {texts.list_of(ids)}", (domain, *ids))
        for row in rows:
            self._deltas[row[2], mapping.STATES[row[3]]] -= 1

    def _first(self, chosen: Sequence[int], numbers: Sequence[int], last: int, limit: int, *, count: bool = False) -> list[int]:
        """Return the first `limit` jobs of some routes in some states up to `sort` = `last`, by its index. Nothing is locked.

        `count`: learn on the way whether others added routes, which the claim that follows would ask.
        """
        if limit < 1:
            return []
        pairs = [(state, number) for state in chosen for number in numbers]
        found: list[tuple[int, int]] = []
        for part in texts.parts(pairs, texts.UNION):
            text = texts.first(
                "SELECT sort, seq FROM callboard_jobs WHERE state = %s AND route = %s AND sort <= %s", len(part), limit
            )
            values = [value for pair in part for value in (*pair, last)]
            if not count:
                found += self._run(text, values)
                continue
            rows = self._run(f"{text} UNION ALL SELECT NULL, {routes.COUNTED}", values)
            found += [row for row in rows if row[0] is not None]
            self._routes.refresh_if_grown(self._on, next(number for place, number in rows if place is None))
            self._looked, count = True, False
        return [seq for _, seq in sorted(found)[:limit]]

    # Documents

    def _require(self, op: seam.Require) -> seam.Result:
        """Holds the document until the commit: whoever writes it waits."""
        version = self._version(op.domain, op.path, self._dialect.share)
        return seam.Held() if version == op.version else seam.Changed(version)

    def _put_document(self, op: seam.PutDocument) -> seam.Result:
        if self._dialect.turn:
            self._run(self._dialect.turn)
        version = self._version(op.domain, op.path, "FOR UPDATE")
        if version != op.expect:
            return seam.Changed(version)
        self.alone = True
        self._run(
            "UPDATE callboard_documents SET version = %s, body = %s WHERE domain = %s AND path = %s",
            (version + 1, op.body, self._routes.domains[op.domain], op.path),
        )
        return seam.Stored(version + 1)

    def _version(self, name: str, path: str, lock: str) -> int:
        """Return a document's version and hold its row, which is made at version 0 when there was never one."""
        domain = self._routes.domains[name]
        query = f"SELECT version FROM callboard_documents WHERE domain = %s AND path = %s {lock}"
        found = self._run(query, (domain, path))
        if not found:
            self._upsert("callboard_documents", ("domain", "path", "version"), 2, {}, [(domain, path, 0)])
            found = self._run(query, (domain, path))
        version: int = found[0][0]
        return version

    # Counts

    def write_counts(self) -> None:
        """Add what changed to the counts: last in a transaction, since others may wait for the rows."""
        rows = [(route, int(state), self._slot, n) for (route, state), n in sorted(self._deltas.items()) if n]
        grows = {"jobs": "callboard_counts.jobs + {new}"}
        self._upsert("callboard_counts", ("route", "state", "slot", "jobs"), 3, grows, rows)
        self._deltas.clear()

    # Rows

    def _locked(self, keys: Iterable[Key]) -> dict[Key, tuple[int, model.Job | None]]:
        """Lock jobs and return those that exist, each with its seq. By seq, so that no two wait for each other."""
        seqs = [seq for _, (seq,) in self._by_key("seq", keys)]
        return {job.key: (seq, job) for seq, job in self._locked_rows(seqs)}

    def _locked_rows(self, seqs: Sequence[int]) -> list[tuple[int, model.Job]]:
        found: list[tuple[int, model.Job]] = []
        for part in texts.parts(sorted(set(seqs))):
            text = f"SELECT seq, {mapping.COLUMNS} FROM callboard_jobs WHERE seq IN {texts.list_of(part)} ORDER BY seq FOR UPDATE"
            rows = self._run(text, part)
            found += ((row[0], mapping.job(row[1:], self._routes.route(row[2], self._on))) for row in rows)
        return found

    def _by_key(self, columns: str, keys: Iterable[Key]) -> list[tuple[Key, Any]]:
        """Return columns of jobs that exist, by (domain, id)."""
        wanted = {(self._routes.domain(domain, self._on), id): (domain, id) for domain, id in keys}
        found: list[tuple[Key, Any]] = []
        for part in texts.parts(list(wanted)):
            text = f"SELECT domain, id, {columns} FROM callboard_jobs WHERE (domain, id) IN {texts.lists_of(2, part)}"
            found += ((wanted[row[0], row[1]], row[2:]) for row in self._run(text, texts.flat(part)))
        return found

    def _update(self, seq: int, before: model.Job, job: model.Job) -> None:
        self._run(schema.UPDATE, schema.updated(seq, job))
        if job.state != before.state:
            self._moved(self._routes.number(job), before.state, job.state)

    def _moved(self, route: int, before: model.State, after: model.State, jobs: int = 1) -> None:
        self._deltas[route, before] -= jobs
        self._deltas[route, after] += jobs

    def _upsert(
        self, table: str, columns: tuple[str, ...], key: int, changes: dict[str, str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Insert rows, or change those that are there; the first `key` columns tell them apart."""
        if rows:
            text = self._dialect.upsert(table, columns, columns[:key], changes)
            for part in texts.parts(rows):
                self._run(texts.repeated(text, len(columns), len(part)), texts.flat(part))

    def _run(self, text: str, values: Iterable[Any] = ()) -> list[Any]:
        return texts.run(self._on, text, values)


def _bulk(unit: seam.Unit) -> object:
    """Return what a unit must share with its neighbours to go into one statement with them; None when it goes alone."""
    if len(unit) == 1:
        op = unit[0]
        kind = type(op)
        if kind is seam.Put:
            return kind
        if kind is seam.Settle:
            return op.node  # type: ignore[attr-defined]
    return None


def _ended(seq: int, priority: int, op: seam.Settle) -> schema.Row:
    """Return the values of ENDED."""
    out = op.outcome
    place = schema.sort(out.state, priority, out.run_at, out.finished_at)
    written = (int(out.state), place, out.run_at, out.attempts, out.deaths, out.finished_at, out.result, out.reason)
    return seq, op.fence, *written


def _decided(op: seam.Settle) -> states.Ended:
    return states.Ended(op.outcome, op.if_cancelled, op.error)
