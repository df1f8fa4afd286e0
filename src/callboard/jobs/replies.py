"""Who is owed a word about a job's end: pure. A job that came as a message with `reply-to` has in its `meta` where the word goes.

The word itself is a job, of kind `KIND`, put when the job has ended for good: in the very unit of the end where that can be
known beforehand, right after it else. The bridge runs it. Ids are made of (job, run): one word a run, however often it is put.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.kit import codec, uuid7

KIND: Final = "callboard.reply"
OWN: Final = "callboard."
"""What keys of `meta` begin with that nobody but Callboard may write."""
TO: Final = "callboard.reply-to"
CORRELATION: Final = "callboard.correlation-id"
BROKER: Final = "callboard.broker"
"""Keys of `meta`: where the word goes, what it is known by there, and through which broker."""
ATTEMPTS: Final = 5


def owed(job: model.Job) -> bool:
    """Whether somebody waits for a word about the end of this job."""
    return TO in job.meta


def queue(broker: str) -> str:
    """Return the queue in which words for a broker wait: only those who reach that broker take from it."""
    label = re.sub(r"[^a-z0-9]+", "-", broker.lower()).strip("-")[:32].strip("-")
    return f"reply-{label}-{hashlib.blake2b(broker.encode(), digest_size=4).hexdigest()}"


def put(job: model.Job, now: int) -> seam.Put:
    """Return what stores the word about a job that ends at `now` (or has ended). Put again, it is the same one."""
    id = _id(job)
    args = codec.pack_trusted({"id": uuid7.text(job.id), "run": job.run})
    word = model.Job(
        id=id,
        kind=KIND,
        domain=job.domain,
        queue=queue(job.meta.get(BROKER, "")),
        lane=model.Lane.SHORT,
        priority=job.priority,
        args=args,
        digest=model.digest(KIND, args),
        max_attempts=ATTEMPTS,
        submitted_at=now,
        run_at=now,
    )
    return seam.Put(word, uuid7.milliseconds(id) * 1000)  # By its own time: it is as old as the job, and may be.


def _id(job: model.Job) -> bytes:
    """A UUIDv7 of the job's own time."""
    made = hashlib.blake2b(job.id + job.run.to_bytes(8, "big"), digest_size=16, key=KIND.encode()).digest()
    return uuid7.of(uuid7.milliseconds(job.id), made)
