"""What a job is: its fields, its states, its names and limits. Values only: nothing here acts.

Times are integer microseconds UTC, ids are 16 bytes (see `kit.uuid7`), arguments and results are bytes whose codec the
job names. Everyone above and every engine uses these types; engines store them and decide nothing.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import re
from typing import Final

import msgspec

from callboard import errors
from callboard.kit import clock, grammar, uuid7

MAX_PAYLOAD: Final = 256 * 1024
"""Bytes that the encoded arguments, and the encoded result, of one job may have by default."""
MAX_TAGS: Final = 16
MAX_ATTEMPTS: Final = 1000
MAX_DEATHS: Final = 3
"""Deaths of a worker after which a job is given up as `worker_lost`."""
MAX_TRACEBACK: Final = 8192
"""Characters kept of a traceback: its end, where the cause stands."""
MAX_MESSAGE: Final = 2048
IDEMPOTENCY_SECONDS: Final = 900
"""How old an absent id may be, by its own time, and still make a new job."""
FUTURE_SECONDS: Final = 300
"""How far an id's own time may lie ahead of the store's."""
SPARE_SECONDS: Final = IDEMPOTENCY_SECONDS + FUTURE_SECONDS
"""How long a finished job is kept at the least: until even an id that lay ahead of its time makes no second job."""
DEFAULT_QUEUE: Final = "default"
DEFAULT_PRIORITY: Final = 5
CODEC_MSGPACK: Final = 1

_kind = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?")
_tag = re.compile(r"[^\x00-\x1f\x7f,\ud800-\udfff]{1,64}")


class State(enum.IntEnum):
    """Where a job is. The numbers are stored: append only."""

    SCHEDULED = 1
    AVAILABLE = 2
    RUNNING = 3
    RETRYABLE = 4
    PENDING = 5
    COMPLETED = 6
    DISCARDED = 7
    CANCELLED = 8

    __hash__ = int.__hash__  # Enum's own hashes the name, in Python, for each look-up.

    @property
    def word(self) -> str:
        """The state's name towards users."""
        return self.name.lower()


WORDS: Final = {state.word: state for state in State}
TERMINAL: Final = frozenset({State.COMPLETED, State.DISCARDED, State.CANCELLED})
WAITING: Final = frozenset({State.SCHEDULED, State.AVAILABLE, State.RETRYABLE, State.PENDING})


class Lane(enum.IntEnum):
    """Whether a job is expected to be short or long. The numbers are stored: append only."""

    SHORT = 1
    LONG = 2

    __hash__ = int.__hash__


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One job as the store holds it.

    Identity is (domain, id). `fence` grows at every claim and never falls, `run` grows when a person retries a finished
    job, `attempts` counts successes, failures and timeouts of this run, `deaths` counts workers lost with it. While the
    state is RUNNING, (`node`, `fence`) own it; in every other state `node` is None.
    """

    id: bytes
    kind: str
    domain: str = grammar.DEFAULT_DOMAIN
    queue: str = DEFAULT_QUEUE
    lane: Lane = Lane.LONG
    version: int = 1
    """Version of the payload's shape, as the submitter's declaration of the kind has it."""
    state: State = State.AVAILABLE
    priority: int = DEFAULT_PRIORITY
    """0 (first) to 9 (last)."""
    codec: int = CODEC_MSGPACK
    args: bytes = b"\x80"
    """Encoded mapping of named arguments."""
    digest: bytes = b""
    """16 bytes over kind, arguments and options: what makes a repeated submission the same one."""
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    """Trace context and the like: carried, never interpreted."""
    max_attempts: int = 1
    backoff: int = clock.SECOND
    """Microseconds of the first delay between attempts; later ones double."""
    timeout: int | None = None
    """Microseconds that one attempt may take; None for no bound."""
    submitted_at: int = 0
    run_at: int = 0
    """When it may run (or became ready): orders jobs of one priority."""
    started_at: int | None = None
    """Start of the latest attempt."""
    finished_at: int | None = None
    run: int = 1
    fence: int = 0
    attempts: int = 0
    deaths: int = 0
    node: bytes | None = None
    cancel_requested: bool = False
    result: bytes | None = None
    reason: str | None = None
    """Stable code of why a job is discarded or cancelled: see `Reason`."""
    progress: Progress | None = None

    @property
    def key(self) -> tuple[str, bytes]:
        return self.domain, self.id

    @property
    def finished(self) -> bool:
        return self.state in TERMINAL


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far a running job says it is: `done` of `total` (same unit, `total` 0 when unknown), and a short note."""

    done: float = 0
    total: float = 0
    note: str = ""


class Reason:
    """The codes that `Job.reason` and `AttemptError.code` take."""

    FAILED = "failed"
    """The handler raised."""
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    DISCARDED = "discarded"
    """The handler raised Discard."""
    INVALID_ARGUMENTS = "invalid_arguments"
    INVALID_RESULT = "invalid_result"
    CANCELLED = "cancelled"


class AttemptError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong in one claim of a job: appended, never changed, keyed by (domain, id, run, fence)."""

    run: int
    fence: int
    attempt: int
    """The attempt's number within its run; a death does not count as one."""
    code: str
    """One of `Reason`."""
    type: str = ""
    """Class of the exception."""
    message: str = ""
    traceback: str = ""
    at: int = 0
    node: bytes | None = None


class Document(msgspec.Struct, frozen=True):
    """A small versioned record beside the jobs: keys, queue settings. `version` is 1 at first and grows by one."""

    domain: str
    path: str
    version: int
    body: bytes


class Count(msgspec.Struct, frozen=True):
    """How many jobs of one (domain, queue, kind, lane) are in a state."""

    domain: str
    queue: str
    kind: str
    lane: Lane
    state: State
    jobs: int


def check_kind(value: str) -> str:
    """Return a kind's name (`app.function` by custom, 128 characters at most), or raise InvalidName."""
    if not isinstance(value, str) or not _kind.fullmatch(value):
        raise errors.InvalidName(f"kind {value!r:.80} is not a name: letters, digits, '_', '-' and '.', like 'images.thumbnail'")
    return value


def check_tags(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags without repetitions, in their order, or raise InvalidName."""
    if isinstance(values, str):
        raise errors.InvalidInput(f"tags {values!r:.80} are one text: give a list")
    if len(values) > MAX_TAGS:
        raise errors.InvalidInput(f"{len(values)} tags are too many: {MAX_TAGS} at most")
    for value in values:
        if not isinstance(value, str) or not _tag.fullmatch(value):
            raise errors.InvalidName(f"tag {value!r:.80} is not 1 to 64 printable characters without ','")
    return tuple(dict.fromkeys(values))


def check_id(value: bytes, now: int) -> bytes:
    """Return the id of a submission, or raise InvalidId: not a UUIDv7, or over five minutes ahead of `now`."""
    if not uuid7.valid(value):
        raise errors.InvalidId("the job id is not a UUIDv7 (RFC 9562): leave it out, or make one of version 7")
    if uuid7.milliseconds(value) * 1000 > now + FUTURE_SECONDS * clock.SECOND:
        raise errors.InvalidId(f"the job id {uuid7.text(value)} is of the future: set the submitter's clock")
    return value


def expired(value: bytes, now: int) -> bool:
    """Tell whether an id that the store does not hold is too old to make a job: a finished one may have been purged."""
    return value < oldest(now)


def oldest(now: int) -> bytes:
    """Return what sorts before every id that is not `expired`, and after all that are."""
    return max(-(-(now - IDEMPOTENCY_SECONDS * clock.SECOND) // 1000), 0).to_bytes(6, "big")


def digest(kind: str, args: bytes, *options: object) -> bytes:
    """Return 16 bytes (BLAKE2b) over a submission's content, as given: a delay counts as a delay, not as the time it led to."""
    made = _keyed(kind).copy()
    made.update(args)
    if any(option is not None for option in options):
        made.update(repr(options).encode())
    return made.digest()


@functools.lru_cache(1024)
def _keyed(kind: str) -> hashlib.blake2b:
    """Return the hash that all digests of a kind begin with."""
    return hashlib.blake2b(digest_size=16, key=hashlib.blake2b(kind.encode()).digest() if len(kind) > 64 else kind.encode())
