"""What a message says: the job that it becomes, or why it is none. Pure: the same message is the same job at each delivery.

The body is the JSON of a `submission.Submission`, or of the arguments alone where the destination has a kind. The job's id is
the header `callboard-id`, else the body's `id`, else made of the message's own time and id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import kinds, model, replies, states, submission
from callboard.kit import uuid7
from callboard.roles.bridge import destinations

ID: Final = "callboard-id"
"""The header in which a sender names the job."""
MAX_HEADER: Final = 1024
"""Characters of `reply-to` and of `correlation-id`."""
MAX_REASON: Final = 300

_submission = msgspec.json.Decoder(submission.Submission)
_arguments = msgspec.json.Decoder(dict[str, Any])


class Read(msgspec.Struct, frozen=True, gc=False):
    """The job of a message as it enters the store, unclaimed, and when the message was sent (microseconds UTC)."""

    job: model.Job
    sent: int


class Bad(msgspec.Struct, frozen=True):
    """Why a message makes no job and never will."""

    code: str
    why: str

    @property
    def reason(self) -> str:
        """What its dead letter says."""
        return f"{self.code}: {self.why}"


def read(
    headers: Mapping[str, str],
    body: bytes,
    meant: destinations.Destination,
    known: Mapping[str, kinds.Kind],
    now: int,
    broker: str,
) -> Read | Bad:
    """Return the job that a message of a destination means at `now`, or why it means none.

    `known` are the kinds that give defaults and check arguments; `broker` is who takes the reply, if one is asked for.
    """
    try:
        return _read(headers, body, meant, known, now, broker)
    except msgspec.MsgspecError as error:
        what = "the arguments as a JSON object" if meant.kind else 'JSON like {"kind": ..., "args": {...}}'
        return Bad(errors.InvalidInput.code, _line(f"the body is not {what}: {error}"))
    except UnicodeDecodeError:
        return Bad(errors.InvalidInput.code, "the body is no text in UTF-8")
    except RecursionError:
        return Bad(errors.InvalidInput.code, "the body is nested too deeply")
    except errors.CallboardError as error:
        return Bad(error.code, _line(error.message))
    except Exception as error:  # Whatever an app's own types raise: one message must not stop the others.
        return Bad(errors.InvalidInput.code, _line(f"the message cannot be read: {type(error).__name__}: {error}"))


def oversized(size: int, limit: int) -> Bad:
    """Return why a message is refused of which nothing was read."""
    return Bad(
        errors.TooLarge.code, f"the message takes {size} bytes or more, the limit is {limit}: pass big data as a file's name"
    )


def unstorable(error: errors.CallboardError) -> Bad:
    """Return why this store can take no job like that of a message."""
    return Bad(error.code, _line(error.message))


def refused(result: seam.Result) -> Bad:
    """Return why the store makes no job of a message: its answer to a put."""
    if isinstance(result, seam.Stale):
        return Bad(errors.IdExpired.code, "the id is so much older than its message that a finished job of it may be purged")
    return Bad(errors.IdConflict.code, "the id belongs to a job of another kind, with other arguments or options")


def _read(
    headers: Mapping[str, str],
    body: bytes,
    meant: destinations.Destination,
    known: Mapping[str, kinds.Kind],
    now: int,
    broker: str,
) -> Read:
    given = (
        _submission.decode(body) if meant.kind is None else submission.Submission(kind=meant.kind, args=_arguments.decode(body))
    )
    if given.domain is not None and given.domain != meant.domain:
        raise errors.InvalidInput(f"the message names domain {given.domain!r:.80}, its destination belongs to {meant.domain!r}")
    stamp = _milliseconds(headers.get("timestamp", ""))
    sent = min(stamp * 1000, now) or now
    if (id := headers.get(ID)) is not None:
        if given.id is not None and given.id.lower() != id.lower():
            raise errors.InvalidId(f"the header {ID} and the body's id differ: give one")
        given.id = id
    named = given.id is not None
    if not named and not headers.get("message-id"):
        raise errors.InvalidId(f"the message has neither a header {ID} nor a message-id: two of them could not be told apart")
    job = submission.build(given, known, sent, id=None if named else _made(stamp, headers.get("message-id", "")))
    state, run_at = states.entered(job.run_at, now)
    read = msgspec.structs.replace(
        job,
        domain=meant.domain,
        queue=meant.queue if given.queue is None else job.queue,
        meta=job.meta if "reply-to" not in headers else {**job.meta, **_reply(headers, broker)},
        state=state,
        run_at=run_at,
        submitted_at=now,
    )
    return Read(read, sent if named else stamp * 1000)


def _reply(headers: Mapping[str, str], broker: str) -> dict[str, str]:
    """What the job carries of where its reply goes."""
    asked = {replies.TO: headers["reply-to"], replies.CORRELATION: headers.get("correlation-id", "")}
    for key, value in asked.items():
        if len(value) > MAX_HEADER or not value.isprintable():
            said = f"has over {MAX_HEADER} characters" if value.isprintable() else "has line ends or other control characters"
            raise errors.InvalidInput(f"the header {key.partition('.')[2]} {said}")
    return {**{key: value for key, value in asked.items() if value}, replies.BROKER: broker}


def _milliseconds(stamp: str) -> int:
    """The message's own time; 0 where it has none."""
    return min(int(stamp), (1 << 48) - 1) if stamp.isascii() and stamp.isdigit() and len(stamp) < 20 else 0


def _made(stamp: int, message: str) -> bytes:
    """A UUIDv7 of the message's own time: whoever is given the message again makes the same."""
    return uuid7.of(stamp, hashlib.blake2b(message.encode("utf-8", "surrogateescape"), digest_size=16).digest())


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_REASON]
