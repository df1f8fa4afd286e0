"""What each operation does to the memory engine's tables; a function an operation, found by `VERBS`.

A verb checks its guard before it writes. What becomes of a job is asked of `jobs.states`. Called by an engine alone, with
the store's lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import model, states
from callboard.jobs.engines.memory.tables import NEVER, Tables, Written
from callboard.jobs.model import State

FAILURES: Final = (seam.Conflict, seam.Stale, seam.Full, seam.Changed, seam.Lost, seam.NotAllowed)
"""Results that say that a guard failed."""


def put(tables: Tables, op: seam.Put) -> seam.Result:
    held = tables.job(op.job.domain, op.job.id)
    if held is not None:
        return seam.Same(held.state) if held.digest == op.job.digest else seam.Conflict(held.state)
    if model.expired(op.job.id, op.now):
        return seam.Stale()
    limit = tables.full()
    if limit is not None:
        return seam.Full(limit)
    tables.write(op.job)
    return seam.Created()


def require(tables: Tables, op: seam.Require) -> seam.Result:
    version = document_version(tables, op.domain, op.path)
    return seam.Held() if version == op.version else seam.Changed(version)


def claim(tables: Tables, op: seam.Claim) -> seam.Result:
    taken: list[model.Job] = []
    for take in op.takes:
        fronts = (tables.ready.get(bucket, ()) for bucket in buckets(take))
        number = max(0, min(take.limit, op.limit - len(taken)))
        for *_, key in tables.first(fronts, number):
            job = states.claimed(tables.rows[key].job, op.node, op.now)
            tables.write(job)
            taken.append(job)
    return seam.Claimed(taken)


def settle(tables: Tables, op: seam.Settle) -> seam.Result:
    job = tables.job(op.domain, op.id)
    if job is None or not _owned(job, op.node, op.fence):
        return _lost(job)
    return seam.Settled(_end(tables, job, states.Ended(op.outcome, op.if_cancelled, op.error)).state)


def release(tables: Tables, op: seam.Release) -> seam.Result:
    job = tables.job(op.domain, op.id)
    if job is None or not _owned(job, op.node, op.fence):
        return _lost(job)
    return seam.Settled(_end(tables, job, states.released(job, op.now)).state)


def renew(tables: Tables, op: seam.Renew) -> seam.Result:
    lost, wished = [], []
    for domain, id, fence, progress in op.claims:
        job = tables.job(domain, id)
        if job is None or not _owned(job, op.node, fence):
            lost.append((domain, id, fence))
            continue
        if progress is not None:
            tables.write(msgspec.structs.replace(job, progress=progress))
        if job.cancel_requested:
            wished.append((domain, id, fence))
    tables.write_renewed(op.node, max(op.now, tables.renewed.get(op.node, 0)))
    return seam.Renewed(tuple(lost), tuple(wished))


def cancel(tables: Tables, op: seam.Cancel) -> seam.Result:
    job = tables.job(op.domain, op.id)
    after = None if job is None else states.cancelled(job, op.now)
    if after is None:
        return seam.NotAllowed(None if job is None else job.state)
    tables.write(after)
    return seam.Became(after.state, after.node)


def retry(tables: Tables, op: seam.Retry) -> seam.Result:
    job = tables.job(op.domain, op.id)
    after = None if job is None else states.retried(job, op.now, op.run)
    if after is None:
        return seam.NotAllowed(None if job is None else job.state)
    tables.write(after)
    return seam.Became(after.state)


def expire(tables: Tables, op: seam.Expire) -> seam.Result:
    keys = [key for node in dict.fromkeys(op.nodes) for _, key in islice(tables.running.get((node,), ()), max(0, op.limit))]
    ended = []
    for key in keys[: max(0, op.limit)]:
        job = tables.rows[key].job
        ended.append(_end(tables, job, states.died(job, op.now)))
    if len(ended) < op.limit:
        for node in op.nodes:
            tables.write_renewed(node, None)
    return seam.Expired(ended)


def promote(tables: Tables, op: seam.Promote) -> seam.Result:
    wanted = frozenset(op.queues)
    fronts = (due for bucket, due in tables.due.items() if bucket[:2] in wanted)
    number = 0
    for *_, key in tables.first(fronts, max(0, op.limit)):
        after = states.promoted(tables.rows[key].job, op.now)
        if after is None:
            break
        tables.write(after)
        number += 1
    return seam.Promoted(number)


def purge(tables: Tables, op: seam.Purge) -> seam.Result:
    finished = tables.finished.get((op.domain,), ())
    surplus = len(finished) - op.keep
    number = 0
    for finished_at, _, key in list(islice(finished, max(0, op.limit))):
        if finished_at >= op.before and (number >= surplus or finished_at >= op.spare):
            break
        tables.remove(key)
        number += 1
    return seam.Purged(number)


def put_document(tables: Tables, op: seam.PutDocument) -> seam.Result:
    version = document_version(tables, op.domain, op.path)
    if version != op.expect:
        return seam.Changed(version)
    tables.write_document(op.domain, op.path, Written(version + 1, op.body))
    return seam.Stored(version + 1)


def document_version(tables: Tables, domain: str, path: str) -> int:
    """Return a document's last version, 0 when there was never one."""
    return tables.documents.get(domain, {}).get(path, NEVER).version


def buckets(take: seam.Take) -> list[tuple[Any, ...]]:
    """Return the keys of the ready index that a take names, each once."""
    return list(
        dict.fromkeys(
            (take.domain, take.queue, take.lane, kind, version) for kind, versions in take.kinds for version in versions
        )
    )


def _owned(job: model.Job, node: bytes, fence: int) -> bool:
    return job.state == State.RUNNING and job.fence == fence and job.node == node


def _lost(job: model.Job | None) -> seam.Lost:
    return seam.Lost(None, 0, None) if job is None else seam.Lost(job.state, job.fence, job.node)


def _end(tables: Tables, job: model.Job, ended: states.Ended) -> model.Job:
    after = states.settled(job, ended)
    tables.write(after)
    if ended.error is not None:
        tables.append_error(job.key, ended.error)
    return after


VERBS: Final[Mapping[type[seam.Op], Callable[[Tables, Any], seam.Result]]] = {
    seam.Put: put,
    seam.Require: require,
    seam.Claim: claim,
    seam.Settle: settle,
    seam.Release: release,
    seam.Renew: renew,
    seam.Cancel: cancel,
    seam.Retry: retry,
    seam.Expire: expire,
    seam.Promote: promote,
    seam.Purge: purge,
    seam.PutDocument: put_document,
}
