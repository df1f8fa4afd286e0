"""The one room around an engine: threads, group commit, retries, errors, hints. Everyone reaches the store through a `Queue`.

What the engine stores is decided by `states`; what is asked of it is put together here. No floor above calls an engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, Final, TypeVar

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import hints as wake
from callboard.jobs import model, replies
from callboard.jobs.waiters import Waiters
from callboard.jobs.writer import Writer
from callboard.kit import clock as clocks
from callboard.kit import uuid7

T = TypeVar("T")
NONE: Final[Mapping[int, seam.Put]] = {}

_log = logging.getLogger("callboard.store")

PROMOTED_PER_CLAIM: Final = 500
EXPIRED_PER_COMMIT: Final = 500
QUEUES_PATH: Final = "queues"
"""The document of a domain that holds its queues' settings: {"paused": [names]}."""


class Queue:
    """Jobs of one store, for one process. All methods are called on one event loop's thread; none blocks it.

    Every method that reaches the store may raise a StoreError. After StoreUnavailable of a write it is unknown
    whether the write happened; all writes here may simply be repeated: puts meet their own id, settles find their claim gone.
    """

    def __init__(self, engine: seam.Engine, *, clock: clocks.Clock | None = None, hints: wake.Hints | None = None) -> None:
        self.engine = engine
        self.clock = clock or clocks.SystemClock()
        self.hints = hints or wake.LocalHints()
        self._writer = Writer(engine.apply)
        self._reader = futures.ThreadPoolExecutor(1, "callboard-reader")
        self._waiters = Waiters(self._read_finished, self.hints)
        self._paused: dict[str, tuple[int, frozenset[str]]] = {}
        self._stop_listening: Callable[[], None] | None = None

    async def start(self) -> None:
        """Begin; needs a running event loop, whose thread then owns this queue."""
        self._writer.start()
        self._stop_listening = self.hints.listen(self._hear)

    async def stop(self) -> None:
        """Commit what was given, then close the engine. Allowed twice."""
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        self._waiters.stop()
        await self._writer.stop()
        self._reader.shutdown()
        self.engine.close()

    # Writing

    async def write(self, units: Sequence[seam.Unit]) -> list[seam.UnitResult]:
        """Apply units, sharing a commit with whatever else arrived, and send the hints that follow from them.

        A result for each unit, in their order. Raises StoreError.
        """
        results = await self._writer.write(units)
        if hint := self._hint(units, results):
            self.hints.publish(hint)
        return results

    async def guarded(self, op: seam.Op, guards: seam.Unit = ()) -> seam.Result:
        """Write one operation together with guards (`engine.Require`). Raises DocumentConflict when one does not hold."""
        (result,) = await self.write([(*guards, op)])
        if isinstance(result, seam.Refused) and isinstance(result.result, seam.Changed):
            raise _conflict(guards[result.index].path, guards[result.index].version, result.result)  # type: ignore[attr-defined]
        return result.result if isinstance(result, seam.Refused) else result[-1]

    async def submit(self, jobs: Sequence[model.Job]) -> list[seam.Result]:
        """Store jobs that `submission.build` made; each answers Created, Same, Conflict, Stale or Full."""
        now = self.clock.now()
        results = await self.write([(seam.Put(job, now),) for job in jobs])
        return [_only(result) for result in results]

    async def submit_claimed(self, puts: Sequence[tuple[model.Job, int]]) -> list[seam.Result]:
        """Store jobs as `submit` does, each by a time of its own: that by which `engine.Put` finds an id too old.

        Jobs may be claimed already (`states.claimed`): the node they name owns those that answer Created, and nobody else is
        told of them; others of the same call need not be.
        """
        results = await self.write([(seam.Put(job, now),) for job, now in puts])
        return [_only(result) for result in results]

    async def exchange(
        self,
        settles: Sequence[seam.Settle | seam.Release],
        node: bytes,
        takes: Sequence[seam.Take],
        limit: int,
        words: Mapping[int, seam.Put] = NONE,
    ) -> tuple[list[seam.Result], list[model.Job]]:
        """End claims and make new ones in one commit.

        `words` are put with the end at their index, in its unit (see `replies`); an end does not fail for its word's sake.
        Returns Settled or Lost for each of `settles`, and the jobs claimed. Takes of paused queues are left out, judged in
        the transaction of the claim; due jobs of the takes' queues are promoted first. When the error's `data["unknown"]` is
        true, claims may have been made: `find` shows those of the node.
        """
        units: list[seam.Unit] = [(settle,) for settle in settles]
        for index, word in words.items():
            units[index] = (settles[index], word)
        claim = await self._claim_unit(node, takes, limit)
        if claim:
            units.append(claim)
        results = await self.write(units) if units else []
        claimed: list[model.Job] = []
        if claim:
            claimed = await self._claimed(results[-1], node, takes, limit)
        ends = [_only(result) for result in results[: len(settles)]]
        for index in words:
            if not isinstance(ends[index], seam.Settled | seam.Lost):
                _log.warning("no reply to %s: the store refused it", uuid7.text(settles[index].id))
                ends[index] = _only((await self.write([(settles[index],)]))[0])
        return ends, claimed

    async def say(self, jobs: Sequence[model.Job]) -> None:
        """Put the word about each of these finished jobs of which one is owed (see `replies`). A store that is away is logged."""
        now = self.clock.now()
        units: list[seam.Unit] = [(replies.put(job, now),) for job in jobs if replies.owed(job)]
        if units:
            try:
                await self.write(units)
            except errors.StoreError as error:
                _log.warning("no reply to %d jobs: %s", len(units), error)

    async def _claim_unit(self, node: bytes, takes: Sequence[seam.Take], limit: int) -> seam.Unit:
        if not takes or limit < 1:
            return ()
        guards = []
        for domain in dict.fromkeys(take.domain for take in takes):
            version, _ = await self._settings(domain)
            guards.append(seam.Require(domain, QUEUES_PATH, version))
        open_takes = tuple(take for take in takes if take.queue not in self._paused[take.domain][1])
        if not open_takes:
            return ()
        queues = tuple(dict.fromkeys((take.domain, take.queue) for take in open_takes))
        now = self.clock.now()
        return (*guards, seam.Promote(queues, PROMOTED_PER_CLAIM, now), seam.Claim(node, open_takes, limit, now))

    async def _claimed(self, result: seam.UnitResult, node: bytes, takes: Sequence[seam.Take], limit: int) -> list[model.Job]:
        """Return the jobs of a claim unit; where a queue was paused or resumed meanwhile, claim once more by the new settings."""
        while isinstance(result, seam.Refused):
            self._paused.clear()
            claim = await self._claim_unit(node, takes, limit)
            if not claim:
                return []
            result = (await self.write([claim]))[0]
        last = result[-1]
        assert isinstance(last, seam.Claimed)
        return last.jobs

    async def renew(self, node: bytes, claims: Sequence[tuple[str, bytes, int, model.Progress | None]]) -> seam.Renewed:
        """Say that a node lives and what it runs; see `engine.Renew`."""
        (result,) = await self.write([(seam.Renew(node, tuple(claims), self.clock.now()),)])
        only = _only(result)
        assert isinstance(only, seam.Renewed)
        return only

    async def cancel(self, domain: str, id: bytes) -> model.State:
        """Cancel a job: CANCELLED, or RUNNING when it runs and carries the wish now. Raises JobNotFound, StateRefused."""
        (result,) = await self.write([(seam.Cancel(domain, id, self.clock.now()),)])
        became = _became(_only(result), id, "cancelled")
        if became is model.State.CANCELLED:
            with contextlib.suppress(errors.StoreError):  # It is cancelled, whoever hears of it.
                await self.say([job for job in await self.get_many([(domain, id)]) if job is not None])
        return became

    async def retry(self, domain: str, id: bytes, run: int | None = None) -> model.State:
        """Begin a new run of a finished job (if it is in `run`, when given): AVAILABLE. Raises JobNotFound, StateRefused."""
        (result,) = await self.write([(seam.Retry(domain, id, self.clock.now(), run),)])
        return _became(_only(result), id, "retried")

    async def expire(self, nodes: Sequence[bytes], guards: seam.Unit = ()) -> list[model.Job]:
        """End every claim of nodes that are dead for good; returns the jobs after the change.

        Only for the one who made sure of their death: a node that lives would lose its work. Raises DocumentConflict when a
        guard is refused: what was ended before stays so.
        """
        ended: list[model.Job] = []
        while True:
            only = await self.guarded(seam.Expire(tuple(nodes), EXPIRED_PER_COMMIT, self.clock.now()), guards)
            assert isinstance(only, seam.Expired)
            ended += only.jobs
            await self.say([job for job in only.jobs if job.finished])
            if len(only.jobs) < EXPIRED_PER_COMMIT:
                return ended

    # Reading

    async def get(self, domain: str, id: bytes) -> model.Job | None:
        """Read one job, None if there is none."""
        return (await self.get_many([(domain, id)]))[0]

    async def get_many(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        """Read jobs by (domain, id); None for each that does not exist."""
        return await self._read(lambda: self.engine.get(keys))

    async def wait(self, domain: str, id: bytes, seconds: float) -> model.Job | None:
        """Return a job the moment it is finished, or as it is after `seconds`; None at once if there is none."""
        return await self._waiters.wait(domain, id, seconds)

    async def attempt_errors(self, domain: str, id: bytes) -> list[model.AttemptError]:
        """Read the errors of a job's attempts, by (run, fence)."""
        return await self._read(lambda: self.engine.attempt_errors(domain, id))

    async def find(self, filter: seam.Filter, limit: int, cursor: bytes | None = None) -> seam.Page:
        """List jobs, newest id first; see `engine.Page`. Raises InvalidName for a tag that no job can have."""
        if filter.tag is not None:
            model.check_tags((filter.tag,))
        return await self._read(lambda: self.engine.find(filter, limit, cursor))

    async def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        """Count the jobs of a domain by queue, kind, lane and state."""
        return await self._read(lambda: self.engine.counts(domain, subtree))

    async def ready(self, takes: Sequence[seam.Take]) -> bool:
        """Tell whether a claim of these takes would probably get something. Cheap: this is what polling asks."""
        open_takes = []
        for take in takes:
            if take.queue not in (await self._settings(take.domain))[1]:
                open_takes.append(take)
        now = self.clock.now()
        return bool(open_takes) and await self._read(lambda: self.engine.ready(open_takes, now))

    async def claimants(self) -> list[tuple[bytes, int]]:
        """Return the nodes that own running jobs, each with when it last renewed."""
        return await self._read(self.engine.claimants)

    async def domains(self) -> list[str]:
        """Return the domains that have jobs or documents."""
        return await self._read(self.engine.domains)

    # Documents

    async def document(self, domain: str, path: str) -> model.Document:
        """Read a document; version 0 when there was never one."""
        return await self._read(lambda: self.engine.document(domain, path))

    async def documents(self, domain: str, prefix: str) -> list[model.Document]:
        """Read the documents of a domain whose path starts with `prefix`."""
        return await self._read(lambda: self.engine.documents(domain, prefix))

    async def put_document(self, domain: str, path: str, expect: int, body: bytes | None) -> int:
        """Write a document that is at version `expect` (None removes it); returns the new version. Raises DocumentConflict."""
        (result,) = await self.write([(seam.PutDocument(domain, path, expect, body),)])
        only = _only(result)
        if isinstance(only, seam.Changed):
            raise _conflict(path, expect, only)
        assert isinstance(only, seam.Stored)
        return only.version

    async def pause(self, domain: str, queue: str, paused: bool) -> None:
        """Pause or resume a queue. After this returned, no claim of a paused queue commits, in any process."""
        while True:
            self._paused.pop(domain, None)
            version, before = await self._settings(domain)
            after = before | {queue} if paused else before - {queue}
            if after == before:
                return
            try:
                body = json.dumps({"paused": sorted(after)}).encode()
                await self.put_document(domain, QUEUES_PATH, version, body)
            except errors.DocumentConflict:
                continue
            return

    async def paused(self, domain: str) -> frozenset[str]:
        """Return the names of a domain's paused queues."""
        self._paused.pop(domain, None)
        return (await self._settings(domain))[1]

    async def _settings(self, domain: str) -> tuple[int, frozenset[str]]:
        found = self._paused.get(domain)
        if found is None:
            document = await self.document(domain, QUEUES_PATH)
            names = json.loads(document.body)["paused"] if document.body else ()
            found = self._paused[domain] = (document.version, frozenset(names))
        return found

    # Around the engine

    def stats(self) -> Mapping[str, float]:
        """Return counters since the start: commits, units, failures, seconds in commits, and units waiting now."""
        return self._writer.stats()

    async def _read(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, question)

    async def _read_finished(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        return await self.get_many(keys)

    def _hear(self, hint: wake.Hint) -> None:
        for domain, path in hint.documents:
            if path == QUEUES_PATH:
                self._paused.pop(domain, None)
        self._waiters.finished(hint.finished)

    def _hint(self, units: Sequence[seam.Unit], results: Sequence[seam.UnitResult]) -> wake.Hint | None:
        """Return what applied units mean to others, None when nothing does."""
        awaited = self.hints.awaited
        ready: dict[tuple[str, str], None] = {}
        finished: list[bytes] = []
        cancelled: list[tuple[bytes, str, bytes]] = []
        documents: list[tuple[str, str]] = []
        for unit, result in zip(units, results, strict=True):
            if isinstance(result, seam.Refused):
                continue
            if len(unit) == 1:  # The two most frequent ones, faster than below.
                one: Any = unit[0]
                only: Any = result[0]
                kind = type(only)
                if kind is seam.Created:
                    if one.job.state is model.State.AVAILABLE:
                        ready[one.job.domain, one.job.queue] = None
                    continue
                if kind is seam.Settled and only.state in model.TERMINAL:
                    if awaited:
                        finished.append(one.id)
                    continue
            for op, done in zip(unit, result, strict=True):
                match done:
                    case seam.Settled(state):
                        if state not in model.TERMINAL:
                            if state is model.State.AVAILABLE:
                                ready[op.domain, ""] = None  # type: ignore[attr-defined]
                        elif awaited:
                            finished.append(op.id)  # type: ignore[attr-defined]
                    case seam.Created():
                        job = op.job  # type: ignore[attr-defined]
                        if job.state is model.State.AVAILABLE:
                            ready[job.domain, job.queue] = None
                    case seam.Became(state, node):
                        if state is model.State.AVAILABLE:
                            ready[op.domain, ""] = None  # type: ignore[attr-defined]
                        elif node is not None:
                            cancelled.append((node, op.domain, op.id))  # type: ignore[attr-defined]
                        else:
                            finished.append(op.id)  # type: ignore[attr-defined]
                    case seam.Expired(jobs):
                        ready.update(((job.domain, job.queue), None) for job in jobs if not job.finished)
                        finished.extend(job.id for job in jobs if job.finished)
                    case seam.Promoted(jobs) if jobs:
                        ready.update((pair, None) for pair in op.queues)  # type: ignore[attr-defined]
                    case seam.Stored():
                        documents.append((op.domain, op.path))  # type: ignore[attr-defined]
        if not (ready or finished or cancelled or documents):
            return None
        return wake.Hint(tuple(ready), tuple(finished), tuple(cancelled), tuple(documents))


def _only(result: seam.UnitResult) -> seam.Result:
    """Return the result of a unit of one operation, applied or refused."""
    return result.result if isinstance(result, seam.Refused) else result[0]


def _conflict(path: str, expect: int, found: seam.Changed) -> errors.DocumentConflict:
    return errors.DocumentConflict(f"{path} is at version {found.version}, not {expect}: read it again", version=found.version)


def _became(result: seam.Result, id: bytes, what: str) -> model.State:
    if isinstance(result, seam.Became):
        return result.state
    assert isinstance(result, seam.NotAllowed)
    if result.state is None:
        raise errors.JobNotFound(f"no job {uuid7.text(id)}: it never was, or it was purged")
    raise errors.StateRefused(f"job {uuid7.text(id)} is {result.state.word} and cannot be {what}", state=result.state.word)
