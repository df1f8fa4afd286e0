"""A gateway on a memory store, keys for it, and somebody who asks it over HTTP."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from callboard import errors
from callboard.coordination import engine as coordination
from callboard.jobs import engine as seam
from callboard.jobs import kinds, model, states
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import codec, uuid7
from callboard.roles.gateway import Gateway, keys

NODE = uuid7.make(1)


def check(args: dict[str, Any]) -> bytes:
    """What the declaration of `app.strict` demands."""
    if set(args) != {"path"}:
        raise errors.InvalidArguments("app.strict takes path: give it, and nothing else")
    return codec.pack(args, "args")


KINDS = {
    "app.strict": kinds.Kind(name="app.strict", check=check),
    "app.resize": kinds.Kind(name="app.resize", queue="images", lane=model.Lane.SHORT, attempts=5, versions=(1, 2)),
}


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class Api:
    """Asks a gateway; `token` is sent unless another one is given."""

    def __init__(self, gateway: Gateway, queue: queues.Queue, session: aiohttp.ClientSession, token: str) -> None:
        self.gateway = gateway
        self.queue = queue
        self.token = token
        self._session = session

    async def __call__(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Answer:
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        sent = io.BytesIO(data) if data is not None and len(data) >= 1 << 20 else data
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        async with self._session.request(method, self.gateway.url + path, data=sent, headers=headers) as response:
            text = await response.read()
            plain = msgspec.json.decode(text) if "json" in response.headers.get("Content-Type", "") else text
            return Answer(response.status, plain, response.headers)

    async def key(self, *scopes: str, domain: str = "main") -> str:
        """Make a key; return its token."""
        _, _, token = await keys.create(self.queue, "test", scopes, domain)
        return token

    async def submit(self, kind: str = "app.resize", **fields: Any) -> str:
        """Submit a job; return its id."""
        answer = await self("POST", "/v1/jobs", {"kind": kind, **fields})
        assert answer.status == 201, answer
        id: str = answer.body["id"]
        return id

    async def claim(self, kind: str = "app.resize", queue: str = "images", limit: int = 100) -> list[model.Job]:
        """Claim jobs, as a worker would."""
        takes = [seam.Take("main", queue, lane, ((kind, (1, 2)),), limit) for lane in model.Lane]
        _, jobs = await self.queue.exchange([], NODE, takes, limit)
        return jobs

    async def settle(self, jobs: Iterable[model.Job], result: Any = None, failed: str | None = None) -> None:
        """End claims with a result, or as failed."""
        now = self.queue.clock.now()
        settles = []
        for job in jobs:
            if failed is None:
                ended = states.succeeded(job, codec.pack(result, "result"), now)
            else:
                ended = states.discarded(job, now, type="ValueError", message=failed, traceback="Traceback: secret")
            settles.append(seam.Settle(job.domain, job.id, NODE, job.fence, ended.outcome, ended.if_cancelled, ended.error))
        results, _ = await self.queue.exchange(settles, NODE, [], 0)
        assert all(isinstance(each, seam.Settled) for each in results)


@pytest.fixture
async def queue() -> AsyncIterator[queues.Queue]:
    made = queues.Queue(memory.open("memory:"))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def entries() -> list[coordination.Entry]:
    """What live nodes say; tests add to it before they ask."""
    return []


@pytest.fixture
async def gateway(queue: queues.Queue, entries: list[coordination.Entry]) -> AsyncIterator[Gateway]:
    async def read() -> list[coordination.Entry]:
        return entries

    made = Gateway(queue, KINDS, "127.0.0.1", 0, read)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def api(gateway: Gateway, queue: queues.Queue) -> AsyncIterator[Api]:
    _, _, token = await keys.create(queue, "first admin", [keys.ADMIN], "main")
    assert token is not None
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
        yield Api(gateway, queue, session, token)
