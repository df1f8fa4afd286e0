"""What the promises work with: a `Bench` (one site of coordination, clients and processes that use it), and short words.

A bench says what can be done to its engine (`abilities`): the author of an engine subclasses it, and overrides the verbs of
the abilities that it declares. Promises wait for conditions with a deadline; figures are in granted session times.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.coordination import engine as seam
from callboard.coordination import engines
from callboard.kit import clock as clocks
from callboard.testing.conformance.coordination import candidate, process

PROCESSES: Final = "processes"
"""Other processes reach the site, by `url`."""
SUDDEN: Final = "sudden"
"""The engine itself knows at once when a process is dead; sessions do not expire."""
EXPIRY: Final = "expiry"
"""A session that is silent for longer than its granted time is over."""
CUT: Final = "cut"
"""`cut` and `heal`: a client's way to the site, both directions."""
LEADER: Final = "leader"
"""`lose_leader`: kill the server that leads, and leave it dead."""
QUORUM: Final = "quorum"
"""`lose_quorum` and `regain_quorum`: the site stops serving, and begins again."""
_numbers = itertools.count(1)


class Promise(msgspec.Struct, frozen=True):
    """One promised behaviour: a name, a text, and a coroutine function that raises when it is broken."""

    name: str
    text: str
    run: Callable[[Bench], Awaitable[None]]
    needs: tuple[str, ...] = ()

    def missing(self, ground: Bench) -> str:
        """Return the abilities without which the promise cannot be tried here, or nothing."""
        return ", ".join(each for each in self.needs if each not in ground.abilities)


def promise(run: Callable[[Bench], Awaitable[None]]) -> Promise:
    """Make a promise of a function: its name and first line of text."""
    return Promise(run.__name__, (run.__doc__ or "").strip(), run)


def promise_if(*needs: str) -> Callable[[Callable[[Bench], Awaitable[None]]], Promise]:
    """Make a promise that can be tried only with certain abilities."""
    return lambda run: msgspec.structs.replace(promise(run), needs=needs)


def equal(actual: object, wanted: object) -> None:
    """Raise AssertionError unless both are equal."""
    if actual != wanted:
        raise AssertionError(f"got {actual!r:.2000}\nwanted {wanted!r:.2000}")


def holds(condition: object, what: str) -> None:
    """Raise AssertionError, saying what was wanted, unless the condition holds."""
    if not condition:
        raise AssertionError(f"not so: {what}")


async def refused(waited: Awaitable[Any], kind: type[errors.CallboardError] = errors.CoordinationConflict) -> dict[str, Any]:
    """Return the data of the error that must be raised."""
    try:
        answer = await waited
    except kind as error:
        return error.data
    raise AssertionError(f"{kind.__name__} was not raised; answer: {answer!r:.500}")


async def create(session: seam.Session, path: str, body: bytes = b"", *, lasting: bool = False) -> int:
    """Create one entry; return its number."""
    (number,) = await session.apply([seam.Create(path, body, lasting)])
    return number


async def paths(session: seam.Session, folder: str) -> list[str]:
    """Return the paths of a folder's entries."""
    return [entry.path for entry in await session.entries(folder)]


def name() -> str:
    """Return a name that was not used before in this process, for a session."""
    return f"node-{next(_numbers):032x}"


class Bench:
    """One site, new and empty. An asynchronous context; all that it opened ends with it."""

    clock: clocks.Clock = clocks.SystemClock()
    patience_seconds = 20.0
    """How long a promise waits for what must come true."""

    def __init__(self, url: str, *, session_seconds: float, abilities: Sequence[str] = ()) -> None:
        self.url = url
        self.session_seconds = session_seconds
        """As asked for."""
        self.abilities = frozenset(abilities)
        self._ends: list[Callable[[], Awaitable[None]]] = []

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._ends:
            await self._ends.pop()()

    def open(self) -> seam.Engine:
        """Open one more engine on the site: another client."""
        return engines.open(self.url, session_seconds=self.session_seconds)

    def now(self) -> float:
        """Return seconds of the bench's clock, for how long things take."""
        return self.clock.boot() / 1e9

    async def cut(self, session: seam.Session) -> None:
        """Let nothing through between this session and the site, nor tell it so."""
        raise NotImplementedError

    async def heal(self, session: seam.Session) -> None:
        """Undo `cut`."""
        raise NotImplementedError

    async def lose_leader(self) -> None:
        """Kill the server that leads."""
        raise NotImplementedError

    async def lose_quorum(self) -> None:
        """Stop so much of the site that it cannot serve."""
        raise NotImplementedError

    async def regain_quorum(self) -> None:
        """Undo `lose_quorum`."""
        raise NotImplementedError

    # What promises use.

    async def session(self, named: str = "") -> seam.Session:
        """Begin a session, of a client of its own."""
        engine = self.open()
        self._ends.append(engine.close)
        session = await engine.session(named or name())
        self._ends.append(session.close)
        return session

    async def candidate(
        self, order: int = 0, *, preempt: bool = True, session: seam.Session | None = None
    ) -> candidate.Candidate:
        """Let an instance stand for the office `billing.main`, in this process."""
        made = candidate.Candidate(session or await self.session(), self.clock)
        self._ends.append(made.stop)
        await made.start(order, preempt=preempt)
        return made

    async def process(self, named: str = "") -> process.Process:
        """Start a process that holds a session, and does what it is told."""
        made = process.Process(named or name())
        self._ends.append(made.stop)
        await made.start(self.url, self.session_seconds)
        return made

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until a condition holds, a function or coroutine function; AssertionError when it does not in time."""
        seconds = self.patience_seconds
        try:
            async with asyncio.timeout(seconds):
                while not await _value(condition):  # noqa: ASYNC110  # Of another process, too: nobody sets an event.
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"not so after {seconds:g} s: {inspect.getsource(condition).strip()}") from None


async def _value(condition: Callable[[], Any]) -> Any:
    found = condition()
    try:
        return await found if inspect.isawaitable(found) else found
    except errors.CoordinationUnavailable:
        return False
