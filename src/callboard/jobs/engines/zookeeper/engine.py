"""The engine: units tried on the replica, committed by one transaction in ZooKeeper, and the reads.

One lock is held by whoever uses the replica, for the length of a commit or of a refresh. Nobody else's commits are waited
for: what they changed meanwhile makes ours fail, by the version of a node; then the log tells what they did, and ours is
tried again.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from callboard import errors
from callboard.ensembles import client, requests
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines.memory import reads, verbs
from callboard.jobs.engines.memory.tables import Key
from callboard.jobs.engines.zookeeper import codec, ground, layout, log, replica, trial
from callboard.kit import uuid7

T = TypeVar("T")
BACKLOG: Final = 50_000
_PURE_WRITES: Final = (seam.Put, seam.Settle, seam.Release)
"""Operations that succeed only if what was known is still so: these need no look at the log before."""
_CONFLICTS: Final = (requests.BAD_VERSION, requests.NODE_EXISTS, requests.NO_NODE, requests.NOT_EMPTY)
_MOST_CONFLICTS: Final = 200
_PAUSE_SECONDS: Final = 0.001
_MOST_PAUSE_SECONDS: Final = 0.03
_PIECES: Final = 4
_FRUITLESS: Final = 3
_LOOKS: Final = 10
"""How often a job is read again that changes between two reads."""
_FOLLOWED_SECONDS: Final = 0.5
"""How long a process that only puts and ends jobs does not follow the log, so that it stays near its end."""
_ASKED_AGAIN_SECONDS: Final = 3.0
"""How long a read, whose connection broke, is asked again, and what became of a commit whose answer was lost."""


class ZooKeeperEngine:
    """See `callboard.jobs.engine.Engine`. Any number of processes and machines may open one root; any thread may call."""

    name = "zookeeper"
    abilities = seam.Abilities(durable=True, shared=True, machines=True, age_seconds=float(model.SPARE_SECONDS))

    def __init__(self, asked: client.Client, where: layout.Layout, backlog: int = BACKLOG) -> None:
        self._client = asked
        self._where = where
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._token = secrets.token_bytes(8)
        self._log = log.Log(asked, where, backlog, self._token)
        self._number = 0
        self._followed_at = 0.0
        self._closed = False
        self._fruitless = 0
        """Conflicts, one after the other, that nobody's commit explains."""

    def start(self) -> None:
        """Make the ground if there is none, and load. Raises StoreError."""
        self._insist(lambda: ground.made(self._client, self._where))
        with self._mine():
            self._insist(lambda: self._log.refresh(sync=True))

    # Writing

    def apply(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        for unit in units:
            for op in unit:
                if type(op) not in verbs.VERBS:
                    raise errors.Unsupported(f"the zookeeper engine has no operation {type(op).__name__}", engine=self.name)
            if trial.content_bytes(unit) > trial.MOST_BYTES:
                raise trial.too_large()
        if not units:
            return []
        with self._mine():
            done: list[seam.UnitResult] = []
            try:
                self._apply(units, done)
            except errors.CallboardError as error:
                self._log.held.take_back()
                if done and not error.data.get("unknown"):
                    raise _unknown(error) from None
                raise
            except BaseException:
                self._log.held.take_back()
                raise
            return done

    def _apply(self, units: Sequence[seam.Unit], done: list[seam.UnitResult]) -> None:
        sure = not all(isinstance(op, _PURE_WRITES) for unit in units for op in unit)
        if sure or not self._log.epoch or time.monotonic() > self._followed_at + _FOLLOWED_SECONDS:
            self._refresh(sync=sure)
        conflicts = 0
        while len(done) < len(units):
            try:
                tried = self._try(units, len(done), careful=conflicts > 2)
            except errors.TooLarge:
                done.append(self._in_pieces(units[len(done)]))
                continue
            if tried.doubtful and not sure:
                tried.take_back()
                self._refresh(sync=True)
                sure = True
            elif not tried.changes:
                tried.keep()
                done += tried.results
            elif self._commit(tried, crowded=tried.claims and conflicts > 0):
                done += tried.results
                conflicts = 0
            else:
                conflicts += 1
                sure = True
                self._after_conflict(conflicts)
        self._shorten()

    def _in_pieces(self, unit: seam.Unit) -> seam.UnitResult:
        """Do in several transactions what does not fit in one, where each is whole by itself. Raises TooLarge for all else."""
        self._log.held.take_back()
        parts: list[seam.Result] = []
        for piece in _pieces(unit):
            done: list[seam.UnitResult] = []
            try:
                self._apply([(piece,)], done)
            except errors.CallboardError as error:
                if parts:
                    raise _unknown(error) from None
                raise
            (part,) = done[0] if not isinstance(done[0], seam.Refused) else ()
            parts.append(part)
            if isinstance(piece, seam.Expire | seam.Purge) and _number(part) < piece.limit:
                break
        return [_joined(parts)]

    def _try(self, units: Sequence[seam.Unit], first: int, *, careful: bool) -> trial.Trial:
        """Try as many units as fit in one transaction; after several conflicts, those that claim by themselves."""
        tried = trial.Trial(self._log.held, self._where, self._read, self._log.epoch, self._log.next)
        for unit in units[first:]:
            if not tried.take(unit):
                break
            if careful and (tried.claims or len(tried.results) >= max(1, len(units) // 4)):
                break
        return tried

    def _commit(self, tried: trial.Trial, *, crowded: bool) -> bool:
        """Commit what was tried; False when it was taken back: somebody else has changed what it relied on.

        Where others committed in between, and it was not about the same, the replica has this commit before theirs until it
        follows the log. Raises StoreUnavailable, with `unknown` when it may have been applied.
        """
        self._number += 1
        steps = tried.steps(self._log.head_stamp, self._log.epoch, self._token, self._number, crowded=crowded)
        try:
            results = self._client.commit(steps)
        except client.Interrupted:
            tried.take_back()
            return self._found_out()
        except client.Refused as refused:
            raise _refused(refused) from None
        failed = next((result.code for result in results if result.code not in (requests.OK, requests.SKIPPED)), requests.OK)
        if not failed:
            tried.keep()
            self._log.committed(results[-1], tried.made(), len(steps[-1].begin))
            self._fruitless = 0
            return True
        tried.take_back()
        if failed not in _CONFLICTS:
            raise errors.StoreUnavailable(f"ZooKeeper refused with code {failed}: look at its log")
        if tried.claims:
            self._log.held.spread.begin(log.owners(self._log.held))
        return False

    def _after_conflict(self, conflicts: int) -> None:
        """Learn what others did; where that is nothing, again and again, this replica must be wrong."""
        if conflicts > _MOST_CONFLICTS:
            raise errors.StoreUnavailable("others change the same jobs all the time: try again")
        if conflicts > 1:
            time.sleep(random.uniform(0, min(_PAUSE_SECONDS * 2**conflicts, _MOST_PAUSE_SECONDS)))
        place = self._log.place
        self._refresh(sync=True)
        self._fruitless = self._fruitless + 1 if self._log.place == place else 0
        if self._fruitless > _FRUITLESS:
            self._log.forget()
            self._refresh(sync=True)

    def _found_out(self) -> bool:
        """Tell whether the last commit was applied, whose answer was lost: the log knows."""
        loads = self._log.loads
        deadline = time.monotonic() + _ASKED_AGAIN_SECONDS
        while True:
            try:
                self._refresh(sync=True)
                break
            except errors.StoreError as error:
                if self._closed or time.monotonic() > deadline or not isinstance(error, errors.StoreUnavailable):
                    raise _unknown(error) from None
        met = self._log.met == self._number
        if not met and loads != self._log.loads:
            raise errors.StoreUnavailable("whether it was applied cannot be told any more: read again", unknown=True)
        return met

    def _refresh(self, *, sync: bool) -> None:
        self._followed_at = time.monotonic()
        self._insist(lambda: self._log.refresh(sync=sync))

    def _read(self, paths: Sequence[str]) -> list[requests.Content | None]:
        return self._insist(lambda: self._client.read(paths))

    def _shorten(self) -> None:
        """Keep the log short; what fails is done by a later commit, or by another process."""
        try:
            self._log.shorten()
        except (client.Interrupted, client.Refused, errors.StoreError):
            return

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask what may be asked twice, again when the connection breaks. Raises StoreError."""
        deadline = time.monotonic() + _ASKED_AGAIN_SECONDS
        while True:
            try:
                return ask()
            except client.Interrupted as error:
                if time.monotonic() > deadline:
                    raise errors.StoreUnavailable(f"ZooKeeper does not answer ({error}): look after its servers") from None
            except client.Refused as refused:
                raise _refused(refused) from None
            except codec.DecodeError as error:
                why = f"a node under {self._where.root} in ZooKeeper is not as it was written ({error})"
                raise errors.StoreCorrupt(f"{why}: restore it from a copy") from None

    # Reading

    def get(self, keys: Sequence[Key]) -> list[model.Job | None]:
        return self._insist(lambda: self._contents(keys, sync=True))

    def states(self, keys: Sequence[Key]) -> list[tuple[model.State, int] | None]:
        def ask() -> list[codec.Moving | None]:
            found = self._client.synced([self._where.job(key) for key in keys], codec.SMALL)
            return [None if each is None else codec.decode_body(each.body).moving for each in found]

        return [None if moving is None else (moving.state, moving.run) for moving in self._insist(ask)]

    def attempt_errors(self, domain: str, id: bytes) -> list[model.AttemptError]:
        key = (domain, id)
        fences = self._ask(lambda held: held.fences.get(key, ()))
        found = self._read([self._where.part(key, layout.error(fence)) for fence in fences])
        return sorted(
            (codec.decode_error(each.body) for each in found if each is not None), key=lambda error: (error.run, error.fence)
        )

    def find(self, filter: seam.Filter, limit: int, cursor: bytes | None = None) -> seam.Page:
        keys, following = self._ask(lambda held: reads.find(held, filter, limit, cursor))
        found = self._insist(lambda: self._contents(keys))
        return seam.Page([job for job in found if job is not None and reads.matches(job, filter)], following)

    def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        return self._ask(lambda held: reads.counts(held, domain, subtree))

    def ready(self, takes: Sequence[seam.Take], now: int) -> bool:
        return self._ask(lambda held: reads.ready(held, takes, now))

    def claimants(self) -> list[tuple[bytes, int]]:
        return self._ask(reads.claimants)

    def documents(self, domain: str, prefix: str) -> list[model.Document]:
        paths = self._ask(lambda held: sorted(path for path in held.documents.get(domain, ()) if path.startswith(prefix)))
        found = self._read([self._where.document(domain, path) for path in paths])
        written = [codec.decode_document(each.body) for each in found if each is not None]
        return [model.Document(domain, each.path, each.version, each.body) for each in written if each.body is not None]

    def document(self, domain: str, path: str) -> model.Document:
        def ask() -> requests.Content | None:
            return self._client.synced([self._where.document(domain, path)])[0]

        found = self._insist(ask)
        if found is None:
            return model.Document(domain, path, 0, b"")
        written = codec.decode_document(found.body)
        return model.Document(domain, path, written.version, written.body or b"")

    def domains(self) -> list[str]:
        return self._ask(reads.domains)

    def close(self) -> None:
        self._closed = True
        self._client.close()

    def _ask(self, question: Callable[[replica.Replica], T]) -> T:
        """Ask the replica, once it knows all that was committed until now."""
        with self._mine():
            self._refresh(sync=True)
            return question(self._log.held)

    @contextlib.contextmanager
    def _mine(self) -> Iterator[None]:
        """Have the replica to oneself. Whoever waits for it is the next: a busy writer does not keep readers away."""
        with self._turn:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _contents(self, keys: Sequence[Key], *, sync: bool = False) -> list[model.Job | None]:
        """Read jobs whole; one that changed between two reads is read again."""
        found: list[model.Job | None] = [None] * len(keys)
        wanted = list(range(len(keys)))
        for _ in range(_LOOKS):
            paths = [self._where.job(keys[number]) for number in wanted]
            read = self._client.synced(paths, codec.SMALL) if sync else self._client.read(paths, codec.SMALL)
            beside: list[tuple[int, str]] = []
            for number, content in zip(wanted, read, strict=True):
                job = None if content is None else codec.job(codec.decode_body(content.body))
                found[number] = job
                if job is not None and job.args is codec.BESIDE:
                    beside.append((number, layout.ARGS))
                if job is not None and job.result is codec.BESIDE:
                    beside.append((number, layout.result(job.fence)))
            wanted = self._add_parts(keys, found, beside)
            if not wanted:
                return found
        domain, id = keys[wanted[0]]
        raise errors.StoreCorrupt(f"arguments or result of job {uuid7.text(id)} of {domain} are missing in ZooKeeper")

    def _add_parts(self, keys: Sequence[Key], found: list[model.Job | None], beside: list[tuple[int, str]]) -> list[int]:
        """Put what lies beside jobs in its place; return the numbers of those where it had gone."""
        parts = self._client.read([self._where.part(keys[number], part) for number, part in beside])
        again: dict[int, None] = {}
        for (number, part), content in zip(beside, parts, strict=True):
            job = found[number]
            if content is None or job is None:
                again[number] = None
            elif part == layout.ARGS:
                found[number] = codec.with_args(job, content.body)
            else:
                found[number] = codec.with_result(job, content.body)
        return list(again)


def _unknown(error: errors.CallboardError) -> errors.StoreUnavailable:
    return errors.StoreUnavailable(error.message, unknown=True)


def _refused(refused: client.Refused) -> errors.StoreUnavailable:
    return errors.StoreUnavailable(f"ZooKeeper refused ({refused}): look at its log")


def _pieces(unit: seam.Unit) -> list[seam.Op]:
    """Return operations that together do what one does. Raises TooLarge where it cannot be divided."""
    op = unit[0]
    if len(unit) == 1 and isinstance(op, seam.Expire | seam.Purge) and op.limit >= _PIECES:
        size = op.limit // _PIECES
        limits = [size] * (_PIECES - 1) + [op.limit - size * (_PIECES - 1)]
        return [msgspec.structs.replace(op, limit=limit) for limit in limits]
    if len(unit) == 1 and isinstance(op, seam.Renew) and len(op.claims) >= _PIECES:
        size = -(-len(op.claims) // _PIECES)
        starts = range(0, len(op.claims), size)
        return [msgspec.structs.replace(op, claims=op.claims[start : start + size]) for start in starts]
    raise trial.too_large()


def _joined(parts: Sequence[seam.Result]) -> seam.Result:
    """Return the results of pieces as one."""
    renewed = [part for part in parts if isinstance(part, seam.Renewed)]
    if renewed:
        wished = (each for part in renewed for each in part.cancel_requested)
        return seam.Renewed(tuple(each for part in renewed for each in part.lost), tuple(wished))
    if isinstance(parts[0], seam.Purged):
        return seam.Purged(sum(map(_number, parts)))
    return seam.Expired([job for part in parts if isinstance(part, seam.Expired) for job in part.jobs])


def _number(part: seam.Result) -> int:
    """How many jobs an operation was about."""
    if isinstance(part, seam.Purged):
        return part.jobs
    return len(part.jobs) if isinstance(part, seam.Expired) else 0
