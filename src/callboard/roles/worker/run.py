"""One claimed job while its handler runs, and the two sides that meet over it: who runs handlers, and who keeps the runs."""

from __future__ import annotations

import asyncio
import enum
from typing import Any, Protocol

from callboard.app import handler
from callboard.jobs import model
from callboard.roles.worker import endings


class Why(enum.IntEnum):
    """Why a handler was told to end; a greater one replaces a lesser."""

    NO = 0
    WISH = 1
    """Somebody cancelled the job."""
    DRAIN = 2
    """The node stops: the job is handed back."""
    TIMEOUT = 3
    LOST = 4
    """The claim is somebody else's now: nothing is written."""


class Run:
    """A claimed job and its handler's run; a `context.Port` for the handler. Written on the loop's thread, `progress` and
    `joined` on any."""

    __slots__ = (
        "cancelled",
        "deadline",
        "free",
        "handler",
        "job",
        "joined",
        "let_go",
        "means",
        "progress",
        "sent_progress",
        "timer",
        "why",
    )

    def __init__(self, job: model.Job, declared: handler.Handler, deadline: int) -> None:
        self.job = job
        self.handler = declared
        self.deadline = deadline
        """Nanoseconds of CLOCK_BOOTTIME; 0 for none."""
        self.cancelled = False
        self.why = Why.NO
        self.progress: model.Progress | None = None
        self.sent_progress: model.Progress | None = None
        self.joined = False
        """The job's end was written in a transaction of the handler's, which may be under way: its row is not to be touched."""
        self.timer: asyncio.TimerHandle | None = None
        self.means: Any = None
        """What its place needs to end it: a task, a child process."""
        self.let_go = False
        """Settled, or lost: what the handler does from now on changes nothing."""
        self.free = False
        """The handler has ended: its slot is free."""


class Place(Protocol):
    """Where handlers run. Called on the loop's thread; reports to a `Keeper`, there too."""

    def begin(self, run: Run) -> None:
        """Run the handler as soon as may be; it has a slot."""

    def end(self, run: Run) -> None:
        """Make the handler end, or ask it to; `run.why` and `run.cancelled` are set already."""

    async def close(self) -> None:
        """Let go of threads, tasks and processes that run nothing; those that do end by themselves or with the process."""


class Keeper(Protocol):
    """Who is told how handlers go. Called on the loop's thread."""

    def goes_on(self, run: Run) -> None:
        """The handler has begun and did not end at once: its timeout counts from now."""

    def completed(self, run: Run, result: bytes | None) -> None:
        """The handler returned; the result is encoded."""

    def failed(self, run: Run, failure: endings.Failure) -> None:
        """The handler raised, or its arguments or result could not be used."""

    def stopped(self, run: Run) -> None:
        """The handler ended because it was told to, or had not begun when it was."""
