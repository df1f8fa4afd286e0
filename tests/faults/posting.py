"""Who posts jobs into a message broker, and what the fault tests ask of the broker and of the nodes that take from it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from callboard import errors
from callboard.brokers import address, link
from callboard.http import shapes
from callboard.kit import clock, uuid7
from callboard.testing.engines import activemq
from tests.faults import history
from tests.faults.deployment import END_SECONDS, Deployment

MAIN = "callboard.main.default"
REPLIES = "shop.replies"
AT_ONCE = 500
"""Messages that are sent before the broker has confirmed the first of them."""


class Post:
    """A client of one broker: sends jobs as messages, and reads what is answered. Ids are told to the deployment."""

    def __init__(self, deployment: Deployment, url: str) -> None:
        self.answers: list[link.Message] = []
        self._deployment = deployment
        self._address = address.parsed(url)
        self._link = link.Link(self._address, self)

    async def open(self) -> None:
        """Connect, anew after the broker's death. `REPLIES` is read from then on."""
        self._link = link.Link(self._address, self)
        await self._link.open()
        self._link.subscribe(REPLIES, 100)

    async def close(self) -> None:
        await self._link.close()

    async def send(self, kind: str, jobs: int = 1, *, answered: bool = False, **args: Any) -> list[str]:
        """Send jobs, each with an id of its own; return the ids, once the broker has all. `answered` asks for a word each."""
        ids = [uuid7.text(uuid7.make(clock.SystemClock().now())) for _ in range(jobs)]
        body = {"kind": f"{self._deployment.APP}.{kind}", "args": args}
        for first in range(0, jobs, AT_ONCE):
            await asyncio.gather(*(self.send_raw(body, _headers(id, answered)) for id in ids[first : first + AT_ONCE]))
        self._deployment.acknowledged += ids
        return ids

    async def send_raw(
        self, body: object, headers: Mapping[str, str] | None = None, to: str = MAIN, seconds: float = link.SEND_SECONDS
    ) -> None:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await self._link.send(to, data, headers, seconds)

    def received(self, messages: list[link.Message]) -> None:
        self.answers += messages
        self._link.ack(messages)

    def refused(self, subscription: str, error: errors.BrokerRefused) -> None:
        raise error

    def lost(self, why: str) -> None:
        """Brokers die here."""


def _headers(id: str, answered: bool) -> dict[str, str]:
    return {"callboard-id": id} | ({"reply-to": f"/queue/{REPLIES}", "correlation-id": f"of {id}"} if answered else {})


@contextlib.asynccontextmanager
async def to(deployment: Deployment, url: str) -> AsyncIterator[Post]:
    """Give somebody who posts into a broker."""
    made = Post(deployment, url)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def up(deployment: Deployment, *urls: str, more: tuple[str, ...] = (), **shape: int) -> None:
    """Start a deployment that takes jobs from these brokers."""
    await deployment.up(*(word for url in urls for word in ("--bridge", url)), *more, **shape)


async def queue(broker: activemq.Broker, name: str = MAIN) -> activemq.Queue:
    return await asyncio.to_thread(broker.queue, name)


def holds(broker: activemq.Broker, messages: int, name: str = MAIN) -> Callable[[], Awaitable[bool]]:
    """Return the condition that a queue has just so many messages."""

    async def condition() -> bool:
        return (await queue(broker, name)).size == messages

    return condition


def unread(broker: activemq.Broker) -> Callable[[], Awaitable[bool]]:
    """Return the condition that nobody takes from it."""

    async def condition() -> bool:
        return (await queue(broker)).consumers == 0

    return condition


def said(deployment: Deployment, words: str) -> list[str]:
    """Return the lines of all nodes' logs that have these words."""
    logs = sorted((deployment.data / "nodes").glob("*.log"))
    return [line for log in logs for line in log.read_text().splitlines() if words in line]


async def judged(
    deployment: Deployment, broker: activemq.Broker, seconds: float = END_SECONDS
) -> tuple[list[shapes.JobDetail], history.Verdict]:
    """End what is held and wait until the broker has no message left and every job has ended; each message is one job."""
    deployment.release()
    await deployment.eventually(holds(broker, 0), seconds)
    ended = await deployment.finished(seconds)
    jobs = [job.id async for job in deployment.client.jobs() if job.kind.startswith(deployment.APP)]
    assert sorted(jobs) == sorted(deployment.acknowledged)
    verdict = await deployment.verdict()
    assert not verdict.faults
    return ended, verdict


def duplicates(deployment: Deployment, messages: int) -> Callable[[], Awaitable[bool]]:
    """Return the condition that the bridges say that at least so many messages met a job that was there."""

    async def condition() -> bool:
        roles = [role for node in await deployment.client.nodes() for role in node["roles"]]
        return sum(role["duplicates"] for role in roles if role["role"] == "bridge") >= messages

    return condition
