"""The client for asyncio: one method for each thing that the API can do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Literal, Self, TypedDict, Unpack

import msgspec

from callboard import errors
from callboard.client import batches, operating, paths, watches
from callboard.cluster import view as views
from callboard.cluster import watching
from callboard.http import client as http
from callboard.http import shapes
from callboard.jobs import model, submission
from callboard.kit import clock, codec, uuid7

MAX_TIMEOUT_SECONDS: Final = model.IDEMPOTENCY_SECONDS * 2 / 3
"""The longest that one request may be tried: well under the time in which a repeated id is surely recognized."""
WAIT_SECONDS: Final = 30.0
"""One turn of waiting at a gateway; a longer wait takes several."""
PAGE_JOBS: Final = 200
CALL_SECONDS: Final = 10.0
"""How long a call may take when nothing is said: what gateways take it to be, too."""
MOST_CALL_SECONDS: Final = 60.0
"""The longest that a call may take: a gateway allows no more."""


class Options(TypedDict, total=False):
    """What can be said about a job besides its kind and arguments; the kind's declaration gives the rest."""

    id: str
    """A UUIDv7, to make the job recognizable; made by the client otherwise."""
    domain: str
    queue: str
    lane: Literal["short", "long"]
    version: int
    priority: int
    """0 (first) to 9 (last)."""
    delay: float
    """Seconds to wait; or `run_at`."""
    run_at: datetime
    attempts: int
    backoff: float
    timeout: float
    """Seconds that one attempt may take."""
    tags: Sequence[str]
    meta: Mapping[str, str]


class Client(operating.Operating):
    """Jobs and services of the gateways at `urls`, with the API key `key`. Use as `async with Client(...)`, or call `close`.

    On one event loop; calls may run at the same time. Every call may raise Unauthorized, Forbidden, StoreError, and Unreachable
    when no gateway answered within `timeout` seconds (per call; 600 at most). `domain` is where jobs are looked for and put
    when a call does not say; None is the key's own. `retries` counts attempts beyond the first ones.
    """

    def __init__(
        self, urls: str | Sequence[str], key: str | None = None, *, domain: str | None = None, timeout: float = 60.0
    ) -> None:
        if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
            raise errors.InvalidSetting(f"timeout {timeout} is out of range: over 0, to {MAX_TIMEOUT_SECONDS:g} seconds")
        headers = {"Content-Type": "application/json"}
        if key is not None:
            if not key.isascii() or not key.isprintable():
                raise errors.InvalidSetting("the API key has characters that no key has: copy it again")
            headers["Authorization"] = f"Bearer {key}"
        self._gateways = http.Gateways([urls] if isinstance(urls, str) else urls, headers, timeout=timeout)
        self._clock = clock.SystemClock()
        self._domain = domain

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Allowed twice."""
        await self._gateways.close()

    @property
    def retries(self) -> int:
        """Attempts beyond the first one of each request, since this client was made."""
        return self._gateways.retries

    # Submitting

    async def submit(self, kind: str, args: Mapping[str, Any] | None = None, **options: Unpack[Options]) -> shapes.Receipt:
        """Submit a job; when this returns, it is stored durably. Submitting the same with the same id again is harmless.

        Raises InvalidInput and what is below it, IdConflict, IdExpired.
        """
        given = self._prepared(self.job(kind, args, **options))
        body = await self._gateways.ask("POST", "/v1/jobs", body=msgspec.json.encode(given))
        return msgspec.json.decode(body, type=shapes.Receipt)

    def job(self, kind: str, args: Mapping[str, Any] | None = None, **options: Unpack[Options]) -> submission.Submission:
        """Return what `submit_many` takes; nothing is sent. An id is made unless one is given."""
        codec.pack(options, "the options")
        id = options.get("id") or uuid7.text(uuid7.make(self._clock.now()))
        try:
            return msgspec.convert({**options, "kind": kind, "args": dict(args or {}), "id": id}, submission.Submission)
        except msgspec.ValidationError as error:
            raise errors.InvalidInput(f"the job's options do not fit: {error}") from None

    async def submit_many(self, jobs: Iterable[submission.Submission]) -> list[shapes.Receipt]:
        """Submit jobs (made by `job`), up to 10,000 in one request; return their receipts in order.

        A request's jobs are checked before any of them is stored. Raises as `submit` for the first bad one, with
        `data["index"]`; for one whose id is taken, after all others of its request were stored, and none of later requests.
        What a full store does not take is sent again while it takes some: after StoreFull, sending all again makes no job twice.
        """
        receipts: list[shapes.Receipt] = []
        for batch in batches.cut(self._prepared(each) for each in jobs):
            try:
                answered = await batches.sent(lambda body: self._gateways.ask("POST", "/v1/jobs/batch", body=body), batch)
            except errors.CallboardError as error:
                if "index" in error.data:
                    error.data["index"] += len(receipts)
                raise
            receipts += batches.receipts(answered, len(receipts))
        return receipts

    def _prepared(self, given: submission.Submission) -> submission.Submission:
        codec.pack(given.args, "args")  # JSON would write NaN as null, and say nothing.
        return msgspec.structs.replace(
            given, id=given.id or uuid7.text(uuid7.make(self._clock.now())), domain=given.domain or self._domain
        )

    # Looking and waiting

    async def get(self, id: str, *, domain: str | None = None) -> shapes.JobDetail:
        """Return a job as it is. Raises JobNotFound."""
        return await self._look(id, domain, 0.0)

    async def wait(self, id: str, timeout: float | None = None, *, domain: str | None = None) -> shapes.JobDetail:
        """Return a job the moment it is finished. Raises JobNotFound, and WaitTimeout after `timeout` seconds (None: never)."""
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while True:
            left = WAIT_SECONDS if end is None else min(max(end - loop.time(), 0.0), WAIT_SECONDS)
            job = await self._look(id, domain, left)
            if job.finished:
                return job
            if end is not None and loop.time() >= end:
                raise errors.WaitTimeout(
                    f"job {id} is {job.state} after {timeout:g} seconds: wait again, or longer", state=job.state
                )

    async def result(self, id: str, timeout: float | None = None, *, domain: str | None = None) -> Any:
        """Return a job's result once it is completed. Raises as `wait`, and JobFailed when it was discarded or cancelled."""
        job = await self.wait(id, timeout, domain=domain)
        if job.state != model.State.COMPLETED.word:
            raise failed(job)
        return job.result

    async def results(
        self, ids: Iterable[str], timeout: float | None = None, *, domain: str | None = None
    ) -> AsyncGenerator[shapes.Job, None]:
        """Yield each of the jobs as it finishes, in the order of their ends. Raises as `wait`."""
        wanted = list(dict.fromkeys(ids))
        watching = watches.Watches(self.watch, wanted, domain)
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        left = len(wanted)
        async with contextlib.aclosing(watching):
            while left:
                try:
                    async with asyncio.timeout_at(end):
                        found = await watching.next()
                except TimeoutError:
                    raise errors.WaitTimeout(f"{left} jobs are not finished after {timeout:g} seconds: wait longer") from None
                for job in found:
                    left -= 1
                    yield job

    async def watch(self, ids: Sequence[str], seconds: float, *, domain: str | None = None) -> shapes.Finished:
        """Return those of up to 1,000 jobs that are finished as soon as some are, or none after `seconds` (60 at most)."""
        body = msgspec.json.encode(shapes.Watch(list(ids), seconds))
        answer = await self._gateways.ask("POST", "/v1/jobs/wait", self._within(domain), body=body, waits=seconds)
        return msgspec.json.decode(answer, type=shapes.Finished)

    async def jobs(
        self,
        *,
        state: str | Iterable[str] | None = None,
        kind: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        domain: str | None = None,
    ) -> AsyncGenerator[shapes.Job, None]:
        """Yield the jobs for which all given conditions hold, newest first, `limit` at most; read page by page."""
        states = [state] if isinstance(state, str) else list(state or ())
        given = {"kind": kind, "queue": queue, "tag": tag}
        query = [*self._within(domain), *(("state", each) for each in states)] + [
            (name, value) for name, value in given.items() if value is not None
        ]
        left, cursor = limit, None
        while left is None or left > 0:
            size = PAGE_JOBS if left is None else min(left, PAGE_JOBS)
            more = [("limit", str(size))] + ([] if cursor is None else [("cursor", cursor)])
            page = msgspec.json.decode(await self._gateways.ask("GET", "/v1/jobs", query + more), type=shapes.Jobs)
            for job in page.jobs:
                yield job
            cursor = page.cursor
            left = None if left is None else left - len(page.jobs)
            if cursor is None:
                return

    # Steering

    async def cancel(self, id: str, *, domain: str | None = None) -> str:
        """Cancel a job: `cancelled`, or `cancel_requested` while it runs. Raises JobNotFound, StateRefused for a finished one."""
        return await self._move(paths.job(id) + "/cancel", domain)

    async def retry(self, id: str, *, domain: str | None = None) -> str:
        """Run a finished job again; return its state. Raises JobNotFound, StateRefused when it is not finished.

        The job's run is read first and sent along: when the answer is lost and the request is sent twice, the gateway sees by the
        run that it was carried out, and starts no further one.
        """
        job = await self.get(id, domain=domain)
        if not job.finished:
            raise errors.StateRefused(f"job {id} is {job.state} and cannot be retried: it is not finished", state=job.state)
        return await self._move(paths.job(id) + "/retry", domain, [("run", str(job.run))])

    async def queues(self, *, domain: str | None = None) -> list[shapes.Queue]:
        """Return the queues with their jobs by state."""
        return msgspec.json.decode(await self._gateways.ask("GET", "/v1/queues", self._within(domain)), type=shapes.Queues).queues

    async def pause(self, queue: str, *, domain: str | None = None) -> None:
        """Pause a queue: once this returned, no claim of it commits. Running jobs go on."""
        await self._gateways.ask("POST", f"/v1/queues/{paths.part(queue)}/pause", self._within(domain))

    async def resume(self, queue: str, *, domain: str | None = None) -> None:
        """Let a paused queue go on."""
        await self._gateways.ask("POST", f"/v1/queues/{paths.part(queue)}/resume", self._within(domain))

    # Named services

    async def call(
        self,
        name: str,
        method: str,
        args: Mapping[str, Any] | None = None,
        *,
        timeout: float = CALL_SECONDS,
        domain: str | None = None,
        repeatable: bool = False,
    ) -> Any:
        """Call a method of a named service (`billing@acme`, or an exact instance `cache/INCARNATION`); return what it returned.

        `timeout` in seconds, 60 at most. `repeatable` says that running it twice does no harm: then a call whose gateway dies is
        made again through another one. Needs the scope `calls:invoke`. Raises what the method raised, as a ServiceError with its
        code where the class is not Callboard's own, and CallErrors, whose `data["ran"]` says whether the method was begun:
        UnknownName, UnknownMethod, NotActive, DeadlineExceeded; InvalidArguments. Unreachable without `ran` in its data means
        that nobody knows.
        """
        body = _arguments(args)
        query = [] if _checked(timeout) == CALL_SECONDS else [("timeout", f"{timeout:g}")]
        path = f"/v1/call/{paths.named(name, domain or self._domain)}/{paths.method(method)}"
        answer = await self._gateways.ask("POST", path, query, body=body, repeatable=repeatable, waits=timeout)
        return msgspec.json.decode(answer, type=shapes.Called).result

    async def broadcast(
        self,
        target: str,
        method: str,
        args: Mapping[str, Any] | None = None,
        *,
        mode: Literal["all", "first", "elect"] = "all",
        timeout: float = CALL_SECONDS,
    ) -> list[shapes.Outcome]:
        """Call every instance of `service:NAME` or `role:NAME`; return an outcome for each. `timeout` as for `call`.

        `mode`: gather all answers, take the first good one, or have the recipients elect who acts. Roles need an admin key that
        reaches all domains. Raises UnknownName when there are no recipients.
        """
        given = shapes.Broadcast(target, method, dict(args or {}), mode, timeout)
        codec.pack(given.args, "args")
        body = msgspec.json.encode(given)
        answer = await self._gateways.ask("POST", "/v1/broadcast", body=body, repeatable=False, waits=_checked(timeout))
        return msgspec.json.decode(answer, type=shapes.Outcomes).outcomes

    async def nodes(self) -> list[dict[str, Any]]:
        """Return what each live node says of itself."""
        return (await self.roster()).nodes

    async def view(self, after: views.View | None = None, wait: float = 0.0) -> views.View:
        """Return the cluster view: servers, nodes and offices of the site, `stale` if it may be out of date.

        With `after` as soon as there is a newer one than that, or the present one after `wait` seconds (60 at most).
        """
        query = [("after", after.mark), ("wait", f"{wait:g}")] if after is not None else []
        return msgspec.json.decode(await self._gateways.ask("GET", "/v1/view", query, waits=wait), type=views.View)

    def watch_view(self) -> AsyncGenerator[views.Change, None]:
        """Yield what there is at the site now, then each change, as `Callboard.watch` does, from any gateway."""
        return watching.changes(lambda seen: self.view(seen, WAIT_SECONDS))

    async def create_key(self, name: str, scopes: Iterable[str], *, domain: str | None = None) -> shapes.MintedKey:
        """Make an API key; its token is in the answer and nowhere again. Needs `admin`. Raises InvalidInput for unknown scopes.

        Not sent again after a lost answer: the key may have been made then; `keys` shows it, `revoke_key` ends it.
        """
        body = msgspec.json.encode(shapes.NewKey(name, list(scopes), domain or self._domain))
        return msgspec.json.decode(
            await self._gateways.ask("POST", "/v1/keys", body=body, repeatable=False), type=shapes.MintedKey
        )

    async def keys(self, *, domain: str | None = None) -> list[shapes.Key]:
        """Return the API keys of a domain and its subtree, revoked ones too, oldest first. Needs `admin`."""
        return msgspec.json.decode(await self._gateways.ask("GET", "/v1/keys", self._within(domain)), type=shapes.Keys).keys

    async def revoke_key(self, id: str) -> shapes.Key:
        """Revoke an API key for good. Needs `admin`. Raises NotFound."""
        return msgspec.json.decode(await self._gateways.ask("DELETE", f"/v1/keys/{paths.part(id)}"), type=shapes.Key)

    async def _look(self, id: str, domain: str | None, seconds: float) -> shapes.JobDetail:
        query = self._within(domain) + ([("wait", f"{seconds:.3f}")] if seconds else [])
        answer = await self._gateways.ask("GET", paths.job(id), query, waits=seconds)
        return msgspec.json.decode(answer, type=shapes.JobDetail)

    async def _move(self, path: str, domain: str | None, query: Sequence[tuple[str, str]] = ()) -> str:
        return msgspec.json.decode(
            await self._gateways.ask("POST", path, [*self._within(domain), *query]), type=shapes.Moved
        ).state

    def _within(self, domain: str | None) -> list[tuple[str, str]]:
        asked = domain or self._domain
        return [] if asked is None else [("domain", asked)]


def failed(job: shapes.JobDetail) -> errors.JobFailed:
    """Return the error for one who wanted the result of a job that was discarded or cancelled."""
    said = [(error.type, error.message) for error in job.errors if error.run == job.run]
    return errors.JobFailed.of(job.id, job.state, job.reason, *(said[-1] if said else ()))


def _checked(seconds: float) -> float:
    if not isinstance(seconds, (int, float)) or not 0 < seconds <= MOST_CALL_SECONDS:
        raise errors.InvalidInput(f"timeout {seconds!r:.40} is out of range: seconds over 0, to {MOST_CALL_SECONDS:g}")
    return seconds


def _arguments(args: Mapping[str, Any] | None) -> bytes | None:
    if not args:
        return None
    codec.pack(args, "args")  # JSON would write NaN as null, and say nothing.
    return msgspec.json.encode(args)
