"""Dialling other nodes: requests for one address share a dial, and an address that failed just now is not tried again at once.

Used by `peers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from callboard import errors
from callboard.kit import backoff
from callboard.rpc import network

FIRST_SECONDS: Final = 0.05
"""How long a dead address is not tried again after its first failure; doubled by each further one, ±25 %."""
MOST_SECONDS: Final = 2.0
KEPT: Final = 4096
"""Dead addresses that are remembered."""


class Dead:
    """What is known of an address that failed."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self.until = 0.0
        self.error = errors.CallboardError("")
        self._backoff = backoff.Backoff(FIRST_SECONDS, MOST_SECONDS, chance)

    def failed(self, now: float, error: errors.CallboardError) -> None:
        self.until = now + self._backoff.failed()
        self.error = error

    def again(self) -> errors.CallboardError:
        """Return the error of its last failure, as a new one."""
        return type(self.error)(self.error.message, **self.error.data)


class Dials:
    """Dials under way and addresses that failed. On one event loop."""

    def __init__(self, dial: Callable[[network.Address], Awaitable[None]], chance: Callable[[], float]) -> None:
        self._dial = dial
        self._chance = chance
        self._under_way: dict[network.Address, asyncio.Task[errors.CallboardError | None]] = {}
        self._dead: dict[network.Address, Dead] = {}

    async def reach(self, address: network.Address) -> None:
        """Dial, or wait for the dial that is under way. Raises Unreachable, WireRefused: at once when it failed just now."""
        dead = self._dead.get(address)
        if dead is not None and asyncio.get_running_loop().time() < dead.until:
            raise dead.again()
        task = self._under_way.get(address)
        if task is None:
            self._under_way[address] = task = asyncio.get_running_loop().create_task(self._try(address))
        error = await asyncio.shield(task)
        if error is not None:
            raise error

    def alive(self, incarnation: str) -> None:
        """It was heard of: whatever address of it failed may be tried at once."""
        for address in [address for address in self._dead if address.incarnation == incarnation]:
            del self._dead[address]

    async def stop(self) -> None:
        """End all dials."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _try(self, address: network.Address) -> errors.CallboardError | None:
        try:
            await self._dial(address)
        except (errors.Unreachable, errors.WireRefused) as error:
            error.data.setdefault("ran", "no")
            if len(self._dead) >= KEPT:
                del self._dead[next(iter(self._dead))]
            dead = self._dead.setdefault(address, Dead(self._chance))
            dead.failed(asyncio.get_running_loop().time(), error)
            return error
        finally:
            del self._under_way[address]
        self._dead.pop(address, None)
        return None
