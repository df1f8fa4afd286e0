"""One connection to an ensemble, kept up by the library's threads for as long as it lives: found, logged in, encrypted.

It says CONNECTED, SUSPENDED and LOST, and after LOST begins a session of its own accord. Added to what the library does: the
granted session time is known; a silent server is left, and tried last; a request is sent on the connection that it was meant
for or never; a session is given up only when the ensemble has said that it is over. What is wrong is kept as `trouble`, in
a line. Nothing of the library's is logged, and none of its exceptions goes further than `understood`.
"""

from __future__ import annotations

import enum
import itertools
import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from kazoo import client, exceptions, retry
from kazoo.protocol import connection, serialization, states

from callboard.ensembles import address, logins, requests, sockets

_log = logging.getLogger("callboard.ensembles")
_log.setLevel(logging.CRITICAL + 1)
"""The library says every try to connect; what of it matters is said once, by those who need the connection."""
_LEAST_SILENCE_SECONDS: Final = 0.5
_RETRY: Final = {"max_tries": -1, "delay": 0.05, "max_jitter": 0.5, "max_delay": 0.5}
_RESTART_SECONDS: Final = 0.5
_RESTART_MOST_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 1.0
_DROPS: Final = 3
"""Connections cut while logging in, one after the other, until that counts as a refusal."""
DELETED: Final = states.EventType.DELETED
"""What a watcher is told when its node was deleted."""


class Link(enum.Enum):
    """What the library says of the connection. Its session is over when it says LOST, which it knows only when it is back."""

    CONNECTED = "CONNECTED"
    SUSPENDED = "SUSPENDED"
    LOST = "LOST"


class Interrupted(Exception):
    """Raised when a request's outcome is unknown: the connection was lost, or nothing came back in time."""


class Refused(Exception):
    """Raised when the server refused a request; `code` is ZooKeeper's."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(name)
        self.code = code
        self.name = name


class Answer(Protocol):
    """What the library's thread puts an answer or an exception into. It may do so twice; the first one counts."""

    def set(self, value: object = None) -> None: ...

    def set_exception(self, error: object) -> None: ...


class Connection:
    """One connection. `told` is called in a thread of the library's, in the order of the changes, and must not block.

    Raises InvalidSetting when files of the address cannot be used, or a package for its login is missing.
    """

    def __init__(self, of: address.Address, session_seconds: float, told: Callable[[Link], None]) -> None:
        self.address = of
        self.rule = requests.OWN if of.user else requests.OPEN
        """Who may do what with the nodes that are created here."""
        self._told = told
        self._client = _Client(of, session_seconds, sockets.Sockets(sockets.encryption(of)))
        self._handler = _Handler(self._client, of, session_seconds)
        self._client._connection = self._handler
        self._client.add_listener(self._changed)
        self._stopped = threading.Event()
        self._starting = threading.Lock()
        self._begun = 0
        """The session that was told of last, while it is not known to be over."""

    @property
    def granted_seconds(self) -> float:
        """What the session may be silent; what was asked for until the ensemble has answered."""
        return self._handler.granted_seconds

    @property
    def silence_seconds(self) -> float:
        """After so long without an answer a server is to be left."""
        return max(self.granted_seconds / 3, _LEAST_SILENCE_SECONDS)

    @property
    def number(self) -> int:
        """Which connection this is, counted from 1: grows with each that is made."""
        return self._handler.number

    @property
    def session(self) -> int:
        """The id of the session; 0 before the first one."""
        return self._client._session_id or 0

    @property
    def trouble(self) -> str:
        """What went wrong at the last try to connect, in a few words; empty while there is a connection."""
        return self._handler.trouble

    @property
    def refused(self) -> bool:
        """Whether the ensemble would not have us, as we are: the login was refused, or no server's TLS does. See `trouble`."""
        return self._handler.refused

    @property
    def server(self) -> str:
        """The server that it is, or was last, connected to."""
        return self._handler.last

    def start(self) -> None:
        """Begin to connect, and to call `told`."""
        self._client.start_async()

    def multi(self, steps: Sequence[requests.Step]) -> requests.Multi:
        """Return steps as one request; what they create gets this connection's rule."""
        return requests.Multi(steps, self.rule)

    def send(self, request: Any, answer: Answer, number: int = 0) -> None:
        """Send a request on the connection of a number or never; without one, on the present or the next."""
        self._client._call(request, _Bound(answer, number))

    def leave(self, number: int = 0) -> None:
        """Break the connection, if it is still that of `number`: the library takes another server, the session goes on."""
        if number in (0, self._handler.number):
            self._handler.cut()

    def stop(self) -> None:
        """End the session, if it can be said to the server within a second; free threads and sockets. Blocks. Allowed twice."""
        self._stopped.set()
        with self._starting:  # What was being started is stopped, nothing is started after this.
            self._client.remove_listener(self._changed)
        ending = threading.Thread(target=self._end, daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)
        if ending.is_alive():
            self._handler.cut()  # It is silent: the library's threads end when they see the connection broken.
            ending.join()

    def _end(self) -> None:
        try:
            self._client.stop()
            self._client.close()
        except Exception as error:  # Whatever it is: nobody uses this client any more.
            _log.debug("closing failed: %s", error)

    def _changed(self, state: str) -> None:
        link = Link(state)
        if self._client.client_state in (states.KeeperState.CLOSED, states.KeeperState.AUTH_FAILED):
            link = Link.SUSPENDED  # It is the library that has given up: the session may well go on.
            threading.Thread(target=self._restart, daemon=True).start()
        elif link is Link.CONNECTED and self._begun not in (0, self.session):
            self._told(Link.LOST)
        self._begun = {Link.CONNECTED: self.session, Link.SUSPENDED: self._begun, Link.LOST: 0}[link]
        self._told(link)

    def _restart(self) -> None:
        """Begin anew after the library has given up: a login was refused, or an answer made no sense to it."""
        pause = min(_RESTART_SECONDS * 2 ** min(self._handler.refusals, 8), _RESTART_MOST_SECONDS)
        self._stopped.wait(pause)
        with self._starting:
            if not self._stopped.is_set():
                self._client.start_async()


class _Bound:
    """An answer together with the connection that its request is for; what the library knows of a request."""

    __slots__ = ("number", "set", "set_exception")

    def __init__(self, answer: Answer, number: int) -> None:
        self.set = answer.set
        self.set_exception = answer.set_exception
        self.number = number


class _Client(client.KazooClient):  # type: ignore[misc]  # The library has no types.
    """The library's client. It gives a session up when it is over, not whenever it is confused: a request that was sent in one
    is refused by the ensemble once the session is over or is used at another server, and only then surely."""

    def __init__(self, of: address.Address, session_seconds: float, handler: sockets.Sockets) -> None:
        login = [("digest", f"{of.user}:{of.password}")] if of.auth == address.DIGEST else None
        super().__init__(
            hosts=of.places,
            timeout=session_seconds,
            handler=handler,
            auth_data=login,
            use_ssl=of.tls,
            connection_retry=retry.KazooRetry(**_RETRY),
            logger=_log,
        )

    def _reset(self) -> None:
        seen = getattr(self, "last_zxid", 0)
        super()._reset()
        self.last_zxid = seen  # No server that is behind what was seen, in the next session either.

    def _reset_session(self) -> None:
        if getattr(self, "_session_id", None) is None or self._state == states.KeeperState.EXPIRED_SESSION:
            super()._reset_session()


class _Handler(connection.ConnectionHandler):  # type: ignore[misc]
    """The library's connection loop."""

    def __init__(self, of: client.KazooClient, where: address.Address, session_seconds: float) -> None:
        sasl = where.auth == address.SASL
        if sasl:
            logins.need()
        super().__init__(of, of._conn_retry.copy(), logger=_log, sasl_options={} if sasl else None)
        self._where = where
        self.granted_seconds = session_seconds
        self.number = 0
        self.trouble = ""
        self.refused = False
        self.refusals = 0
        self.last = ""
        self._drops = 0
        self._tries = 0
        self._misfits: set[str] = set()

    def cut(self) -> None:
        """Break the connection at once, whatever the loop waits for; from any thread."""
        sockets.cut(self._socket)

    def _send_request(self, read_timeout: float, connect_timeout: float) -> None:
        try:
            _, answer = self.client._queue[0]
        except IndexError:
            pass
        else:
            if isinstance(answer, _Bound) and answer.number not in (0, self.number):
                self.client._queue.popleft()
                self._read_sock.recv(1)
                answer.set_exception(exceptions.ConnectionLoss())
                return
        super()._send_request(read_timeout, connect_timeout)

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        if not isinstance(request, serialization.Connect):
            return super()._invoke(timeout, request, xid)
        answer = super()._invoke(self._patience(), request, xid)
        if answer[0].time_out > 0:
            self.granted_seconds = answer[0].time_out / 1000
        return answer

    def _connect(self, host: str, hostip: str, port: int) -> Any:
        self.last = f"{hostip}:{port}"
        self.number += 1
        self._tries += 1
        self.handler.patience_seconds = self._patience()
        try:
            found = super()._connect(host, hostip, port)
        except exceptions.SessionExpiredError:
            raise
        except exceptions.AuthFailedError:
            self.refused = True
            self.refusals += 1
            raise
        except Exception as error:
            self.trouble = sockets.described(f"{host}:{port}", error)
            if sockets.misfit(error):
                self._misfits.add(self.last)
                self.refused = self.refused or len(self._misfits) >= len(self.client.hosts)
            raise connection.ConnectionDropped(self.trouble) from error
        self.trouble, self.refused = "", False
        self._misfits.clear()
        self.refusals = self._drops = self._tries = 0
        return found

    def _authenticate_with_sasl(self, host: str, timeout: float) -> None:
        asked = itertools.count(1)

        def ask(token: bytes) -> bytes | None:
            xid = next(asked)
            self._submit(serialization.SASL(token), timeout, xid)
            header, answer, offset = self._read_header(timeout)
            if header.err:
                raise exceptions.AuthFailedError()
            token, _ = serialization.SASL.deserialize(answer, offset)
            return token

        try:
            logins.exchange(self._where.user, self._where.password, ask)
        except exceptions.AuthFailedError:
            self.trouble = f"{self.last} refuses user {self._where.user!r} or the password: look at USER:PASSWORD@ in the URL"
            raise
        except logins.NoSasl:
            self.trouble = f"{self.last} does not log users in by SASL: drop auth=sasl, or set the servers up for it"
            raise exceptions.AuthFailedError() from None
        except connection.ConnectionDropped:
            self._drops += 1  # It may have died just now; some servers say in this way that they refuse.
            if self._drops < _DROPS:
                raise
            why = f"{self.last} cuts the connection during the login of user {self._where.user!r}"
            self.trouble = f"{why}: look at USER:PASSWORD@ in the URL"
            raise exceptions.AuthFailedError() from None

    def _patience(self) -> float:
        """How long a server has to let us in: a third of the session's time, more from try to try where all are slow."""
        rounds = 1 + self._tries // (2 * len(self.client.hosts) + 1)
        return min(max(self.granted_seconds / 3, _LEAST_SILENCE_SECONDS) * rounds, max(self.granted_seconds, 1.0))

    def _expand_client_hosts(self) -> list[Any]:
        found: list[Any] = super()._expand_client_hosts()
        if not found:
            self.trouble = f"no host of {self.client.hosts} is known to DNS"
        return sorted(found, key=lambda each: (f"{each[1]}:{each[2]}" == self.last, random.random()))


_LOST: Final = (exceptions.ConnectionLoss, exceptions.SessionExpiredError, exceptions.SessionMovedError)


def understood(answer: Any) -> Any:
    """Return an answer, where the server refused as a Refused. Raises Interrupted when there is none."""
    if not isinstance(answer, Exception):
        return answer
    if isinstance(answer, exceptions.ZookeeperError) and not isinstance(answer, _LOST):
        return Refused(answer.code, type(answer).__name__)
    raise Interrupted(type(answer).__name__)
