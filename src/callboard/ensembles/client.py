"""The synchronous client: reads of many nodes, and commits of many steps. Any thread may call, several at once.

Each call waits for the connection, then asks once. `Interrupted` says that the outcome of what was asked is unknown; the server
has then been left. The first `sync` on a connection goes through the majority, so that a later `read` tells for sure whether a
commit was applied: the ensemble refuses what a server still holds of a session that has moved to another one, or is over.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from callboard import errors
from callboard.ensembles import address, connection, requests, sockets

Interrupted = connection.Interrupted
Refused = connection.Refused
_TURNS: Final = 5
_LOOK_SECONDS: Final = 0.1
"""Between looks whether we were refused, while there is no connection."""
_LEAST_PATIENCE_SECONDS: Final = 3.0
_MOST_READS: Final = 1000
_MORE_READS: Final = 4
"""Times as many nodes are asked for at once as just before, where their contents were small."""
_READ_BYTES: Final = 2_000_000
"""Of contents that are expected to come with one answer: servers build it in their memory, which is not meant for more."""
_BIG_BYTES: Final = 250_000
"""What a node is taken to hold of which nothing is known."""
_FACT_BYTES: Final = 100
_DENIED: Final = (requests.NO_AUTH, requests.INVALID_ACL, requests.AUTH_FAILED, requests.LOGIN_REQUIRED)
_PROVEN_SECONDS: Final = 1.0
"""How long a majority that has answered is relied on. Servers give up a leader that they do not hear after `syncLimit` times
`tickTime` at the earliest: 10 s as shipped. Until then there is no other."""
_NEVER: Final = 2**31 - 1
"""A version that no node has."""
_log = structlog.get_logger()


class Client:
    """A session with an ensemble. Raises InvalidSetting for an address whose files or packages are not there.

    `session_seconds` is asked for; `patience_seconds` is how long a call waits for a connection: the granted time, and 3 s at
    least, if not given.
    """

    def __init__(self, of: address.Address, session_seconds: float = 4.0, *, patience_seconds: float | None = None) -> None:
        self.address = of
        self._connection = connection.Connection(of, session_seconds, self._told)
        self._patience_seconds = patience_seconds
        self._turned = threading.Condition()
        self._connected = False
        self._closed = False
        self._session = 0
        self._generation = 0
        self._proof = 0, 0.0
        """The last connection on which a majority has answered, and when it was asked."""
        self._left = 0
        """The last connection that was broken, whether or not the library knows it yet."""
        self._away = False

    @property
    def generation(self) -> int:
        """Grows when a new session began: ephemeral nodes of the one before are gone, or will be."""
        return self._generation

    @property
    def connections(self) -> int:
        """Grows with each connection that is tried: what is behind it may not be what was there before."""
        return self._connection.number

    @property
    def granted_seconds(self) -> float:
        return self._connection.granted_seconds

    @property
    def rule(self) -> bytes:
        """Who may do what with what is created: what `requests.size` needs to know."""
        return self._connection.rule

    def start(self, seconds: float) -> None:
        """Connect within so long, and look whether ROOT may be read. Raises StoreUnavailable, StoreRefused, InvalidSetting."""
        self._connection.start()
        deadline = time.monotonic() + seconds
        try:
            while not self._looked(deadline):
                if time.monotonic() > deadline:
                    raise self._unavailable(seconds)
        except errors.StoreUnavailable:
            self.close()
            if mistaken := sockets.mistaken(self.address):
                raise errors.StoreRefused(f"ZooKeeper: {mistaken}") from None
            raise
        except BaseException:
            self.close()
            raise

    def _looked(self, deadline: float) -> bool:
        """Read ROOT; False where the connection broke meanwhile."""
        try:
            self._ask(requests.content(self.address.root), max(deadline - time.monotonic(), 0.1))
        except Interrupted:
            return False
        except Refused as refused:
            if refused.code != requests.NO_NODE:
                raise
        return True

    def close(self) -> None:
        """End the session; whoever waits gets StoreUnavailable. Blocks for a second at most. Allowed twice."""
        with self._turned:
            closed, self._closed = self._closed, True
            self._turned.notify_all()
        if not closed:
            self._connection.stop()

    def read(self, paths: Sequence[str], about: int = _BIG_BYTES) -> list[requests.Content | None]:
        """Return what nodes hold, None for those that are not there. Each is true for a moment since the last `sync`, not all
        for the same one. `about` is how many bytes each may well have; where that shows to be wrong, more or fewer are asked
        for at once. Raises Interrupted, Refused, StoreUnavailable, StoreRefused."""
        found: list[requests.Content | None] = []
        number = _at_once(about)
        while len(found) < len(paths):
            some = paths[len(found) : len(found) + number]
            contents = self._contents(some, self._ask(requests.Contents(some)))
            held = sum(len(each.body) for each in contents if each is not None)
            number = min(_MORE_READS * number, _at_once(held // len(some)))
            found += contents
        return found

    def synced(self, paths: Sequence[str], about: int = _BIG_BYTES) -> list[requests.Content | None]:
        """As `sync` and then `read`, in one round trip."""
        some = paths[: _at_once(about)]
        while True:
            number, began = self._arrived(None), time.monotonic()
            proven = self._proven(number)
            passing = requests.sync(self.address.root) if proven else requests.Multi([requests.check(self.address.root, _NEVER)])
            asked = [passing, requests.Contents(some)] if some else [passing]
            answers = [_Answer() for _ in asked]
            for request, answer in zip(asked, answers, strict=True):
                self._connection.send(request, answer, number)
            found = [self._answered(answer, number) for answer in answers]
            if not proven:
                self._proof = number, began
            if not proven or self._proven(number):
                return self._contents(some, found[1]) + self.read(paths[len(some) :], about) if some else []

    def _proven(self, number: int) -> bool:
        """Whether the server of a connection is surely not one that the others have voted out, without knowing it yet."""
        connection, at = self._proof
        return connection == number and time.monotonic() < at + _PROVEN_SECONDS

    def _contents(self, paths: Sequence[str], answer: Sequence[requests.Content | int]) -> list[requests.Content | None]:
        """Return what an answer says of the nodes that were asked for. Raises Refused, StoreRefused."""
        found: list[requests.Content | None] = []
        for path, each in zip(paths, answer, strict=True):
            if isinstance(each, requests.Content):
                found.append(each)
            elif each == requests.NO_NODE:
                found.append(None)
            else:
                raise self._refused(each, f"reading {path}")
        return found

    def children(self, path: str) -> list[str] | None:
        """Return the names below a node, None when it is not there. Raises as `read` does."""
        try:
            found: list[str] = self._ask(requests.children(path))
        except Refused as refused:
            if refused.code == requests.NO_NODE:
                return None
            raise
        return found

    def is_open(self, path: str) -> bool:
        """Whether anybody may write a node; not where it is not there. Raises as `read` does."""
        try:
            rules, _ = self._ask(requests.rules(path))
        except Refused as refused:
            if refused.code == requests.NO_NODE:
                return False
            raise
        return any(requests.lets_anybody_write(rule) for rule in rules)

    def sync(self) -> None:
        """After it, reads see all that was committed before. Raises Interrupted, StoreUnavailable, StoreRefused.

        A server answers a plain sync by itself, also one that leads and does not know yet that it was voted out. Where no
        majority has answered for a while, a write that changes nothing goes through it instead.
        """
        self.synced(())

    def commit(self, steps: Sequence[requests.Step]) -> list[requests.Result]:
        """Apply steps in order, all or nothing: applied if no result has a code. Durable on return.

        Raises Interrupted when it is unknown whether they were applied; TooLarge, StoreUnavailable and StoreRefused when they
        were not.
        """
        request = self._connection.multi(steps)
        if len(request) > requests.MOST_BYTES:
            why = f"{len(request)} bytes in one request to ZooKeeper, which takes {requests.MOST_BYTES}"
            raise errors.TooLarge(why, limit=requests.MOST_BYTES)
        number, began = self._arrived(None), time.monotonic()
        results: list[requests.Result] = self._sent(request, number)
        self._proof = number, began
        for result in results:
            if result.code in _DENIED:
                raise self._refused(result.code, "writing")
        return results

    def _ask(self, request: Any, seconds: float | None = None) -> Any:
        return self._sent(request, self._arrived(seconds))

    def _sent(self, request: Any, number: int) -> Any:
        answer = _Answer()
        self._connection.send(request, answer, number)
        return self._answered(answer, number)

    def _answered(self, answer: _Answer, number: int) -> Any:
        if not answer.came(self._connection.silence_seconds):
            self._connection.leave(number)
            self._interrupted(number)
            raise Interrupted("the server is silent")
        try:
            found = connection.understood(answer.value)
        except Interrupted:
            self._interrupted(number)
            raise
        if isinstance(found, Refused):
            raise self._refused(found.code, "reading", found)
        return found

    def _interrupted(self, number: int) -> None:
        with self._turned:
            self._left = max(self._left, number)

    def _there(self) -> bool:
        return self._connected and self._connection.number > self._left

    def _arrived(self, seconds: float | None) -> int:
        """Wait until the connection is up, and return its number. Raises StoreUnavailable, StoreRefused."""
        if seconds is None:
            seconds = self._patience_seconds or max(self.granted_seconds, _LEAST_PATIENCE_SECONDS)
        deadline = time.monotonic() + seconds
        with self._turned:
            while not (self._there() or self._closed or self._connection.refused) and time.monotonic() < deadline:
                self._turned.wait(min(seconds, _LOOK_SECONDS))
            if self._there() and not self._closed:
                return self._connection.number
        if self._closed:
            raise errors.StoreUnavailable(f"the connection to ZooKeeper at {self.address.places} is closed")
        if self._connection.refused:
            raise self._refused(requests.AUTH_FAILED, "the login")
        self._say(away=True)
        raise self._unavailable(seconds)

    def _told(self, link: connection.Link) -> None:
        """Called in a thread of the library's."""
        with self._turned:
            self._connected = link is connection.Link.CONNECTED
            if self._connected and self._session != self._connection.session:
                self._session = self._connection.session
                self._generation += 1
            self._turned.notify_all()
        if self._connected:
            self._say(away=False)

    def _say(self, *, away: bool) -> None:
        """Log once that the ensemble is out of reach, and once that it is back."""
        if away and not self._away and self._generation:
            _log.warning("zookeeper is out of reach", hosts=self.address.places, why=self._connection.trouble)
        elif self._away and not away:
            _log.info("zookeeper is back", hosts=self.address.places)
        self._away = away

    def _unavailable(self, seconds: float) -> errors.StoreUnavailable:
        trouble = self._connection.trouble
        why = f"ZooKeeper at {self.address.places} did not answer within {seconds:.3g} s{f' ({trouble})' if trouble else ''}"
        return errors.StoreUnavailable(f"{why}: look whether a majority of its servers runs; this goes on by itself")

    def _refused(self, code: int, what: str, refused: Refused | None = None) -> Exception:
        if code not in _DENIED:
            return refused or Refused(code, f"code {code}")
        if code == requests.LOGIN_REQUIRED and not self.address.user:
            return errors.StoreRefused(f"ZooKeeper at {self.address.places} wants a login: write USER:PASSWORD@ before the hosts")
        if code == requests.NO_AUTH:
            who = f"user {self.address.user!r}" if self.address.user else "somebody without a login"
            why = f"{who} has no right to {self.address.root} ({what})"
            return errors.StoreRefused(f"ZooKeeper: {why}: look at user and password in the URL, and at the access rules there")
        trouble = self._connection.trouble or f"{self.address.places} does not let in user {self.address.user!r}: look at the URL"
        return errors.StoreRefused(f"ZooKeeper: {trouble}")


def _at_once(about: int) -> int:
    """How many nodes of about so many bytes to ask for at once."""
    return max(1, min(_MOST_READS, _READ_BYTES // (about + _FACT_BYTES)))


class _Answer:
    """What the library's thread puts an answer into, and somebody waits for."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.value: object = None

    def set(self, value: object = None) -> None:
        if self._lock.locked():
            self.value = value
            with contextlib.suppress(RuntimeError):  # It came twice at once.
                self._lock.release()

    set_exception = set

    def came(self, seconds: float) -> bool:
        """Wait for it; in several turns, so that a process that was held up itself does not blame the server."""
        return any(self._lock.acquire(timeout=seconds / _TURNS) for _ in range(_TURNS))
