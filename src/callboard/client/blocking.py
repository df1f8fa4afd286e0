"""The client for programs without an event loop: a thin portal, call by call, to the one for asyncio."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from anyio import from_thread

from callboard import errors
from callboard.client import calls, operating
from callboard.cluster import view as views
from callboard.http import shapes
from callboard.jobs import submission

T = TypeVar("T")


class SyncClient:
    """`Client` for programs without an event loop: the same calls, each returning when it is done. Safe from any thread.

    Use as `with SyncClient(...)`: the event loop behind it runs in a thread of its own, from entry to exit.
    """

    def __init__(
        self, urls: str | Sequence[str], key: str | None = None, *, domain: str | None = None, timeout: float = 60.0
    ) -> None:
        self._client = calls.Client(urls, key, domain=domain, timeout=timeout)
        self._stack = contextlib.ExitStack()
        self._portal: from_thread.BlockingPortal | None = None

    def __enter__(self) -> Self:
        self._portal = self._stack.enter_context(from_thread.start_blocking_portal())
        self._stack.callback(self._portal.call, self._client.close)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._portal = None
        self._stack.close()

    @property
    def retries(self) -> int:
        """See `Client.retries`."""
        return self._client.retries

    def submit(self, kind: str, args: Mapping[str, Any] | None = None, **options: Unpack[calls.Options]) -> shapes.Receipt:
        """See `Client.submit`."""
        return self._call(self._client.submit(kind, args, **options))

    def job(self, kind: str, args: Mapping[str, Any] | None = None, **options: Unpack[calls.Options]) -> submission.Submission:
        """See `Client.job`."""
        return self._client.job(kind, args, **options)

    def submit_many(self, jobs: Iterable[submission.Submission]) -> list[shapes.Receipt]:
        """See `Client.submit_many`."""
        return self._call(self._client.submit_many(jobs))

    def get(self, id: str, *, domain: str | None = None) -> shapes.JobDetail:
        """See `Client.get`."""
        return self._call(self._client.get(id, domain=domain))

    def wait(self, id: str, timeout: float | None = None, *, domain: str | None = None) -> shapes.JobDetail:
        """See `Client.wait`."""
        return self._call(self._client.wait(id, timeout, domain=domain))

    def result(self, id: str, timeout: float | None = None, *, domain: str | None = None) -> Any:
        """See `Client.result`."""
        return self._call(self._client.result(id, timeout, domain=domain))

    def results(self, ids: Iterable[str], timeout: float | None = None, *, domain: str | None = None) -> Iterator[shapes.Job]:
        """See `Client.results`."""
        return self._each(self._client.results(ids, timeout, domain=domain))

    def jobs(
        self,
        *,
        state: str | Iterable[str] | None = None,
        kind: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        domain: str | None = None,
    ) -> Iterator[shapes.Job]:
        """See `Client.jobs`."""
        return self._each(self._client.jobs(state=state, kind=kind, queue=queue, tag=tag, limit=limit, domain=domain))

    def cancel(self, id: str, *, domain: str | None = None) -> str:
        """See `Client.cancel`."""
        return self._call(self._client.cancel(id, domain=domain))

    def retry(self, id: str, *, domain: str | None = None) -> str:
        """See `Client.retry`."""
        return self._call(self._client.retry(id, domain=domain))

    def queues(self, *, domain: str | None = None) -> list[shapes.Queue]:
        """See `Client.queues`."""
        return self._call(self._client.queues(domain=domain))

    def pause(self, queue: str, *, domain: str | None = None) -> None:
        """See `Client.pause`."""
        self._call(self._client.pause(queue, domain=domain))

    def resume(self, queue: str, *, domain: str | None = None) -> None:
        """See `Client.resume`."""
        self._call(self._client.resume(queue, domain=domain))

    def call(
        self,
        name: str,
        method: str,
        args: Mapping[str, Any] | None = None,
        *,
        timeout: float = calls.CALL_SECONDS,
        domain: str | None = None,
        repeatable: bool = False,
    ) -> Any:
        """See `Client.call`."""
        return self._call(self._client.call(name, method, args, timeout=timeout, domain=domain, repeatable=repeatable))

    def broadcast(
        self,
        target: str,
        method: str,
        args: Mapping[str, Any] | None = None,
        *,
        mode: Literal["all", "first", "elect"] = "all",
        timeout: float = calls.CALL_SECONDS,
    ) -> list[shapes.Outcome]:
        """See `Client.broadcast`."""
        return self._call(self._client.broadcast(target, method, args, mode=mode, timeout=timeout))

    def nodes(self) -> list[dict[str, Any]]:
        """See `Client.nodes`."""
        return self._call(self._client.nodes())

    def roster(self) -> shapes.Nodes:
        """See `Client.roster`."""
        return self._call(self._client.roster())

    def view(self, after: views.View | None = None, wait: float = 0.0) -> views.View:
        """See `Client.view`."""
        return self._call(self._client.view(after, wait))

    def watch_view(self) -> Iterator[views.Change]:
        """See `Client.watch_view`."""
        return self._each(self._client.watch_view())

    def create_key(self, name: str, scopes: Iterable[str], *, domain: str | None = None) -> shapes.MintedKey:
        """See `Client.create_key`."""
        return self._call(self._client.create_key(name, scopes, domain=domain))

    def keys(self, *, domain: str | None = None) -> list[shapes.Key]:
        """See `Client.keys`."""
        return self._call(self._client.keys(domain=domain))

    def revoke_key(self, id: str) -> shapes.Key:
        """See `Client.revoke_key`."""
        return self._call(self._client.revoke_key(id))

    def names(self, prefix: str = "") -> shapes.Names:
        """See `Client.names`."""
        return self._call(self._client.names(prefix))

    def ping(self, name: str, *, timeout: float = operating.PING_SECONDS, domain: str | None = None) -> shapes.Answering:
        """See `Client.ping`."""
        return self._call(self._client.ping(name, timeout=timeout, domain=domain))

    def move(
        self, name: str, to: str | None = None, *, timeout: float = operating.MOVE_SECONDS, domain: str | None = None
    ) -> shapes.HandedOver:
        """See `Client.move`."""
        return self._call(self._client.move(name, to, timeout=timeout, domain=domain))

    def servers(self) -> list[shapes.Server]:
        """See `Client.servers`."""
        return self._call(self._client.servers())

    def drain_node(self, node: str) -> shapes.Wished:
        """See `Client.drain_node`."""
        return self._call(self._client.drain_node(node))

    def drain_server(self, server: str, *, force: bool = False) -> shapes.Wished:
        """See `Client.drain_server`."""
        return self._call(self._client.drain_server(server, force=force))

    def undrain_server(self, server: str) -> shapes.TakenBack:
        """See `Client.undrain_server`."""
        return self._call(self._client.undrain_server(server))

    def renew_server(self, server: str) -> shapes.Wished:
        """See `Client.renew_server`."""
        return self._call(self._client.renew_server(server))

    def _call(self, call: Coroutine[Any, Any, T]) -> T:
        if self._portal is None:
            call.close()
            raise errors.InvalidInput("the client is not open: use it inside 'with SyncClient(...) as client:'")
        value: T = self._portal.call(_awaited, call)
        return value

    def _each(self, source: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while True:
                try:
                    yield self._call(anext(source))
                except StopAsyncIteration:
                    return
        finally:
            if self._portal is not None:
                self._call(source.aclose())


async def _awaited(call: Coroutine[Any, Any, T]) -> T:
    return await call
