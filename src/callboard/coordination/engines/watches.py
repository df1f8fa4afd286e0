"""Who wants to hear what, for one session: the half of watching that is the same in every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from callboard.coordination import engine as seam

T = TypeVar("T")


class Watches:
    """The watches and followers of one session, and its state. On its loop; callbacks run in turns of their own."""

    def __init__(self) -> None:
        self.state = seam.State.SUSPENDED
        self._watches: list[tuple[str, Callable[[], None]]] = []
        self._followers: list[Callable[[seam.State], None]] = []
        self._closed = False

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        watch = (folder, changed)
        self._watches.append(watch)
        return lambda: _forget(self._watches, watch)

    def follow(self, told: Callable[[seam.State], None]) -> Callable[[], None]:
        self._followers.append(told)
        return lambda: _forget(self._followers, told)

    def wanted(self, folders: Collection[str]) -> set[str]:
        """Return those of some folders that somebody watches."""
        return {watch[0] for watch in self._watches if watch[0] in folders}

    def tell(self, folders: Collection[str]) -> None:
        """Say that folders changed."""
        for watch in self._watches:
            if watch[0] in folders:
                self._soon(self._watches, watch, watch[1])

    def turn(self, state: seam.State) -> None:
        """Be in a state. A return to CONNECTED tells every watch: word may have been lost."""
        if state is self.state or self._closed:
            return
        self.state = state
        for told in self._followers:
            self._soon(self._followers, told, told, state)
        if state is seam.State.CONNECTED:
            for watch in self._watches:
                self._soon(self._watches, watch, watch[1])

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._closed = True
        self._watches.clear()
        self._followers.clear()

    def _soon(self, among: Sequence[object], one: object, call: Callable[..., None], *values: object) -> None:
        asyncio.get_running_loop().call_soon(lambda: call(*values) if one in among else None)


def _forget(among: list[T], one: T) -> None:
    if one in among:
        among.remove(one)
