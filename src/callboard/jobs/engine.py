"""The seam to the stores: what an engine is asked, and what it answers.

An engine is synchronous and small: it stores, `jobs.states` decides, `jobs.queue` does everything around it (threads,
batches, retries, metrics, hints). Its heart is one verb, `apply(units)`.

A **unit** is the operations of one caller, a tuple. All of a unit is applied or nothing; when a guard fails, nothing of
the unit is applied and its result is `Refused(index, result)`. Units are independent of each other and are applied in
their order; an engine may commit between units, never inside one. When `apply` returns, everything it reports as applied
is durable (if the engine declares `durable`). When `apply` raises a `StoreError`, no unit was applied, unless
the error's `data["unknown"]` is true: then each unit was applied or not, and the caller reads back.

Every operation carries `now` where it needs a time: engines never ask a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from callboard.jobs import model


class Op(msgspec.Struct, frozen=True, gc=False):
    """Base of the operations: frozen data."""


class Put(Op, frozen=True, gc=False):
    """Store a new job. Its state was decided by `states.submitted`, or then by `states.claimed`: submitted and claimed in one,
    it is RUNNING from the start, with fence 1, owned by its `node`.

    → `Created`, or `Same(state)` when (domain, id) exists with the same digest (nothing changes), or the guard fails:
    `Conflict(state)` when it exists with another digest, `Stale()` when it does not exist and its id is older than
    `model.IDEMPOTENCY_SECONDS` at `now` (see `model.expired`), `Full(limit)` when it does not exist and the store holds as many
    jobs as it takes.
    """

    job: model.Job
    now: int


class Require(Op, frozen=True, gc=False):
    """Guard: the document `path` of `domain` is at `version` in the transaction that commits this unit.

    The version is what `Engine.document` reads: 0 only when there was never one. → `Held()`, or the guard fails:
    `Changed(version)` with the version found.
    """

    domain: str
    path: str
    version: int


class Take(msgspec.Struct, frozen=True):
    """What free slots can take: jobs of these `kinds`, each with the payload versions known, of one queue and lane."""

    domain: str
    queue: str
    lane: model.Lane
    kinds: tuple[tuple[str, tuple[int, ...]], ...]
    limit: int


class Claim(Op, frozen=True, gc=False):
    """Give available jobs to `node`: state RUNNING, fence + 1, `started_at` = now, progress and reason cleared.

    The takes are served in their order, each up to its limit, all together up to `limit`. Within a take the lowest
    (priority, run_at) comes first, then the oldest in the store. → `Claimed(jobs)`, maybe empty; never a failed guard.
    Two claims never return the same fence of a job, whichever processes make them at the same time.
    """

    node: bytes
    takes: tuple[Take, ...]
    limit: int
    now: int


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What the end of a claim writes, decided by `states` (see `states.settled`).

    With it `node` becomes None and `cancel_requested` False, and the progress stays only if `state` is terminal.
    """

    state: model.State
    run_at: int
    attempts: int
    deaths: int
    finished_at: int | None = None
    result: bytes | None = None
    reason: str | None = None


class Settle(Op, frozen=True, gc=False):
    """End a claim: write `outcome`, or `if_cancelled` (when given) if a cancel was requested meanwhile; append `error`, if any.

    Guard: the job is RUNNING and owned by (`node`, `fence`). → `Settled(state)` with the state written, or `Lost(state,
    fence, node)`, state None when the job does not exist.
    """

    domain: str
    id: bytes
    node: bytes
    fence: int
    outcome: Outcome
    if_cancelled: Outcome | None = None
    error: model.AttemptError | None = None


class Release(Op, frozen=True, gc=False):
    """Hand a claim back unfinished: no attempt counted, available at once (cancelled if that was requested).

    Guard and results as `Settle`; what is written is decided by `states.released`.
    """

    domain: str
    id: bytes
    node: bytes
    fence: int
    now: int


class Renew(Op, frozen=True, gc=False):
    """A node says that it lives and what it runs. `claims` are (domain, id, fence, progress or None).

    Writes the node's `renewed_at` = now (it never falls), and the progress of claims still held. → `Renewed(lost,
    cancel_requested)`: which of the claims are no longer the node's, and which of the held ones somebody asked to cancel.
    Never a failed guard.
    """

    node: bytes
    claims: tuple[tuple[str, bytes, int, model.Progress | None], ...]
    now: int


class Cancel(Op, frozen=True, gc=False):
    """A person asks to cancel: a waiting job becomes CANCELLED at once, a running one carries the wish.

    → `Became(state, node)`: CANCELLED, or RUNNING for a wish (asked twice is the same; `node` is who runs it), or the
    guard fails: `NotAllowed(state)` for a finished job, state None for an unknown one.
    """

    domain: str
    id: bytes
    now: int


class Retry(Op, frozen=True, gc=False):
    """A person retries a finished job: run + 1, attempts and deaths 0, result and reason cleared, available now.

    → `Became(AVAILABLE, None)`, or the guard fails: `NotAllowed(state)`, also when `run` is given and is not the job's: so
    that one wish, sent twice, makes one run.
    """

    domain: str
    id: bytes
    now: int
    run: int | None = None


class Expire(Op, frozen=True, gc=False):
    """These nodes are dead for good: end every claim of theirs as `states.died` decides, at most `limit` of them.

    Only the one who made sure that a node is dead may ask. Each ended claim appends an AttemptError of code `worker_lost`.
    → `Expired(jobs)`: the jobs after the change. Fewer than `limit`: nothing is left, and the nodes' `renewed_at` is
    forgotten. Never a failed guard.
    """

    nodes: tuple[bytes, ...]
    limit: int
    now: int


class Promote(Op, frozen=True, gc=False):
    """Make due jobs (SCHEDULED or RETRYABLE, run_at ≤ now) of these (domain, queue) pairs AVAILABLE, the longest due first.

    At most `limit` of them, whichever queue they are in; equals by their age in the store. → `Promoted(jobs)`, their
    number. Never a failed guard.
    """

    queues: tuple[tuple[str, str], ...]
    limit: int
    now: int


class Purge(Op, frozen=True, gc=False):
    """Remove finished jobs of a domain, with their tags and errors, at most `limit` of them.

    The longest finished go first, equals by their age in the store. A job goes when it finished before `before`, or when more
    than `keep` finished ones are in the domain and it finished before `spare` (the idempotency time: what is younger stays
    whatever their number). → `Purged(jobs)`, their number. Never a failed guard.
    """

    domain: str
    before: int
    keep: int
    spare: int
    limit: int


class PutDocument(Op, frozen=True, gc=False):
    """Write a document (body None removes it). Guard: its version is `expect`, 0 only when there was never one.

    → `Stored(version)` with the new version (`expect` + 1; a removed document's versions go on where they ended, so that
    a version never means two contents), or the guard fails: `Changed(version)`.
    """

    domain: str
    path: str
    expect: int
    body: bytes | None


Unit = tuple[Op, ...]


class Result(msgspec.Struct, frozen=True, gc=False):
    """Base of what an operation answers."""


class Created(Result, frozen=True, gc=False):
    pass


class Same(Result, frozen=True, gc=False):
    state: model.State


class Conflict(Result, frozen=True, gc=False):
    state: model.State


class Stale(Result, frozen=True, gc=False):
    """The id is absent and too old to make a job (see `model.expired`)."""


class Full(Result, frozen=True, gc=False):
    """The store takes no more jobs until some are finished, or finished ones are purged."""

    limit: int


class Held(Result, frozen=True, gc=False):
    pass


class Changed(Result, frozen=True, gc=False):
    version: int


class Claimed(Result, frozen=True, gc=False):
    jobs: list[model.Job]


class Settled(Result, frozen=True, gc=False):
    state: model.State


class Lost(Result, frozen=True, gc=False):
    state: model.State | None
    fence: int
    node: bytes | None


class Renewed(Result, frozen=True, gc=False):
    lost: tuple[tuple[str, bytes, int], ...]
    """(domain, id, fence) of claims that are gone."""
    cancel_requested: tuple[tuple[str, bytes, int], ...]


class Became(Result, frozen=True, gc=False):
    state: model.State
    node: bytes | None = None


class NotAllowed(Result, frozen=True, gc=False):
    state: model.State | None


class Expired(Result, frozen=True, gc=False):
    jobs: list[model.Job]


class Promoted(Result, frozen=True, gc=False):
    jobs: int


class Purged(Result, frozen=True, gc=False):
    jobs: int


class Stored(Result, frozen=True, gc=False):
    version: int


class Refused(msgspec.Struct, frozen=True):
    """A unit of which nothing was applied: the operation at `index` failed its guard with `result`."""

    index: int
    result: Result


UnitResult = Sequence[Result] | Refused
"""A result for each operation of the unit, or why nothing of it was applied."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list: all given conditions hold. `domain` takes its subtree when `subtree` is true."""

    domain: str
    subtree: bool = False
    states: frozenset[model.State] | None = None
    kind: str | None = None
    queue: str | None = None
    tag: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Jobs by descending (id, domain), and the cursor of the next page, None at the end.

    A page may be shorter than asked, even empty, and still have a cursor: an engine looks at a bounded number of jobs
    for one page.
    """

    jobs: list[model.Job]
    cursor: bytes | None


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do beyond the verbs that all have."""

    durable: bool
    """What it acknowledged survives the death of every process, and of the machine."""
    shared: bool
    """Several processes may open the same store."""
    machines: bool = False
    """Several machines may open the same store."""
    transactional_submit: bool = False
    age_seconds: float | None = None
    """Seconds that finished jobs should be kept at most, whatever retention is set: for a store in its servers' memory."""


class Reads(Protocol):
    """What a store is asked."""

    def get(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        """Read jobs by (domain, id); None for each that does not exist."""

    def states(self, keys: Sequence[tuple[str, bytes]]) -> list[tuple[model.State, int] | None]:
        """Read just (state, run) of jobs: what one who waits asks, often."""

    def attempt_errors(self, domain: str, id: bytes) -> list[model.AttemptError]:
        """Read the errors of a job, by (run, fence)."""

    def find(self, filter: Filter, limit: int, cursor: bytes | None = None) -> Page:
        """List jobs; `cursor` is a former page's. Costs a bounded amount, whatever the store holds.

        Raises InvalidInput for a cursor that no page gave: cursors come back through the hands of users.
        """

    def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        """Count jobs, exact at least up to 10,000 of a row (a greater true number may be reported as any number over 10,000)."""

    def ready(self, takes: Sequence[Take], now: int) -> bool:
        """Tell whether a claim of these takes would (very probably) get something: what polling asks. Counts due jobs too."""

    def claimants(self) -> list[tuple[bytes, int]]:
        """Return the nodes that own running jobs, each with its last `renewed_at` (0: never)."""

    def documents(self, domain: str, prefix: str) -> list[model.Document]:
        """Read the documents of one domain whose path starts with `prefix`, by path. Removed ones are not among them."""

    def document(self, domain: str, path: str) -> model.Document:
        """Read one document; its body is empty when there was never one (version 0) or it was removed (the last version)."""

    def domains(self) -> list[str]:
        """Return the domains that have jobs or documents (removed ones do not count)."""


class Engine(Reads, Protocol):
    """A store. `apply` is called by one thread at a time, the reads by another one, possibly at the same time as `apply`.

    Reads see everything that an `apply` which returned before them has applied, through whichever process of the machine.
    No exception of a driver leaves an engine: failures of the store are `errors.StoreError`s.
    """

    name: str
    abilities: Abilities

    def apply(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Apply units as the module's text says; one result for each, in their order."""

    def close(self) -> None:
        """Free what it holds. Allowed twice."""
