"""Hints between processes, over the agent's hub (`rpc.hub`). Between hubs they are carried by `node.links`, many in a `Bundle`.

A commit's hint goes out as one frame, or two: ids of finished jobs travel apart from the rest, because only those who wait
want them. Made by `node.assemble` and by `app.connect`; given to a `Queue`. What is lost costs its readers a polling interval.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from callboard.jobs import hints
from callboard.kit import lifecycle
from callboard.rpc import hub, hub_client

NEWS = 1
"""Topic of what workers and gateways listen for: ready, cancelled, documents."""
FINISHED = 2
"""Topic of finished jobs, for those who wait."""
TOPICS = (NEWS, FINISHED)
LINGER_SECONDS = 30.0
"""How long finished jobs are still wanted after the last waiter, so that a wait now and then costs no messages."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(hints.Hint).decode


class HubHints(lifecycle.Lifecycle):
    """A `jobs.hints.Hints`. Started and stopped by who made it; before, after, and without a hub it reaches this process only."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._local = hints.LocalHints()
        self._client = hub_client.HubClient(file, self._received)
        self._linger: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        """Whether other processes are reached now."""
        return self._client.connected

    @property
    def awaited(self) -> bool:
        return self._local.awaited or FINISHED in self._client.wanted

    @property
    def waiting(self) -> bool:
        return self._local.awaited or self._linger is not None

    def publish(self, hint: hints.Hint) -> None:
        self._local.deliver(hint)
        wanted = self._client.wanted
        if hint.finished and FINISHED in wanted:
            self._client.publish(FINISHED, _encode(hints.Hint(finished=hint.finished)))
        if NEWS in wanted and (hint.ready or hint.cancelled or hint.documents):
            self._client.publish(NEWS, _encode(hints.Hint(hint.ready, (), hint.cancelled, hint.documents)))

    def listen(self, listener: hints.Listener) -> Callable[[], None]:
        self._client.want(NEWS)
        return self._local.listen(listener)

    def await_finished(self) -> Callable[[], None]:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._client.want(FINISHED)
        release = self._local.await_finished()

        def stop() -> None:
            release()
            self._nobody_waits()

        return stop

    async def _start(self) -> None:
        await self._client.start()

    async def _stop(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
        await self._client.stop()

    def _nobody_waits(self) -> None:
        if self._local.awaited or self._linger is not None:
            return
        if self.ready:
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._unwant)
        else:
            self._unwant()

    def _unwant(self) -> None:
        self._linger = None
        self._client.want(FINISHED, False)

    def _received(self, topic: int, body: bytes) -> None:
        try:
            hint = _decode(body)
        except msgspec.MsgspecError:
            return  # Of a newer Callboard: a lost hint.
        self._local.deliver(hint)


class Bundle:
    """What several messages of one topic say, each thing once, in the order in which it was first said. Pure."""

    def __init__(self) -> None:
        self._said: tuple[dict[Any, None], ...] = tuple({} for _ in hints.Hint.__struct_fields__)

    def add(self, body: bytes) -> None:
        """Take in a message; one that is no hint says nothing: it is of a newer Callboard, or a lost one."""
        with contextlib.suppress(msgspec.MsgspecError):
            for kept, said in zip(self._said, msgspec.structs.astuple(_decode(body)), strict=True):
                kept.update(dict.fromkeys(said))

    def take(self) -> bytes:
        """Return all of it as one message, and be empty; no bytes when there is nothing to say."""
        if not any(self._said):
            return b""
        body = _encode(hints.Hint(*map(tuple, self._said)))
        for kept in self._said:
            kept.clear()
        return body


def beside(path: Path) -> HubHints | None:
    """Return hints over the hub whose address file lies in the directory of this database file; None when there is none.

    Start it before the `Queue` it is given to, stop it after.
    """
    file = path.parent / hub.FILE
    return HubHints(file) if file.exists() else None
