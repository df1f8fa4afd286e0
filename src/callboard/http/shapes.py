"""The documents of the HTTP API: what a gateway writes and a client reads, one struct each.

Only shapes: the gateway fills them from its model, the client hands them to its user. Times are aware datetimes in UTC.
Readers ignore fields they do not know, so fields may be added.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

TERMINAL = frozenset({"completed", "discarded", "cancelled"})
"""The states in which a job is finished."""


class Progress(msgspec.Struct, frozen=True):
    """How far a running job says it is; `total` is 0 when unknown."""

    done: float
    total: float
    note: str


class AttemptError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong in one attempt."""

    run: int
    fence: int
    attempt: int
    code: str
    type: str
    message: str
    traceback: str
    at: datetime


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job, as lists show it."""

    id: str
    domain: str
    kind: str
    version: int
    queue: str
    lane: str
    """`short` or `long`."""
    state: str
    priority: int
    tags: tuple[str, ...]
    args: Any
    submitted_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run: int
    fence: int
    attempts: int
    max_attempts: int
    deaths: int
    timeout: float | None
    """Seconds that one attempt may take."""
    backoff: float
    """Seconds before the second attempt."""
    cancel_requested: bool
    result: Any
    reason: str | None
    progress: Progress | None
    node: str | None
    """The node that runs it, in hexadecimal."""
    meta: dict[str, str]

    @property
    def finished(self) -> bool:
        return self.state in TERMINAL


class JobDetail(Job, frozen=True, kw_only=True):
    """A job with what is only looked up for one."""

    errors: list[AttemptError] = []
    waiting_for: str | None = None
    """Why it cannot start now, in words: no live worker knows its kind."""


class Jobs(msgspec.Struct, frozen=True):
    """A page of jobs, newest first; `cursor` asks for the next page and is null at the end."""

    jobs: list[Job]
    cursor: str | None


class Receipt(msgspec.Struct, frozen=True):
    """The acknowledgement of a submission: the job is stored durably."""

    id: str
    domain: str
    state: str
    created: bool
    """False when an equal job of this id was there already."""


class Refusal(msgspec.Struct, frozen=True):
    """Why one job of a batch was not stored."""

    code: str
    detail: str


class Refused(msgspec.Struct, frozen=True):
    """One job of a batch that was not stored."""

    id: str
    error: Refusal


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """`Receipt` or `Refused`, as a client reads them."""

    id: str
    domain: str = ""
    state: str = ""
    created: bool = False
    error: Refusal | None = None


class BatchResults(msgspec.Struct, frozen=True):
    """One result for each job of a batch, in its order."""

    results: list[Answered]


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs somebody waits for: up to 1,000 ids, and for how many seconds (60 at most)."""

    ids: list[str]
    seconds: float = 0


class Finished(msgspec.Struct, frozen=True):
    """The jobs of a watch that are finished (maybe not all of them in one answer), and the ids that nobody knows."""

    jobs: list[Job]
    unknown: list[str]


class Moved(msgspec.Struct, frozen=True):
    """What a cancel or a retry led to: `cancelled`, `cancel_requested` or `available`."""

    id: str
    state: str


class Queue(msgspec.Struct, frozen=True):
    """A queue with its jobs by state; a count is exact to 10,000, then the text `10,000+`."""

    domain: str
    queue: str
    paused: bool
    counts: dict[str, int | str]


class Queues(msgspec.Struct, frozen=True):
    queues: list[Queue]


class Paused(msgspec.Struct, frozen=True):
    """Whether a queue is paused now."""

    queue: str
    paused: bool


class Nodes(msgspec.Struct, frozen=True):
    """The live nodes, each as it describes itself."""

    nodes: list[dict[str, Any]]
    partial: bool = False
    """Whether coordination is out of reach: only nodes of the server that answered are listed."""


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for when a key is made."""

    name: str
    scopes: list[str]
    domain: str | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An API key without its secret."""

    id: str
    name: str
    scopes: list[str]
    domain: str
    created_at: datetime
    revoked_at: datetime | None = None


class MintedKey(Key, frozen=True, kw_only=True):
    """A new API key; `key` is the token to send as `Authorization: Bearer`, told this once."""

    key: str


class Keys(msgspec.Struct, frozen=True):
    keys: list[Key]


class Called(msgspec.Struct, frozen=True):
    """What a call returned."""

    result: Any


class Broadcast(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call to every instance of a role (`role:gateway`) or of a service (`service:cache`)."""

    target: str
    method: str
    args: dict[str, Any] = {}
    mode: Literal["all", "first", "elect"] = "all"
    """Gather all answers, take the first good one, or have the recipients choose who acts."""
    timeout: float = 10.0
    """Seconds for all together, 60 at most."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a broadcast at one recipient."""

    member: str
    """The recipient, `cache/INCARNATION`."""
    status: str
    """`ok`, `error`, `timeout`, `unreachable`; `cancelled` in first, `elsewhere` in elect, for those that need not act."""
    result: Any = None
    code: str | None = None
    """Why not, as the code of an error."""
    message: str | None = None


class Outcomes(msgspec.Struct, frozen=True):
    """One outcome for each recipient."""

    outcomes: list[Outcome]


class Place(msgspec.Struct, frozen=True):
    """Where an instance is: a node by its id, and its server, which has no name on one machine."""

    node: str
    server: str


class ListedName(msgspec.Struct, frozen=True, kw_only=True):
    """A name, who answers for it, and who would if that one were gone."""

    name: str
    """As callers may write it; one of a group's, where there are several."""
    kind: str
    """`service` or `role`."""
    active: str
    """`one` or `all`."""
    group: str
    """Empty where all instances serve."""
    epoch: int
    """0 where all instances serve, and while nobody does."""
    instances: list[Place]
    standbys: list[Place]
    """The next one first."""
    conflict: str | None = None
    """Why calls of it are refused: nodes disagree about what it is."""


class Names(msgspec.Struct, frozen=True):
    names: list[ListedName]
    stale: bool
    """What was known last: coordination is out of reach."""


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """Who answered a ping."""

    name: str
    node: str
    server: str
    active: bool
    """Whether it serves; one exact instance may stand by, and a holder be about to begin."""
    group: str
    epoch: int
    seconds: float
    """The round trip from the gateway."""


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an office is to go."""

    to: str | None = None
    """The id of a node that stands by, or the end of it; the next one by itself."""


class HandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """An office, and who holds it after a move; the epochs are equal when it was there already."""

    name: str
    group: str
    before: int
    epoch: int
    left: Place
    holder: Place
    seconds: float


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent of a server says, and what is wished of it."""

    server: str
    """Empty on one machine."""
    site: str
    agent: str
    software: str
    file: int
    """Version of the cluster's file that it was started from; 0: from none."""
    state: str
    """`serving`, `draining` or `drained`."""
    nodes: int
    trouble: str = ""
    """Why the last renewal that was wished stopped short; empty when it did not."""
    wish: str | None = None
    """`drain` or `renew`."""
    wished_at: datetime | None = None


class Servers(msgspec.Struct, frozen=True):
    servers: list[Server]


class Wished(msgspec.Struct, frozen=True, kw_only=True):
    """What is wished now of a node or a server; its agent brings it about."""

    what: str
    node: str | None = None
    server: str | None = None
    wished_at: datetime
    by: str
    """The id of the key that it was wished with."""


class TakenBack(msgspec.Struct, frozen=True):
    """That nothing is wished of a server any more; and whether anything was."""

    server: str
    stood: bool


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 9457). `code` is stable; further members hold the facts of the occurrence."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    code: str = ""
    retryable: bool = False
