"""Units tried on the replica, and what they come to: the steps of one transaction in ZooKeeper, and an entry of the log.

A `Trial` takes unit after unit until the next one does not fit in one request, or stands for itself. Only the net change of
each node counts: a job that is put, claimed and settled in one trial is one creation. What must be read first (arguments
that are not held here) is asked of `read`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import msgspec

from callboard import errors
from callboard.ensembles import requests
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines.memory import tables, verbs
from callboard.jobs.engines.memory.tables import Key
from callboard.jobs.engines.zookeeper import codec, layout, replica

MOST_BYTES: Final = 960_000
"""Of the steps of one transaction, as they are estimated here: rather too many bytes than too few."""
ROOM_BYTES: Final = 256_000
"""The same, where several units share one: a server keeps its last 500 transactions in memory."""
_STEP_BYTES: Final = 60
"""What a step needs on the wire besides its path and content, the access rule of a creation included."""
_PATH_BYTES: Final = 60
"""Of the path of a job's node, or of one beside it, besides the root and the domain."""
_ENTRY_BYTES: Final = 60
"""What the log's entry needs for a node besides what it says of it."""
_BODY_BYTES: Final = 500
"""What a job is besides its arguments and what it is named."""
_SHRINKING: Final = (seam.Claim, seam.Promote)
"""Operations that may do less than they were asked to."""

Read = Callable[[Sequence[str]], list[requests.Content | None]]


class Change(msgspec.Struct, gc=False):
    """What becomes of a job's node."""

    size: int
    body: bytes | None = None
    """None: it is removed."""
    delta: bytes = b""
    """For the log, when it was there and stays."""
    created: bool = False
    seq: int = 0
    parts: dict[str, bytes] = {}
    """New nodes beside it, by name."""
    old: list[str] = []
    """Nodes beside it that are there and have to go."""


class Trial:
    """Units on trial. Afterwards either `steps` are committed and `keep` is called, or `take_back`."""

    def __init__(self, held: replica.Replica, where: layout.Layout, read: Read, epoch: int, number: int) -> None:
        self.results: list[seam.UnitResult] = []
        self.claims = False
        """There is a claim in it."""
        self.doubtful = False
        """A result says what was read, not only what was written: it is true only if the replica is up to date."""
        self._held = held
        self._where = where
        self._read = read
        self._base = replica.order(epoch, number, 0)
        self._before: dict[Key, replica.Before] = {}
        self._changes: dict[Key, Change] = {}
        self._documents: dict[tuple[str, str], bytes] = {}
        self._nodes: dict[bytes, int | None] = {}
        self._checks: dict[str, int] = {}
        self._args: dict[Key, bytes] = {}
        """Arguments that the replica does not hold: of jobs that were finished when they were touched, or are now."""
        self._size = 2 * (len(where.root) + _PATH_BYTES + _STEP_BYTES)
        held.begin(epoch, number)

    @property
    def changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._changes or self._documents or self._nodes)

    def take(self, unit: seam.Unit) -> bool:
        """Try one more unit; False when it has no room here, and was not tried. Raises TooLarge when it has no room anywhere."""
        mark = self._held.mark()
        self._held.begin_unit()
        results: list[seam.Result] = []
        for index, op in enumerate(unit):
            result = verbs.VERBS[type(op)](self._held, op)
            if isinstance(result, verbs.FAILURES):
                self._held.take_back(mark)
                self.results.append(seam.Refused(index, result))
                self.doubtful = True
                return True
            results.append(result)
        if not self._collect(unit, results):
            self._held.take_back(mark)
            if self.results:
                return False
            return self.take(_shrunk(unit))
        self.results.append(results)
        return True

    def _collect(self, unit: seam.Unit, results: list[seam.Result]) -> bool:
        """Take over what a unit changed; False, and nothing was taken over, when that has no room."""
        held = self._held
        self._fetch(held.touched)
        changed = {key: self._change(key) for key in held.touched}
        size = self._size + sum(change.size for change in changed.values())
        size -= sum(self._changes[key].size for key in changed if key in self._changes)
        documents = {at: self._document(*at) for at in held.touched_documents}
        checks: dict[str, int] = {}
        known = (held.renewed, held.stamps, self._nodes)
        nodes = {node: held.renewed.get(node) for node in held.touched_nodes if any(node in each for each in known)}
        if changed or documents or nodes:
            self._guard(unit, results, documents, checks)
        for (domain, path), body in documents.items():
            node = len(self._where.document(domain, path))
            size += node + len(body) + 4 * len(path) + len(domain) + _STEP_BYTES + _ENTRY_BYTES
        size += sum(len(path) + _STEP_BYTES for path in checks)
        size += len(nodes) * (len(self._where.root) + _PATH_BYTES + _STEP_BYTES + _ENTRY_BYTES)
        if size > (ROOM_BYTES if self.results else MOST_BYTES):
            return False
        self._fill(unit, results)
        for key, before in held.touched.items():
            self._before.setdefault(key, before)
            self._slim(key, changed[key])
        self._changes |= changed
        self._documents |= documents
        for domain, path in documents:
            written = held.documents[domain][path]
            held.documents[domain][path] = tables.Written(written.version, None if written.body is None else replica.HELD)
        self._nodes |= nodes
        self._checks |= checks
        self._size = size
        return True

    def _change(self, key: Key) -> Change:
        """Return what becomes of a job's node, as far as it is known now."""
        held = self._held
        row = held.rows.get(key)
        step_bytes = len(self._where.root) + len(key[0]) + _PATH_BYTES + _STEP_BYTES
        if row is None:
            old = self._there(key, ())
            return Change((1 + len(old)) * step_bytes + len(key[0]) + _ENTRY_BYTES, old=old)
        job = row.job
        earlier = self._changes.get(key)
        created = row.seq > self._base
        parts = dict(earlier.parts) if earlier is not None and earlier.seq == row.seq else {}
        args = self._args[key] if job.args is codec.THERE else job.args
        if args is not codec.BESIDE and len(args) > codec.INLINE:
            parts[layout.ARGS], args = args, codec.BESIDE
        result = job.result
        if result is not None and len(result) > codec.INLINE:
            parts[layout.result(job.fence)], result = result, codec.BESIDE
        fences = held.fences.get(key, ())
        for error in held.new_errors.get(key, ()):
            parts[layout.error(error.fence)] = codec.encode(error)
        used = _beside(args, result, job.fence, fences)
        parts = {part: content for part, content in parts.items() if part in used}
        old = self._there(key, () if created else used)
        moving = codec.moving(job, fences)
        inside = None if args is codec.BESIDE else args
        body = codec.encode(
            codec.Body(codec.fixed(job, row.seq & replica.INDEX), moving, inside, None if result is codec.BESIDE else result)
        )
        delta = b"" if created else codec.encode(codec.Changed(*key, held.stamps.get(key, 0) + 1, moving))
        size = (1 + len(parts) + len(old)) * step_bytes + len(body) + sum(map(len, parts.values()))
        if created:  # In the place of one that goes in the same transaction, maybe.
            size += len(body) + step_bytes + len(key[0])
        size += len(delta) + _ENTRY_BYTES
        if inside is not None and moving.state in model.TERMINAL:
            self._args[key] = inside
        return Change(size, body, delta, created, row.seq, parts, old)

    def _there(self, key: Key, still: Collection[str]) -> list[str]:
        """Return the nodes beside a job that are there, but for those that are used still."""
        row, fences = self._before[key] if key in self._before else self._held.touched[key]
        if row is None or row.seq > self._base:
            return []
        return [part for part in _beside(row.job.args, row.job.result, row.job.fence, fences) if part not in still]

    def _fetch(self, keys: Iterable[Key]) -> None:
        """Read the arguments that lie in the nodes of jobs and are not held, of all that will be written, at once."""
        rows = self._held.rows
        wanted = [
            key for key in keys if (row := rows.get(key)) is not None and row.job.args is codec.THERE and key not in self._args
        ]
        if not wanted:
            return
        for key, found in zip(wanted, self._read([self._where.job(key) for key in wanted]), strict=True):
            # If it was removed meanwhile, the commit will not be made.
            self._args[key] = (None if found is None else codec.decode_body(found.body).args) or b""

    def _slim(self, key: Key, change: Change) -> None:
        """Hold no more of a job than replicas do."""
        row = self._held.rows.get(key)
        if row is None:
            return
        job = row.job
        args, result = job.args, job.result
        if layout.ARGS in change.parts:
            args = codec.BESIDE
        elif args is not codec.BESIDE and job.state in model.TERMINAL:
            args = codec.THERE
        elif args is codec.THERE:
            args = self._args[key]
        if result is not None:
            result = codec.BESIDE if len(result) > codec.INLINE or result is codec.BESIDE else codec.THERE
        if args is not job.args or result is not job.result:
            self._held.replace(key, msgspec.structs.replace(job, args=args, result=result))

    def _document(self, domain: str, path: str) -> bytes:
        written = self._held.documents[domain][path]
        return codec.encode(codec.Written(domain, path, written.version, written.body))

    def _guard(
        self,
        unit: seam.Unit,
        results: Sequence[seam.Result],
        documents: dict[tuple[str, str], bytes],
        checks: dict[str, int],
    ) -> None:
        """Note what must still be so when the unit is committed, besides what it writes."""
        held = self._held
        for op, result in zip(unit, results, strict=True):
            if isinstance(op, seam.Require):
                at = (op.domain, op.path)
                stamp = held.stamps.get(at)
                if stamp is not None:
                    checks[self._where.document(*at)] = stamp
                elif at not in documents and at not in self._documents:  # Its creation, as one never written, is the guard.
                    held.write_document(*at, tables.NEVER)
                    documents[at] = self._document(*at)
            elif isinstance(result, seam.Same) and len(unit) > 1 and isinstance(op, seam.Put):
                if op.job.key in held.stamps:
                    checks[self._where.job(op.job.key)] = requests.ANY
                self.doubtful = True

    def _fill(self, unit: seam.Unit, results: list[seam.Result]) -> None:
        """Complete the jobs that results hand out, and note which results need an up-to-date replica."""
        for index, (op, result) in enumerate(zip(unit, results, strict=True)):
            if isinstance(result, seam.Created | seam.Settled):
                continue
            self.doubtful = True
            if isinstance(result, seam.Claimed):
                results[index] = seam.Claimed(self._filled(result.jobs))
                if isinstance(op, seam.Claim):
                    self.claims, self._held.spread.node = True, op.node
            elif isinstance(result, seam.Expired):
                results[index] = seam.Expired(self._filled(result.jobs))

    def _filled(self, jobs: list[model.Job]) -> list[model.Job]:
        """Return jobs with their arguments: those of this trial, or read all at once."""
        lacking: dict[str, int] = {}
        for number, job in enumerate(jobs):
            if job.args is not codec.BESIDE and job.args is not codec.THERE:
                continue
            new = self._args.get(job.key)
            if job.args is codec.BESIDE:
                earlier = self._changes.get(job.key)
                new = None if earlier is None else earlier.parts.get(layout.ARGS)
            if new is None:
                lacking[self._where.part(job.key, layout.ARGS)] = number
            else:
                jobs[number] = msgspec.structs.replace(job, args=new)
        for number, found in zip(lacking.values(), self._read(list(lacking)) if lacking else (), strict=True):
            # If it was removed meanwhile, the commit will not be made.
            jobs[number] = msgspec.structs.replace(jobs[number], args=b"" if found is None else found.body)
        return jobs

    # What it comes to

    def steps(self, head_stamp: int, epoch: int, token: bytes, number: int, *, crowded: bool) -> list[requests.Step]:
        """Return the transaction; its last step makes the entry of the log. See `codec.Entry`."""
        where, stamps = self._where, self._held.stamps
        steps = [requests.check(where.head, head_stamp)]
        steps += [requests.check(path, stamp) for path, stamp in self._checks.items()]
        removed: list[bytes] = []
        created: list[tuple[int, bytes]] = []
        changed: list[bytes] = []
        for key, change in self._changes.items():
            stamp = stamps.get(key)
            path = where.job(key)
            if stamp is not None and (change.body is None or change.created):
                steps.append(requests.delete(path, stamp))
                removed.append(codec.encode(key))
            steps += [requests.delete(where.part(key, part)) for part in change.old]
            if change.body is None:
                continue
            if change.created:
                steps.append(requests.create(path, change.body))
                created.append((change.seq, change.body))
            else:
                assert stamp is not None, "a job that is not new has a node"
                steps.append(requests.write(path, change.body, stamp))
                changed.append(change.delta)
            steps += [requests.create(where.part(key, part), content) for part, content in change.parts.items()]
        documents = [self._step_document(*at, steps) for at in self._documents]
        renewed = [each for node in self._nodes for each in self._step_renewed(node, steps)]
        created.sort()
        bodies = [body for _, body in created]
        entry = codec.entry(token, number, removed, bodies, changed, documents, renewed, crowded=crowded)
        steps.append(requests.create(where.next_entry(epoch), entry, sequential=True))
        return steps

    def _step_document(self, domain: str, path: str, steps: list[requests.Step]) -> bytes:
        held = self._held
        body, written = self._documents[domain, path], held.documents[domain][path]
        stamp = held.stamps.get((domain, path))
        node = self._where.document(domain, path)
        steps.append(requests.create(node, body) if stamp is None else requests.write(node, body, stamp))
        after = 0 if stamp is None else stamp + 1
        return codec.encode(codec.WrittenDocument(domain, path, after, written.version, written.body is not None))

    def _step_renewed(self, node: bytes, steps: list[requests.Step]) -> list[bytes]:
        at, stamp = self._nodes[node], self._held.stamps.get(node)
        path = self._where.node(node)
        if at is None:
            if stamp is None:
                return []
            steps.append(requests.delete(path, stamp))
            return [codec.encode(codec.Renewed(node, stamp, None))]
        body = codec.encode(at)
        steps.append(requests.create(path, body) if stamp is None else requests.write(path, body, stamp))
        return [codec.encode(codec.Renewed(node, 0 if stamp is None else stamp + 1, at))]

    def made(self) -> list[Key]:
        """Return the jobs that are new."""
        return [key for key, change in self._changes.items() if change.created]

    def keep(self) -> None:
        """It was committed: what was tried is so."""
        stamps = self._held.stamps
        for key, change in self._changes.items():
            if change.body is None:
                stamps.pop(key, None)
            else:
                stamps[key] = 0 if change.created else stamps[key] + 1
        for at in self._documents:
            stamps[at] = stamps[at] + 1 if at in stamps else 0
        for node, renewed in self._nodes.items():
            if renewed is None:
                stamps.pop(node, None)
            else:
                stamps[node] = stamps[node] + 1 if node in stamps else 0
        self._held.keep()

    def take_back(self) -> None:
        self._held.take_back()


def content_bytes(unit: seam.Unit) -> int:
    """Return how many bytes a unit brings with it, about, which no cutting makes fewer."""
    size = 0
    for op in unit:
        if isinstance(op, seam.Put):
            job, args = op.job, len(op.job.args)
            words = sum(4 * len(tag) for tag in job.tags) + sum(
                4 * len(name) + 4 * len(value) for name, value in job.meta.items()
            )
            size += (args if args > codec.INLINE else 2 * args) + 2 * (words + 2 * len(job.domain) + _BODY_BYTES)
        elif isinstance(op, seam.Settle):
            size += len(op.outcome.result or b"") + 2 * _BODY_BYTES
        elif isinstance(op, seam.PutDocument):
            size += len(op.body or b"") + _BODY_BYTES
    return size


def _beside(args: bytes, result: bytes | None, fence: int, fences: tuple[int, ...]) -> list[str]:
    """Return the names of the nodes beside a job."""
    parts = [layout.ARGS] if args is codec.BESIDE else []
    if result is codec.BESIDE:
        parts.append(layout.result(fence))
    return parts + [layout.error(fence) for fence in fences]


def _shrunk(unit: seam.Unit) -> seam.Unit:
    """Return a unit that asks for half as much. Raises TooLarge when there is nothing to halve."""
    smaller = tuple(
        msgspec.structs.replace(op, limit=op.limit // 2) if isinstance(op, _SHRINKING) and op.limit > 1 else op for op in unit
    )
    if smaller == unit:
        raise too_large()
    return smaller


def too_large() -> errors.TooLarge:
    why = f"one unit is over the {requests.MOST_BYTES} bytes that a ZooKeeper transaction takes: write less of it at once"
    return errors.TooLarge(why, limit=requests.MOST_BYTES)
