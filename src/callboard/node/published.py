"""Whether this server still runs by the newest version of the cluster's file: heard in coordination while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from callboard import errors
from callboard.cluster import pushed
from callboard.coordination import engine, heeding
from callboard.kit import backoff

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 5.0

log = structlog.get_logger()


class File(msgspec.Struct, frozen=True):
    """What a server was started from; version 0: from no file that a cluster shares."""

    version: int = 0
    text: str = ""


NONE: Final = File()


class Published(heeding.Heeding):
    """Watches for a newer version. `overtaken()` is called once, when there is one. On one event loop."""

    def __init__(self, session: engine.Session, file: File, overtaken: Callable[[], None]) -> None:
        super().__init__(session, (pushed.PATH.partition("/")[0],))
        self._file = file
        self._overtaken = overtaken
        self.woken.set()

    async def _start(self) -> None:
        if self._file.version:
            await super()._start()

    async def _keep(self) -> None:
        delays = backoff.Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while True:
            await self.woken.wait()
            self.woken.clear()
            try:
                newest = await pushed.read(self._session)
                delays.succeeded()
            except errors.CoordinationError:
                self.woken.set()
                await asyncio.sleep(delays.failed())
                continue
            try:
                if newest is not None:
                    pushed.check(newest, version=self._file.version, text=self._file.text)
            except errors.StateRefused as error:
                log.warning("this server stands for no office until it is reloaded", why=error.message)
                self._overtaken()
                return
