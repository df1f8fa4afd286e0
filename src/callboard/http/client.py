"""Asking one of several gateways: which one, when to try again and when to give up. Knows no routes.

A name may stand for several addresses; each address of each URL is an endpoint of its own. One endpoint is kept while it
answers well. After a failure the next one is asked at once; only when all have failed there are pauses, longer each time
and spread by chance. All retries of one client together are paced by a budget, so that a crowd of clients does not
trample gateways that have too much to do. Where nobody listens a try is nobody's work, and takes nothing of the budget:
requests that waited for gateways to come back are not kept waiting once they are.
"""

from __future__ import annotations

import asyncio
import functools
import io
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
import yarl

from callboard import errors
from callboard.http import shapes
from callboard.kit import backoff

CONNECT_SECONDS: Final = 3.0
KEEP_ALIVE_SECONDS: Final = 30.0
"""How long an idle connection is kept; shorter than servers keep theirs, so that a request seldom meets a closing one."""
REQUESTS: Final = 100
"""Requests of one client at the same time; further ones wait for their turn, which does not count towards their time."""
WAITING_REQUESTS: Final = 500
"""The same for requests that ask a gateway to wait: they must not keep others from their turn."""
SILENT_SECONDS: Final = 3
"""After so long without a sign of life from a gateway's machine its connections are given up; its kernel gives them, however
long the gateway itself takes."""
AT_ONCE_BYTES: Final = 48 << 10
"""What a kernel takes in while its gateway reads nothing. A bigger body may find no room there for as long as that lasts, which
looks like silence: it has only its attempt's patience to go by."""
RESOLVE_SECONDS: Final = 30.0
"""How long the addresses of a name are believed while they answer."""
SENT_AT_ONCE: Final = 1 << 20
FIRST_PAUSE_SECONDS: Final = 0.05
MOST_PAUSE_SECONDS: Final = 2.0
BUDGET_BURST: Final = 100.0
BUDGET_PER_SECOND: Final = 10.0
BUDGET_PER_SUCCESS: Final = 0.2
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a name and a port to addresses."""
AddrInfo = tuple[int, int, int, str, Any]
"""As `getaddrinfo` gives it: family, type, protocol, and what needs none of them."""
_AWAY: Final = frozenset({429, 502, 503, 504})
_KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 1, socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: SILENT_SECONDS - 1}
_WATCH: Final = {**_KEEPALIVE, socket.TCP_USER_TIMEOUT: SILENT_SECONDS * 1000}


class Endpoint:
    """One address of one URL."""

    def __init__(self, scheme: str, host: str, port: int, path: str, address: str) -> None:
        at = f"[{address}]" if ":" in address else address
        self.base = f"{scheme}://{at}:{port}{path}"
        self.host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.server_name = host if scheme == "https" else None
        self.rests_until = 0.0
        self.backoff = backoff.Backoff(FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS)


class Endpoints:
    """The endpoints of some URLs, the best one first."""

    def __init__(self, urls: Sequence[str], resolve: Resolve) -> None:
        self._resolve_name = resolve
        self._places = [_place(url) for url in urls]
        if not self._places:
            raise errors.InvalidSetting("there is no gateway to ask: give at least one URL, like http://127.0.0.1:8321")
        self._known: dict[tuple[str, str, int, str], Endpoint] = {}
        self._best: Endpoint | None = None
        self._resolved_at: float | None = None

    async def pick(self, tried: Iterable[Endpoint]) -> Endpoint | None:
        """Return the endpoint to ask next: not one of `tried`, rather one that does not rest. None when all were tried."""
        await self._resolve()
        left = [each for each in self._known.values() if each not in tried]
        now = time.monotonic()
        return min(left, key=lambda each: (max(each.rests_until - now, 0), each is not self._best), default=None)

    def succeeded(self, endpoint: Endpoint) -> None:
        """Note that an endpoint answers well: it is kept."""
        self._best = endpoint
        endpoint.rests_until = 0.0
        endpoint.backoff.succeeded()

    def failed(self, endpoint: Endpoint) -> None:
        """Note that an endpoint failed: the others go first for a while."""
        endpoint.rests_until = time.monotonic() + endpoint.backoff.failed()
        if endpoint is self._best:
            self._best = None

    def doubt(self) -> None:
        """Ask for the addresses anew the next time: all that are known have failed."""
        self._resolved_at = None

    async def _resolve(self) -> None:
        if self._resolved_at is not None and time.monotonic() - self._resolved_at < RESOLVE_SECONDS:
            return
        found: dict[tuple[str, str, int, str], Endpoint] = {}
        for scheme, host, port, path in self._places:
            # A name that cannot be resolved for a moment keeps the addresses it had.
            known = [key[3] for key in self._known if key[:3] == (scheme + path, host, port)]
            for address in await self._resolve_name(host, port) or known:
                key = scheme + path, host, port, address
                found[key] = self._known.get(key) or Endpoint(scheme, host, port, path, address)
        order = list(found)
        random.shuffle(order)  # Clients spread over the gateways.
        self._known = {key: found[key] for key in order}
        self._resolved_at = time.monotonic()


class Budget:
    """How many retries a client may make of what gateways had work with: some at once, then a few each second and a share of
    what succeeds."""

    def __init__(self) -> None:
        self._left = BUDGET_BURST
        self._at = time.monotonic()

    def succeeded(self) -> None:
        """Earn a share of a retry."""
        self._left = min(BUDGET_BURST, self._left + BUDGET_PER_SUCCESS)

    def take(self) -> float:
        """Take one retry; return the seconds to wait before it may be made."""
        now = time.monotonic()
        self._left = min(BUDGET_BURST, self._left + (now - self._at) * BUDGET_PER_SECOND)
        self._at = now
        self._left -= 1
        return max(0.0, -self._left / BUDGET_PER_SECOND)


class Gateways:
    """Sends requests to gateways that serve the same store. On one event loop; requests may run at the same time.

    `timeout` bounds each request as a whole in seconds, `patience` each of its attempts. `retries` counts the attempts beyond the
    first one of every request.
    """

    def __init__(
        self,
        urls: Sequence[str],
        headers: Mapping[str, str],
        resolve: Resolve | None = None,
        *,
        timeout: float = 60.0,
        patience: float = 10.0,
    ) -> None:
        self._endpoints = Endpoints(urls, resolve or addresses)
        self._headers = dict(headers)
        self._timeout = timeout
        self._patience = patience
        self._budget = Budget()
        self._turns = asyncio.Semaphore(REQUESTS)
        self._waiting = asyncio.Semaphore(WAITING_REQUESTS)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """For what is big, and for all else: their connections are watched differently."""
        self.retries = 0

    async def close(self) -> None:
        """Close all connections. Allowed twice."""
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()

    async def ask(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]] = (),
        *,
        body: bytes | None = None,
        repeatable: bool = True,
        waits: float = 0.0,
    ) -> bytes:
        """Return the body of a good answer (2xx).

        `waits` is added to the bounds: the time that the gateway is asked to wait. A request that is not `repeatable` is only
        sent again when the failed attempt was surely not carried out. Raises the error that a gateway's problem document names,
        and Unreachable when no gateway gave an answer in time.
        """
        attempt = _Attempt(method, path + _query(query), body, repeatable, self._patience + waits)
        async with self._waiting if waits else self._turns:
            return await self._ask(attempt, time.monotonic() + self._timeout + waits)

    async def _ask(self, attempt: _Attempt, end: float) -> bytes:
        pauses = backoff.Backoff(FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS)
        tried: list[Endpoint] = []
        answered: errors.CallboardError | None = None
        while True:
            failure = await self._try(attempt, tried, end)
            if isinstance(failure, bytes):
                return failure
            if not isinstance(failure.error, errors.Unreachable):
                answered = failure.error
            left = end - time.monotonic()
            pause = self._budget.take() if failure.arrived else 0.0
            if await self._endpoints.pick(tried) is None:
                tried.clear()
                self._endpoints.doubt()
                pause = max(pause, pauses.failed(), failure.retry_after)
            if pause >= left or not (attempt.repeatable or failure.unsent):
                raise answered or failure.error  # What a gateway said tells more than that time is over.
            self.retries += 1
            await asyncio.sleep(pause)

    async def _try(self, attempt: _Attempt, tried: list[Endpoint], end: float) -> bytes | _Failure:
        """Make one attempt at the next endpoint: the answer's body, or why it may be tried again; raises what is final."""
        endpoint = await self._endpoints.pick(tried)
        if endpoint is None:
            return _Failure(errors.Unreachable("no gateway's name has an address: check the URLs"), unsent=True, arrived=False)
        tried.append(endpoint)
        try:
            async with asyncio.timeout(max(min(attempt.patience, end - time.monotonic()), 0.001)):
                status, headers, body = await self._send(endpoint, attempt)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._endpoints.failed(endpoint)
            unsent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
            arrived = not unsent or isinstance(error, aiohttp.ClientSSLError)  # Greeting somebody with TLS is work, too.
            return _Failure(_unreachable(endpoint, error), unsent=unsent, arrived=arrived)
        if status in _AWAY:
            said = problem(endpoint.base, status, body)
            if "ran" in said.data:  # Of a call: the gateway is well, and has tried as long as it was given.
                self._endpoints.succeeded(endpoint)
                raise said
            self._endpoints.failed(endpoint)
            return _Failure(said, not said.data.get("unknown", status != 503), _seconds(headers.get("retry-after")))
        self._endpoints.succeeded(endpoint)
        self._budget.succeeded()
        if status >= 300:
            raise problem(endpoint.base, status, body)
        return body

    async def _send(self, endpoint: Endpoint, attempt: _Attempt) -> tuple[int, Mapping[str, str], bytes]:
        big = attempt.body is not None and len(attempt.body) > AT_ONCE_BYTES
        session = self._sessions.get(big)
        if session is None:
            session = self._sessions[big] = _session(_KEEPALIVE if big else _WATCH)
        async with session.request(
            attempt.method,
            yarl.URL(endpoint.base + attempt.path, encoded=True),
            data=_payload(attempt.body),
            headers=self._headers | {"Host": endpoint.host},
            server_hostname=endpoint.server_name,
            allow_redirects=False,
        ) as response:
            return response.status, response.headers, await response.read()


class _Attempt(msgspec.Struct, frozen=True):
    method: str
    path: str
    body: bytes | None
    repeatable: bool
    patience: float


class _Failure(msgspec.Struct, frozen=True):
    error: errors.CallboardError
    unsent: bool
    """Surely not carried out."""
    retry_after: float = 0.0
    arrived: bool = True
    """Somebody had work with it: trying again is more of it."""


def problem(where: str, status: int, body: bytes) -> errors.CallboardError:
    """Return the error that a problem document tells of, as an object of the class with its code."""
    try:
        members = msgspec.json.decode(body, type=dict[str, Any])
        found = msgspec.convert(members, shapes.Problem)
    except msgspec.MsgspecError:
        found, members = shapes.Problem(), {}
    data = {name: value for name, value in members.items() if name not in shapes.Problem.__struct_fields__}
    if not found.code:
        cls = errors.Unreachable if status in _AWAY else errors.CallboardError
        return cls(f"{where} answered {status}, and not as a gateway does: check the URL", status=status)
    data["status"] = status
    if "ran" in data:
        return errors.restored(found.code, found.detail, found.retryable, data)
    return named(found.code)(found.detail, **data)


def named(code: str) -> type[errors.CallboardError]:
    """Return the class of errors with a code, the base of all for one that this version does not know."""
    return _BY_CODE.get(code, errors.CallboardError)


def _classes(cls: type[errors.CallboardError]) -> Iterable[type[errors.CallboardError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _classes(below)


_BY_CODE = {cls.code: cls for cls in _classes(errors.CallboardError) if cls.__module__ == errors.__name__}


def _session(watch: Mapping[int, int]) -> aiohttp.ClientSession:
    made = functools.partial(_watched, watch)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, socket_factory=made),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
    )


def _watched(watch: Mapping[int, int], info: AddrInfo) -> socket.socket:
    """Return a socket that notices when the machine at the other end is gone: without a word, as when it loses its power."""
    made = socket.socket(*info[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in watch.items():
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Return a body as it is sent: a big one in pieces, so that writing it does not hold the loop up."""
    return body if body is None or len(body) <= SENT_AT_ONCE else io.BytesIO(body)


def _place(url: str) -> tuple[str, str, int, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        host = parts.hostname or ""
    except (ValueError, KeyError):
        host, port = "", 0
    if not host or parts.query or parts.fragment or parts.username:
        raise errors.InvalidSetting(f"{url!r:.100} is not a gateway's URL: write it like http://127.0.0.1:8321")
    return parts.scheme, host, port, parts.path.rstrip("/")


async def addresses(host: str, port: int) -> list[str]:
    """Return the addresses that a name stands for, none when it cannot be resolved now."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _query(pairs: Iterable[tuple[str, str]]) -> str:
    return str(yarl.URL.build(query=list(pairs)))


def _unreachable(endpoint: Endpoint, error: Exception) -> errors.Unreachable:
    why = "it did not answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return errors.Unreachable(
        f"no gateway answers; the last one asked was {endpoint.base}: {why:.200}; check that it runs, and the URL"
    )


def _seconds(text: str | None) -> float:
    return min(float(text), MOST_PAUSE_SECONDS) if text is not None and text.isdigit() else 0.0
