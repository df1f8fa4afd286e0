"""The way to the store, and to named services, through gateways: over HTTP, with a key.

A `connection.Way` and a `services.Way`, made by `Callboard.connect` for URLs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from callboard import client, errors
from callboard.app import connection
from callboard.http import shapes
from callboard.jobs import kinds, model, submission
from callboard.kit import codec

_LANES: Final = {model.Lane.SHORT: "short", model.Lane.LONG: "long"}


class GatewaysWay:
    """Asks any of the gateways at `urls`. Arguments are checked here; what is declared here is sent along, for gateways
    that do not know the kind."""

    def __init__(self, urls: str, key: str | None, domain: str | None = None) -> None:
        self._urls = [each.strip() for each in urls.split(",") if each.strip()]
        self._key = key
        self._domain = domain
        """What names without one mean; the key's own when there is none."""
        self._client: client.Client | None = None

    async def open(self) -> None:
        self._client = client.Client(self._urls, self._key)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def submit(self, given: Sequence[submission.Submission], kind: kinds.Kind) -> list[tuple[str, str, bool]]:
        jobs = [_declared(each, kind, index) for index, each in enumerate(given)]
        receipts = await self._opened().submit_many(jobs)
        return [(each.domain, each.id, each.created) for each in receipts]

    async def ending(self, domain: str, id: str, seconds: float) -> connection.Ending | None:
        try:
            job = await self._opened().wait(id, seconds, domain=domain)
        except errors.WaitTimeout:
            return None
        said = [(each.type, each.message) for each in job.errors if each.run == job.run]
        return connection.Ending(job.state, job.result, job.reason, said[-1] if said else ("", ""))

    async def cancel(self, domain: str, id: str) -> str:
        return await self._opened().cancel(id, domain=domain)

    async def call(self, name: str, method: str, args: bytes, timeout: float) -> bytes:
        result = await self._opened().call(name, method, codec.unpack(args), timeout=timeout, domain=self._domain)
        return b"" if result is None else codec.pack_trusted(result)

    async def broadcast(self, target: str, method: str, args: bytes, mode: Any, timeout: float) -> list[shapes.Outcome]:
        return await self._opened().broadcast(target, method, codec.unpack(args), mode=mode, timeout=timeout)

    def _opened(self) -> client.Client:
        if self._client is None:
            raise errors.InvalidInput("the connection is not open: use it inside 'async with'")
        return self._client


def _declared(given: submission.Submission, kind: kinds.Kind, index: int) -> submission.Submission:
    try:
        args = given.args if kind.check is None else codec.unpack(kind.check(given.args))
    except errors.CallboardError as error:
        error.data.setdefault("index", index)
        raise
    declared = {
        "queue": kind.queue,
        "lane": _LANES[kind.lane],
        "version": kind.version,
        "priority": kind.priority,
        "attempts": kind.attempts,
        "backoff": kind.backoff,
        "timeout": kind.timeout,
        "tags": kind.tags or None,
    }
    left_out = {name: value for name, value in declared.items() if getattr(given, name) is None}
    return msgspec.structs.replace(given, args=args, **left_out)
