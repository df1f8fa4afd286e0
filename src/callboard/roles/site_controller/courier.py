"""Sees to it that one node knows what there is: one request at a time, until the node has the present version.

A request leads from the version that the node said it has to the present one, whatever happened between: nothing queues up for a
slow node, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.cluster import deltas, view
from callboard.kit import backoff, grammar
from callboard.rpc import network, peers

PUSH_SECONDS: Final = 2.0
"""How long a node may take to answer."""
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_MOST_SECONDS: Final = 5.0
_version = msgspec.msgpack.Decoder(view.Version).decode
log = structlog.get_logger("callboard.controller")


class Courier:
    """Carries to one node from when it is made until it is stopped; `superseded` is called when a later holder was there."""

    def __init__(
        self,
        wire: peers.Peers,
        address: network.Address,
        told: deltas.Deltas,
        superseded: Callable[[], None],
        chance: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._address = address
        self._deltas = told
        self._superseded = superseded
        self._chance = chance
        self._has: view.Version | None = None
        """What the node said last that it has."""
        self._connected = False
        """Whether the connection lives over which it said so: without it, the node takes what it knows for stale."""
        self._woken = asyncio.Event()
        self._task = asyncio.create_task(self._carry(), name="courier")

    @property
    def done(self) -> bool:
        """Whether the node has the present version."""
        return self._connected and self._has == self._deltas.version

    def wake(self) -> None:
        """There is a new version."""
        self._woken.set()

    def lost(self) -> None:
        """The connection to the node has ended: it is told again, so that it knows that it is up to date."""
        self._connected = False
        self._woken.set()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _carry(self) -> None:
        wait = backoff.Backoff(RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS, self._chance)
        while True:
            await self._woken.wait()
            self._woken.clear()
            while not self.done:
                try:
                    await self._push()
                    wait.succeeded()
                except errors.WrongEpoch:
                    self._superseded()
                    return
                except (errors.CallboardError, ValueError) as error:  # What makes no sense, or is no text.
                    self._connected = False
                    log.debug("a node was not told", node=self._address.incarnation, why=str(error))
                    await asyncio.sleep(wait.failed())

    async def _push(self) -> None:
        self._connected = True  # Before the answer: what is lost meanwhile is lost again.
        answer = await self._wire.request(
            self._address,
            label=view.LABEL,
            domain=grammar.DEFAULT_DOMAIN,
            method="push",
            args=self._deltas.packed(self._has),
            timeout=PUSH_SECONDS,
        )
        assert isinstance(answer, bytes)  # Else comes only to those who elect.
        self._has = _version(answer)
        self._deltas.outdo(self._has)
