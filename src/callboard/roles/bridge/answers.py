"""The words about finished jobs, for those who asked by `reply-to`: the handler of the jobs that `jobs.replies` puts.

Each broker has a link of its own for them: a full broker stops reading from who sends, and acknowledgements must not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from callboard import app as apps
from callboard import errors
from callboard.brokers import address as addresses
from callboard.brokers import link as links
from callboard.jobs import model, replies
from callboard.jobs import queue as queues
from callboard.kit import codec, uuid7
from callboard.roles.bridge import feed

TIMEOUT_SECONDS: Final = 60.0
AWAY_SECONDS: Final = 5.0
"""When a word that did not get out is tried again, as long as the broker is away; no attempt is counted for that."""


class Answers:
    """Says how jobs ended. `app` declares its kind; on one event loop."""

    def __init__(
        self, brokers: Sequence[addresses.Address], store: queues.Queue, make: Callable[..., links.Link] = links.Link
    ) -> None:
        self.sent = 0
        """Since the start."""
        self.app = apps.Callboard("callboard")
        self._store = store
        self.brokers = tuple(brokers)
        self._outs = {feed.name(address): _Out(address, make) for address in brokers}

        @self.app.job(name=replies.KIND, lane="short", attempts=replies.ATTEMPTS, timeout=TIMEOUT_SECONDS)
        async def reply(ctx: apps.Context, id: str, run: int) -> None:
            """Send the word about a run of a job."""
            try:
                await self._answer(ctx.domain, uuid7.parse(id), run)
            except errors.BrokerUnavailable as error:
                raise apps.RetryLater(AWAY_SECONDS, error.message) from None

    def queues(self) -> list[str]:
        """The queues in which the words for these brokers wait."""
        return [replies.queue(name) for name in self._outs]

    async def say(self, job: model.Job, to: Mapping[str, str]) -> None:
        """Send the word about a finished job to where `to` (as in a job's `meta`) says. Raises BrokerError, StoreError."""
        out = self._outs.get(to[replies.BROKER])
        if out is None:
            raise errors.BrokerUnavailable(f"{to[replies.BROKER]} is none of this node's message brokers")
        headers = {"callboard-id": uuid7.text(job.id)}
        if replies.CORRELATION in to:
            headers["correlation-id"] = to[replies.CORRELATION]
        await out.send(to[replies.TO], codec.to_json(await self._word(job)), headers)
        self.sent += 1

    async def close(self) -> None:
        for out in self._outs.values():
            await out.close()

    async def _answer(self, domain: str, id: bytes, run: int) -> None:
        job = await self._store.get(domain, id)
        if job is not None and job.finished and job.run == run:  # Else it was retried, and another word will follow.
            await self.say(job, job.meta)

    async def _word(self, job: model.Job) -> dict[str, Any]:
        word: dict[str, Any] = {"id": uuid7.text(job.id), "state": job.state.word}
        if job.state is model.State.COMPLETED:
            return {**word, "result": None if job.result is None else codec.unpack(job.result)}
        found = [each for each in await self._store.attempt_errors(job.domain, job.id) if each.run == job.run]
        last = found[-1] if found else None
        error = None if last is None else {"code": last.code, "type": last.type, "message": last.message}
        return {**word, "reason": job.reason, "error": error}


class _Out:
    """The link to one broker by which words go. A `links.Told`."""

    def __init__(self, address: addresses.Address, make: Callable[..., links.Link]) -> None:
        self._address = address
        self._make = make
        self._link: links.Link | None = None
        self._turn = asyncio.Lock()

    async def send(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        async with self._turn:
            if self._link is None or not self._link.alive:
                made = self._make(self._address, self)
                await made.open()
                self._link = made
            link = self._link
        await link.send(destination, body, {**headers, "content-type": "application/json"})

    async def close(self) -> None:
        if self._link is not None:
            await self._link.close()

    def received(self, messages: list[links.Message]) -> None:
        """Nothing is consumed here."""

    def refused(self, subscription: str, error: errors.BrokerRefused) -> None:
        """Nothing is consumed here."""

    def lost(self, why: str) -> None:
        """The next word makes another link."""
        self._link = None
