"""The tables of the SQLite store, and what a job is written with. No statement here is run by anyone but `files`, `writes` and
`reads`.

Jobs carry the numbers of their routes, see `jobs.engines.mapping`. `counts` holds how many jobs of a route are in a state; each
commit adds its differences, so that counting never scans. Partial indexes are used only where a statement spells the state
as a literal, so the numbers of `model.State` stand in the texts: 1 scheduled, 2 available, 3 running, 4 retryable,
5 pending, 6 to 8 terminal.
"""

from __future__ import annotations

from typing import Any, Final

from callboard.jobs import model
from callboard.jobs.engines import mapping

APPLICATION_ID: Final = 0x43424F41
VERSION: Final = 1
"""Version of this schema. Append-only with defaults: older programs read newer stores down to MIN_READER."""
MIN_READER: Final = 1
"""The lowest VERSION of a program that may open a store of this schema."""

TABLES: Final = """
CREATE TABLE store(version INTEGER NOT NULL, min_reader INTEGER NOT NULL);
CREATE TABLE domains(domain INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE routes(
  route INTEGER PRIMARY KEY, domain INTEGER NOT NULL, queue TEXT NOT NULL, lane INTEGER NOT NULL, kind TEXT NOT NULL,
  version INTEGER NOT NULL, UNIQUE(domain, queue, lane, kind, version));
CREATE TABLE counts(
  route INTEGER NOT NULL, state INTEGER NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY(route, state)) WITHOUT ROWID;
CREATE TABLE jobs(
  seq INTEGER PRIMARY KEY, domain INTEGER NOT NULL, id BLOB NOT NULL, route INTEGER NOT NULL, state INTEGER NOT NULL,
  priority INTEGER NOT NULL, run_at INTEGER NOT NULL, fence INTEGER NOT NULL DEFAULT 0, run INTEGER NOT NULL DEFAULT 1,
  attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL, deaths INTEGER NOT NULL DEFAULT 0, node BLOB,
  cancel_requested INTEGER NOT NULL DEFAULT 0, codec INTEGER NOT NULL, digest BLOB NOT NULL, args BLOB NOT NULL,
  tags TEXT, meta TEXT, backoff INTEGER NOT NULL, timeout INTEGER, submitted_at INTEGER NOT NULL,
  started_at INTEGER, finished_at INTEGER, result BLOB, reason TEXT, progress TEXT);
CREATE UNIQUE INDEX jobs_identity ON jobs(domain, id);
CREATE INDEX jobs_ready ON jobs(route, priority, run_at) WHERE state = 2;
CREATE INDEX jobs_due ON jobs(route, run_at) WHERE state IN (1, 4);
CREATE INDEX jobs_running ON jobs(node) WHERE state = 3;
CREATE INDEX jobs_finished ON jobs(domain, finished_at) WHERE state >= 6;
CREATE INDEX jobs_uneven ON jobs(domain, state, id) WHERE state IN (1, 4, 5, 7, 8);
CREATE TABLE job_tags(domain INTEGER NOT NULL, tag TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY(domain, tag, id)) WITHOUT ROWID;
CREATE TABLE attempt_errors(
  domain INTEGER NOT NULL, id BLOB NOT NULL, run INTEGER NOT NULL, fence INTEGER NOT NULL, attempt INTEGER NOT NULL,
  code TEXT NOT NULL, type TEXT NOT NULL, message TEXT NOT NULL, traceback TEXT NOT NULL, at INTEGER NOT NULL, node BLOB,
  PRIMARY KEY(domain, id, run, fence)) WITHOUT ROWID;
CREATE TABLE nodes(node BLOB PRIMARY KEY, renewed_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE documents(
  domain INTEGER NOT NULL, path TEXT NOT NULL, version INTEGER NOT NULL, body BLOB, PRIMARY KEY(domain, path)) WITHOUT ROWID;
"""

INSERTED: Final = (
    "domain, id, route, state, priority, run_at, fence, run, max_attempts, codec, digest, args, tags, meta, backoff,"
    " timeout, submitted_at"
)
"""What a new job is written with, in the order of `row`."""
INSERTED_CLAIMED: Final = f"{INSERTED}, node, started_at"
"""The same where one of the new jobs is claimed already."""

UNEVEN: Final = frozenset(
    {model.State.SCHEDULED, model.State.RETRYABLE, model.State.PENDING, model.State.DISCARDED, model.State.CANCELLED}
)
"""States that an ordinary job never passes: those that `jobs_uneven` lists."""


def row(job: model.Job, domain: int, route: int) -> tuple[Any, ...]:
    """Return the values of INSERTED."""
    return (
        domain,
        job.id,
        route,
        int(job.state),
        job.priority,
        job.run_at,
        job.fence,
        job.run,
        job.max_attempts,
        job.codec,
        job.digest,
        job.args,
        ",".join(job.tags) if job.tags else None,
        mapping.encode(job.meta).decode() if job.meta else None,
        job.backoff,
        job.timeout,
        job.submitted_at,
    )
