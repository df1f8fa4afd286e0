"""The coordination of a simulation: the memory engine's site, as a server of its own that sees true time.

What a process asks is worked out here, on the site's loop; what the site tells goes to the loop of whoever it is for.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import events
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from callboard.coordination import election
from callboard.coordination import engine as seam
from callboard.coordination.engines import memory
from callboard.testing import virtual

_mark = msgspec.json.Decoder(election.Mark).decode


class RemoteSite(memory.Site):
    """A site that outlives those who ask it. `deposed(mark, office, by)` is told of each deposition."""

    def __init__(self, loop: virtual.VirtualLoop, deposed: Callable[[election.Mark, str, str], None]) -> None:
        super().__init__()
        self._loop = loop
        self._deposed = deposed
        self._begun: dict[str, memory.Life] = {}

    @property
    def serving(self) -> bool:
        return self._serving

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Run on the site's loop for a moment."""
        caller = events._get_running_loop()
        events._set_running_loop(self._loop)
        try:
            yield
        finally:
            events._set_running_loop(caller)

    def begin(self, name: str, granted_seconds: float, told: Callable[[Collection[str]], None]) -> memory.Life:
        asker = asyncio.get_running_loop()
        with self.here():
            life = super().begin(name, granted_seconds, lambda folders: _tell(asker, told, folders))
            self._begun[name] = life
            return life

    def touch(self, life: memory.Life) -> None:
        with self.here():
            super().touch(life)

    def apply(self, life: memory.Life, operations: Sequence[seam.Operation]) -> list[int]:
        with self.here():
            numbers = super().apply(life, operations)
        for each in operations:
            if isinstance(each, seam.Create) and each.path.startswith(f"{election.DEPOSED}/"):
                self._deposed(_mark(each.body), each.path.partition("/")[2], life.name)
        return numbers

    def end(self, name: str) -> None:
        with self.here():
            super().end(name)

    def resume(self) -> None:
        with self.here():
            super().resume()

    def beat_for(self, name: str) -> None:
        """Hear of a session from a thread of its process, while its loop hangs: other engines' drivers beat so."""
        life = self._begun.get(name)
        if life is not None and self._serving:
            with contextlib.suppress(memory.Gone):
                self.touch(life)


def _tell(loop: asyncio.AbstractEventLoop, told: Callable[[Collection[str]], None], folders: Collection[str]) -> None:
    """Hand word of a change to a session, on its process's loop: it is under way from then on."""
    here = events._get_running_loop()
    events._set_running_loop(loop)
    try:
        told(folders)
    finally:
        events._set_running_loop(here)
