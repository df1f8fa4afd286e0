"""The thread that cuts a connection to a server that is frozen or gone, so that nobody waits for it for ever.

One thread a process, started by the first watch and shared by all. Slow is not dead: what has been in flight for a second
makes it ask the server, on a new connection, whether it is there. Only one that does not answer is cut off, with all connections
that it has: those at rest are made anew when they are used next, and nobody else has to find out by waiting.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Protocol

from callboard.databases import sockets

_log = logging.getLogger("callboard.databases")
IDLE_TURN_SECONDS: Final = 0.5
TURN_SECONDS: Final = 0.25
"""How often it looks while something is in flight."""
PATIENCE_SECONDS: Final = 0.7
"""How long something may be in flight before the server is asked."""
PROBE_SECONDS: Final = 0.9
"""How long a server may take to answer anything at all."""


class Suspicion(NamedTuple):
    """Something has been in flight for long."""

    since: float
    alive: Callable[[], bool]
    """Asks whether the server answers anything."""


class Watched(Protocol):
    """What the thread looks after. All are called in it."""

    @property
    def busy(self) -> bool:
        """Whether anything is in flight."""

    @property
    def server(self) -> object:
        """Which server it is connected to: equal for equal ones."""

    def suspect(self, now: float) -> Suspicion | None:
        """Return what has been in flight for longer than `PATIENCE_SECONDS`."""

    def cut(self, suspicion: Suspicion) -> None:
        """Break the connection, if the same is still in flight."""

    def sever(self) -> None:
        """Break the connection, whatever it does: its server does not answer others."""


class Lookout:
    """See the module's text."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, threads: bool = True) -> None:
        self._clock = clock
        self._threads = threads
        self._watched: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._errands: dict[object, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._busy = False

    @property
    def watched(self) -> int:
        """How many it looks after."""
        return len(self._watched)

    def add(self, watched: Watched) -> None:
        """Look after it for as long as it exists, or until it is removed."""
        with self._lock:
            self._watched.add(watched)
            self._run()

    def remove(self, watched: Watched) -> None:
        """Look after it no more. Allowed twice."""
        with self._lock:
            self._watched.discard(watched)

    def errand(self, key: object, run: Callable[[], None]) -> None:
        """Do something at the next turn, once; what has the same key is done once. In another thread: it may itself wait for a
        server that this thread must cut off.
        """
        with self._lock:
            self._errands[key] = run
            self._run()

    def turn(self) -> None:
        """Look once."""
        with self._lock:
            watched, errands = list(self._watched), list(self._errands.values())
            self._errands.clear()
        self._busy = any(each.busy for each in watched)
        if errands and self._threads:
            threading.Thread(target=_each, args=(errands,), name="callboard-errands", daemon=True).start()
        else:
            _each(errands)
        _each([lambda each=each: self._ask(each, watched) for each in watched])  # type: ignore[misc]

    def _ask(self, watched: Watched, every: Sequence[Watched]) -> None:
        """Cut it off if it is suspected, its server does not answer, and the same is still in flight; then all others."""
        suspicion = watched.suspect(self._clock())
        if suspicion is None or suspicion.alive():
            return
        watched.cut(suspicion)
        for other in every:
            if other is not watched and other.server == watched.server:
                other.sever()

    def _run(self) -> None:
        if not self._threads:
            return
        if self._thread is None or not self._thread.is_alive():  # It does not live on in a forked child.
            self._thread = threading.Thread(target=self._turns, name="callboard-lookout", daemon=True)
            self._thread.start()

    def _turns(self) -> None:
        while True:
            time.sleep(TURN_SECONDS if self._busy else IDLE_TURN_SECONDS)
            self.turn()


def _each(runs: Iterable[Callable[[], None]]) -> None:
    for run in runs:
        try:
            run()
        except Exception:  # Whatever it is: without the lookout's thread, others wait for ever.
            _log.exception("looking at a database failed")


shared = Lookout()
"""The one of this process."""


class Guard:
    """One connection, looked after between `begin` and `end`, or inside a `with`, which closes it."""

    def __init__(self, descriptor: int, server: object, alive: Callable[[], bool]) -> None:
        self.server = server
        self._cutter = sockets.Cutter(descriptor)
        self._alive = alive
        self._since: float | None = None
        self._severed = False
        shared.add(self)

    @property
    def busy(self) -> bool:
        return self._since is not None

    def begin(self) -> None:
        """Somebody will wait for answers from now on."""
        self._since = time.monotonic()

    def end(self) -> None:
        """Nobody waits. Allowed twice."""
        self._since = None

    def close(self) -> None:
        """Look after it no more; the connection stays. Allowed twice."""
        self.end()
        shared.remove(self)
        self._cutter.close()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def suspect(self, now: float) -> Suspicion | None:
        since = self._since
        if self._severed or since is None or now - since < PATIENCE_SECONDS:
            return None
        return Suspicion(since, self._alive)

    def cut(self, suspicion: Suspicion) -> None:
        if self._since == suspicion.since:
            self._cutter.cut()

    def sever(self) -> None:
        self._severed = True
        self._cutter.cut()
