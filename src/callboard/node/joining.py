"""A session in coordination that may come late: jobs need no coordination, so no node waits for it.

`LateSession` is an `engine.Session` from the start on, out of reach until the first real one has begun; from then on it passes
everything through. Made by nodes (`wiring`) and by the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from callboard import errors
from callboard.coordination import engine, engines
from callboard.kit import backoff, lifecycle
from callboard.settings import Settings

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 1.0

log = structlog.get_logger()


def late(given: Settings, name: str, *, patience_seconds: float = 0.0) -> LateSession:
    """Return a session of the coordination that the settings name. Raises InvalidSetting."""
    seconds = given.coordination.session_seconds
    opened = engines.open(given.coordination_url, session_seconds=seconds)
    return LateSession(opened, name, session_seconds=seconds, patience_seconds=patience_seconds)


class LateSession(lifecycle.Lifecycle):
    """Begins a session by itself, tries again as long as that fails, and ends it at its stop. On one event loop."""

    def __init__(self, opened: engine.Engine, name: str, *, session_seconds: float = 3.0, patience_seconds: float = 0.0) -> None:
        """The engine is closed with it. Its start waits up to `patience_seconds` for the first session."""
        super().__init__()
        self._name = name
        self._engine = opened
        self._session_seconds = session_seconds
        self._patience_seconds = patience_seconds
        self._session: engine.Session | None = None
        self._joining: asyncio.Task[None] | None = None
        self._waiting: dict[object, Callable[[engine.Session], Callable[[], None]]] = {}
        """What is to be watched and followed once there is a session."""
        self._ends: dict[object, Callable[[], None]] = {}
        self._left = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def granted_seconds(self) -> float:
        return self._session.granted_seconds if self._session is not None else self._session_seconds

    @property
    def state(self) -> engine.State:
        return self._session.state if self._session is not None else engine.State.SUSPENDED

    async def apply(self, operations: Sequence[engine.Operation]) -> list[int]:
        return await self._joined().apply(operations)

    async def entries(self, folder: str) -> list[engine.Entry]:
        return await self._joined().entries(folder)

    async def sessions(self) -> Collection[str]:
        return await self._joined().sessions()

    def watch(self, folder: str, changed: Callable[[], None]) -> Callable[[], None]:
        def begin(session: engine.Session) -> Callable[[], None]:
            end = session.watch(folder, changed)
            changed()  # The return to CONNECTED that it did not see.
            return end

        return self._once_joined(begin)

    def follow(self, told: Callable[[engine.State], None]) -> Callable[[], None]:
        def begin(session: engine.Session) -> Callable[[], None]:
            end = session.follow(told)
            told(session.state)
            return end

        return self._once_joined(begin)

    async def end(self, name: str) -> None:
        await self._joined().end(name)

    def leave(self) -> None:
        """Have its stop leave the session to its time, as a death would: until the next process has a session of its own, this
        one speaks for whoever cannot speak for itself."""
        self._left = True

    async def close(self) -> None:
        await self.stop()

    async def _start(self) -> None:
        self._joining = asyncio.create_task(self._join(), name="join coordination")
        await asyncio.wait([self._joining], timeout=self._patience_seconds)

    async def _stop(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.gather(self._joining, return_exceptions=True)
        for end in self._ends.values():
            end()
        if self._left:
            return
        if self._session is not None:
            await self._session.close()
        await self._engine.close()

    async def _join(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        said = False
        while self._session is None:
            try:
                self._session = await self._engine.session(self._name)
            except (errors.CoordinationError, errors.StartupError) as error:
                if not said:
                    log.warning("no coordination yet: jobs go on, named services wait", why=error.message)
                    said = True
                await asyncio.sleep(delays.failed())
        if said:
            log.info("coordination is in reach")
        waiting, self._waiting = self._waiting, {}
        for key, begin in waiting.items():
            self._ends[key] = begin(self._session)

    def _once_joined(self, begin: Callable[[engine.Session], Callable[[], None]]) -> Callable[[], None]:
        if self._session is not None:
            return begin(self._session)
        key = object()
        self._waiting[key] = begin

        def end() -> None:
            self._waiting.pop(key, None)
            with contextlib.suppress(KeyError):
                self._ends.pop(key)()

        return end

    def _joined(self) -> engine.Session:
        if self._session is None:
            raise errors.CoordinationUnavailable("coordination was not in reach since the start: it is tried again by itself")
        return self._session
