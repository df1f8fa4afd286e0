"""The words about finished jobs, for those who asked by `reply-to`: the handler of the jobs that `jobs.replies` puts.

Each broker has a link of its own for them, and for letters to the dead: a full broker stops reading from who sends, and
acknowledgements must not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from callboard import app as apps
from callboard import errors
from callboard.brokers import address as addresses
from callboard.brokers import link as links
from callboard.jobs import model, replies
from callboard.jobs import queue as queues
from callboard.kit import codec, uuid7
from callboard.roles.bridge import feed

log = structlog.get_logger()

TIMEOUT_SECONDS: Final = 60.0
AWAY_SECONDS: Final = 5.0
AWAY_MOST_SECONDS: Final = 60.0
"""When words that did not get out are tried again: after as long as the broker has been away by then, within these bounds. No
attempt is counted for that. Many may wait, and each try takes a slot."""


class Answers:
    """Says how jobs ended. `app` declares its kind; on one event loop."""

    def __init__(
        self, brokers: Sequence[addresses.Address], store: queues.Queue, make: Callable[..., links.Link] = links.Link
    ) -> None:
        """Raises InvalidSetting for a broker that is named twice."""
        self.sent = 0
        """Since the start."""
        self.app = apps.Callboard("callboard")
        self._store = store
        self.brokers = tuple(brokers)
        self._outs: dict[str, Out] = {}
        for address in brokers:
            name = feed.name(address)
            if name in self._outs:
                raise errors.InvalidSetting(f"bridge.urls names {name} twice: a broker has one URL, with its stand-ins")
            self._outs[name] = Out(address, make)

        @self.app.job(name=replies.KIND, lane="short", attempts=replies.ATTEMPTS, timeout=TIMEOUT_SECONDS)
        async def reply(ctx: apps.Context, id: str, run: int) -> None:
            """Send the word about a run of a job."""
            try:
                await self._answer(ctx.domain, uuid7.parse(id), run)
            except errors.BrokerUnavailable as error:
                raise apps.RetryLater(float(error.data.get("pause", AWAY_SECONDS)), error.message) from None

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

    def out(self, broker: str) -> Out:
        """Return the way by which messages go to one of the brokers."""
        return self._outs[broker]

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


class Out:
    """The link to one broker by which words go. A `links.Told`.

    While none gets out, one at a time tries, now and then; all others are told at once that it is of no use, so that handlers
    that wait for a broker take no slots from those that work.
    """

    def __init__(self, address: addresses.Address, make: Callable[..., links.Link]) -> None:
        self._address = address
        self._make = make
        self._link: links.Link | None = None
        self._turn = asyncio.Lock()
        self._why = ""
        """Why the last word did not get out; empty when it did."""
        self._since = self._again_at = 0.0
        self._trying = False

    async def link(self) -> links.Link:
        """Return an open link. Raises BrokerError."""
        async with self._turn:
            return await self._opened()

    async def send(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a word. Raises BrokerRefused for its destination; BrokerUnavailable, with a `data["pause"]` in seconds."""
        if self._why and (self._trying or asyncio.get_running_loop().time() < self._again_at):
            raise self._unavailable()
        tries = bool(self._why)
        self._trying |= tries
        try:
            link = await self._link_for_a_word(tries)
            await link.send(destination, body, {**headers, "content-type": "application/json"})
        except errors.BrokerUnavailable as error:
            raise self._failed(error) from None
        except errors.BrokerRefused:  # Of this word alone: the broker takes others.
            self._succeeded()
            raise
        finally:
            if tries:
                self._trying = False
        self._succeeded()

    def _succeeded(self) -> None:
        if self._why:
            self._why = ""
            log.info("replies go out again", broker=feed.name(self._address))

    async def _link_for_a_word(self, tries: bool) -> links.Link:
        async with self._turn:
            if self._why and not tries:  # Somebody failed while this one waited for its turn.
                raise self._unavailable()
            try:
                return await self._opened()
            except errors.BrokerRefused as error:  # A login: no fault of the word's.
                raise errors.BrokerUnavailable(error.message) from None

    async def _opened(self) -> links.Link:
        if self._link is None or not self._link.alive:
            made = self._make(self._address, self)
            try:
                await made.open()
            except errors.InvalidSetting as error:  # The files of its certificates: they may be there again.
                raise errors.BrokerUnavailable(error.message) from None
            self._link = made
        return self._link

    def _unavailable(self) -> errors.BrokerUnavailable:
        left = self._again_at - asyncio.get_running_loop().time()
        return errors.BrokerUnavailable(self._why, pause=max(left, AWAY_SECONDS / 2))

    def _failed(self, error: errors.BrokerUnavailable) -> errors.BrokerUnavailable:
        if "pause" in error.data:
            return error
        now = asyncio.get_running_loop().time()
        if not self._why:
            self._since = now
            log.warning("replies wait: their broker takes none", broker=feed.name(self._address), why=error.message)
        self._why = error.message
        pause = min(max(now - self._since, AWAY_SECONDS), AWAY_MOST_SECONDS)
        self._again_at = now + pause
        return errors.BrokerUnavailable(error.message, pause=pause)

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
