"""Declaring work: `Callboard`, its `@app.job` and `@app.service`. No globals: an app knows its own jobs and services only."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from callboard import errors, settings
from callboard.app import connection as connections
from callboard.app import handler, shape, sight
from callboard.app import services as named
from callboard.cluster import view as views
from callboard.cluster import watching
from callboard.http import shapes
from callboard.jobs import kinds, model, submission
from callboard.jobs import queue as queues
from callboard.kit import grammar

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_MOST_SECONDS = 30 * 86_400
_CONNECTION = "connection"
_OPTIONS = frozenset(submission.Submission.__struct_fields__) - {"kind", "args"}


class Callboard:
    """An application: named jobs and services, and the connection through which they are used.

    Declare at import time; `connect` where work is submitted or called for. One connection at a time, used on one event loop.
    In a node's own handlers and services no connection is needed.
    """

    def __init__(self, name: str) -> None:
        """`name` begins the names of its kinds (`name.function`). Raises InvalidName."""
        self.title = model.check_kind(name)
        self._handlers: dict[str, handler.Handler] = {}
        self._kinds: dict[str, kinds.Kind] = {}
        self._services: dict[str, named.Declared] = {}
        self._connection: connections.Connection | None = None
        self._fallback: connections.Connection | None = None
        self._reach: named.Reach | None = None
        self._sight: sight.Sight | None = None

    @property
    def kinds(self) -> Mapping[str, kinds.Kind]:
        """Its declared kinds by name: what submission checks against."""
        return MappingProxyType(self._kinds)

    @property
    def handlers(self) -> Mapping[str, handler.Handler]:
        """Its handlers by the name of their kind: what a worker runs."""
        return MappingProxyType(self._handlers)

    @property
    def services(self) -> Mapping[str, named.Declared]:
        """Its declared services by name: what a service node hosts."""
        return MappingProxyType(self._services)

    @overload
    def job(self, function: Callable[P, R], /) -> JobHandle[P, R]: ...

    @overload
    def job(
        self,
        *,
        name: str | None = None,
        queue: str = model.DEFAULT_QUEUE,
        lane: str = "long",
        priority: int = model.DEFAULT_PRIORITY,
        attempts: int = 3,
        backoff: float = 1.0,
        timeout: float | None = None,
        tags: Sequence[str] = (),
        versions: Sequence[int] = (1,),
        runs_in: handler.RunsIn | None = None,
    ) -> Callable[[Callable[P, R]], JobHandle[P, R]]: ...

    def job(self, function: Any = None, **options: Any) -> Any:
        """Declare a function as the handler of a kind; use it bare or with options.

        The function takes named arguments, and a `Context` first if it wants one; annotations are checked at submission and
        before it runs. Options: `name` of the kind (default `app.function`), `queue`, `lane` ("short" or "long"), `priority`
        (0 first, 9 last), `attempts` in all, `backoff` in seconds (doubles), `timeout` in seconds for one attempt, `tags`,
        payload `versions` understood (the last is submitted), `runs_in` ("loop" for async functions, "thread" for others,
        "process" for what must be killable or hogs the CPU). Raises InvalidInput, at import, for a declaration that cannot work.
        """

        def declare(given: Callable[P, R]) -> JobHandle[P, R]:
            if not inspect.isfunction(given):
                raise errors.InvalidInput(f"{given!r:.80} is not a function: @app.job goes on top of a function")
            made = _handler(f"{self.title}.{given.__name__}", given, **options)
            if made.kind.name in self._handlers:
                raise errors.InvalidInput(f"kind {made.kind.name} is declared twice in {self.title}: name one of them otherwise")
            self._handlers[made.kind.name] = made
            self._kinds[made.kind.name] = made.kind
            return JobHandle(self, given, made, {})

        return declare if function is None else declare(function)

    def service(self, name: str, *, active: Literal["one", "all"] = "one", **unknown: Any) -> Callable[[C], C]:
        """Declare a class as a named service: `@app.service("billing", active="one")`.

        With `active="one"` one instance answers for each domain (`billing@acme`), under an epoch that grows whenever another one
        takes over; with `"all"` every instance answers. Exposed are the methods marked with `@method`, and those whose first
        parameter after self is annotated `Call`; they are async, or run in a thread. The class is made without arguments; its
        `start()` and `stop()`, if it has them, frame its service. Raises InvalidInput, at import, for what cannot work.
        """
        if not isinstance(name, str):
            raise errors.InvalidInput(f"@app.service on top of {name!r:.80}: give it a name, as @app.service('billing')")
        if unknown:
            raise errors.InvalidInput(f"service {name} has no option {next(iter(unknown))!r:.40}: it takes active")

        def declare(given: C) -> C:
            made = named.Declared(name, active, given)
            if made.label in self._services:
                raise errors.InvalidInput(f"service {name} is declared twice in {self.title}: name one of them otherwise")
            self._services[made.label] = made
            return given

        return declare

    async def call(self, name: str, method: str, /, **args: Any) -> Any:
        """Call a method of a named service; return what it returned, within 10 seconds (`name` takes others).

        The name is `billing`, `billing@acme` for another domain than `main`, or an exact instance `cache/INCARNATION`. Works in
        the handlers and services of a node, and inside `async with app.connect("http://...")`. Arguments are checked by the
        service; before that here, when this app declares it, and then the result is as annotated. Raises what the method raised
        (exceptions that are no CallboardErrors as ServiceError), InvalidArguments, UnknownName, DeadlineExceeded and other
        CallErrors, whose `data["ran"]` says whether the method was begun.
        """
        return await self._call(name, method, args, named.CALL_SECONDS)

    def name(self, name: str, *, timeout: float = named.CALL_SECONDS) -> named.Name:
        """Return a name to call methods of, each within `timeout` seconds: `await app.name("billing@acme").charge(amount=5)`.

        Nothing is looked up before a call. Raises InvalidName.
        """
        return named.Name(self._call, name, timeout)

    async def broadcast(
        self,
        target: str,
        method: str,
        args: Mapping[str, Any] | None = None,
        *,
        mode: Literal["all", "first", "elect"] = "all",
        timeout: float = named.CALL_SECONDS,
    ) -> list[shapes.Outcome]:
        """Call every instance of `service:NAME` or `role:NAME` at once; return an outcome for each, within `timeout` seconds.

        `mode`: gather all answers, take the first good one (the others are cancelled), or elect: the recipients choose who acts.
        Works where `call` does. Raises UnknownName when there are no recipients, InvalidName, InvalidInput.
        """
        return await named.broadcast(self._callers(), target, method, args or {}, mode, timeout)

    async def _call(self, name: str, method: str, args: Mapping[str, Any], timeout: float) -> Any:
        return await named.call(self._callers(), self._services, name, method, args, timeout)

    def _callers(self) -> named.Way:
        if self._connection is not None and (way := self._connection.calls) is not None:
            return way
        if self._reach is None:
            raise errors.InvalidInput(
                f"app {self.title} cannot make calls here: use 'async with app.connect(\"http://...\")', or call from a handler"
                " or service of a node that runs in its loop or threads, not in a process of its own"
            )
        return self._reach

    def call_through(self, caller: named.Caller | None) -> None:
        """Make calls through this while nobody has connected to gateways: a node's way, given on its loop. None ends it."""
        self._reach = None if caller is None else named.Reach(caller, asyncio.get_running_loop())

    @property
    def view(self) -> views.View:
        """The cluster view as this node has it now: `app.view.available("worker")`, `app.view.ring("worker").pick(key)`.

        A snapshot, which never changes; `stale` says that nobody tells of changes at present. In the handlers and services of a
        node, in its loop or threads. Raises InvalidInput elsewhere: there is `Client.view`.
        """
        return self._seen().view

    def watch(self) -> AsyncGenerator[views.Change, None]:
        """Yield what there is at the site now, then each change: `async for change in app.watch()`.

        Servers, nodes and offices that came, changed or are gone, and the new view. Changes that come faster than they are taken
        become one; none is missed. Where `view` works; it ends when you leave the loop. Raises InvalidInput.
        """
        return self._seen().changes()

    def _seen(self) -> sight.Sight:
        if self._sight is None:
            raise errors.InvalidInput(
                f"app {self.title} sees no cluster here: ask in a handler or service of a node that runs in its loop or threads,"
                " or a gateway by Client.view"
            )
        return self._sight

    def look_through(self, watched: watching.Watched | None) -> None:
        """See the cluster through this: a node's view, given on its loop. None ends it."""
        self._sight = None if watched is None else sight.Sight(watched, asyncio.get_running_loop())

    def connect(
        self, to: str | queues.Queue | None = None, *, key: str | None = None, domain: str | None = None
    ) -> connections.Connection:
        """Return a connection for `async with`: inside, the app's jobs can be submitted and awaited; and, where it leads to
        gateways, named services called.

        `to` is a store (`sqlite:///...`), gateways (`http://...`, several with commas between; `key` is then an API key, or
        $CALLBOARD_KEY), an open Queue, or None for $CALLBOARD_URL, else the store that the settings here name. Jobs go to
        `domain`, and calls mean it, unless they say otherwise. Raises InvalidSetting; what cannot be reached is told on entry.
        """
        return connections.Connection(self, _way(to, key, domain), domain)

    @property
    def connection(self) -> connections.Connection:
        """The open connection, or the worker's whose handlers run here. Raises InvalidInput when there is none."""
        found = self._connection or self._fallback
        if found is None:
            raise errors.InvalidInput(f"app {self.title} is not connected: use 'async with app.connect(URL):' around it")
        return found

    @property
    def _joined(self) -> connections.Joined:
        """How jobs get into transactions of a user's: as members of the app's connection, if it has one."""
        return connections.Joined(self._connection or self._fallback, lambda: self.connection)

    def attach(self, made: connections.Connection) -> None:
        """Submit through this connection from now on. Raises InvalidInput when there is another."""
        if self._connection is not None:
            raise errors.InvalidInput(f"app {self.title} is connected already: leave the other 'async with' first")
        self._connection = made

    def detach(self, made: connections.Connection) -> None:
        """Forget the connection, if it is the current one."""
        if self._connection is made:
            self._connection = None

    def fall_back(self, made: connections.Connection | None) -> None:
        """Submit through this while nobody has connected: a worker's way, so that its handlers can submit jobs, too."""
        self._fallback = made


class JobHandle(Generic[P, R]):
    """A declared job: call it and the function runs here and now; submit it and a worker runs it."""

    __name__: str

    def __init__(self, app: Callboard, function: Callable[P, R], declared: handler.Handler, options: Mapping[str, Any]) -> None:
        self.app = app
        self.handler = declared
        self._options = dict(options)
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        function: Callable[P, R] = self.handler.function
        return function(*args, **kwargs)

    @property
    def kind(self) -> kinds.Kind:
        return self.handler.kind

    def options(self, **options: Any) -> JobHandle[P, R]:
        """Return this job with options of one submission, those of `POST /v1/jobs`, such as `delay`, `priority`, `id`, `tags`."""
        for name in options:
            if name not in _OPTIONS:
                raise errors.InvalidInput(f"{self.kind.name} has no option {name!r}: it takes {', '.join(sorted(_OPTIONS))}")
        return JobHandle(self.app, self.handler.function, self.handler, {**self._options, **options})

    async def submit(self, *, connection: Any = None, **args: Any) -> connections.Submitted:
        """Submit one job; when this returns, it is durable.

        With `connection`, your own SQLAlchemy connection or session (async or not) to the store's database, the job becomes part
        of its transaction: there if you commit, never there if you do not. The app need not be connected for that.

        Raises InvalidArguments and other InvalidInput (nothing is stored), IdConflict, IdExpired, StoreError or Unreachable; with
        `connection` also Unsupported (SQLite), StoreForeign (the database is no store) and what SQLAlchemy raises.
        """
        return (await self._submit(connection, [args]))[0]

    async def submit_many(self, args: Sequence[Mapping[str, Any]], *, connection: Any = None) -> list[connections.Submitted]:
        """Submit one job for each mapping of arguments: all are checked first, then stored together; results in their order.

        With `connection` as `submit`, all or none. Raises as `submit`, `data["index"]` naming the first that was refused.
        """
        return await self._submit(connection, args)

    async def _submit(self, connection: Any, args: Sequence[Mapping[str, Any]]) -> list[connections.Submitted]:
        given = [self.submission(each) for each in args]
        if connection is None:
            return await self.app.connection.submit(self.handler, given)
        return await self.app._joined.submit(connection, self.handler, given)

    def submission(self, args: Mapping[str, Any]) -> submission.Submission:
        """Return what would be submitted for these arguments, unchecked."""
        options = dict(self._options)
        if isinstance(options.get("tags"), list):
            options["tags"] = tuple(options["tags"])
        return submission.Submission(kind=self.kind.name, args=dict(args), **options)


def _way(to: str | queues.Queue | None, key: str | None, domain: str | None) -> connections.Way:
    if to is None:
        to = os.environ.get("CALLBOARD_URL") or _store_here()
    if isinstance(to, str) and to.startswith(("http://", "https://")):
        from callboard.app import gateways  # Here, so that a worker, whose way is a store, loads no HTTP client.

        return gateways.GatewaysWay(to, key or os.environ.get("CALLBOARD_KEY"), domain)
    return connections.StoreWay(to)


def _store_here() -> str:
    file = Path(settings.FILE)
    return settings.load(file if file.exists() else None, os.environ).store_url


def _handler(
    default: str, function: Callable[..., Any], *, name: str | None = None, runs_in: Any = None, **options: Any
) -> handler.Handler:
    name = model.check_kind(default if name is None else name)
    arguments = shape.Arguments(name, function)
    if _CONNECTION in arguments.names:
        raise errors.InvalidInput(f"{name} takes an argument {_CONNECTION!r}, which submit keeps for itself: rename it")
    return handler.Handler(_kind(name, arguments.encode, **options), function, runs_in, arguments)


def _kind(
    name: str,
    check: Callable[[dict[str, Any]], bytes],
    *,
    queue: str = model.DEFAULT_QUEUE,
    lane: str = "long",
    priority: int = model.DEFAULT_PRIORITY,
    attempts: int = 3,
    backoff: float = 1.0,
    timeout: float | None = None,
    tags: Sequence[str] = (),
    versions: Sequence[int] = (1,),
) -> kinds.Kind:
    """A kind of checked options: what is wrong with a declaration shows where it is declared, not at its first job."""
    if lane not in ("short", "long"):
        raise errors.InvalidInput(f"{name}: lane {lane!r:.40} is unknown: 'short' or 'long'")
    if timeout is not None:
        _in_range(name, "timeout", timeout, 0.001, _MOST_SECONDS)
    for version in versions:
        _in_range(name, "versions", version, 1, 1_000_000)
    if not versions:
        raise errors.InvalidInput(f"{name}: versions is empty: name the payload versions that it understands")
    return kinds.Kind(
        name=name,
        queue=grammar.check_label(queue, "queue"),
        lane=model.Lane.SHORT if lane == "short" else model.Lane.LONG,
        priority=int(_in_range(name, "priority", priority, 0, 9)),
        attempts=int(_in_range(name, "attempts", attempts, 1, model.MAX_ATTEMPTS)),
        backoff=_in_range(name, "backoff", backoff, 0, 3_600),
        timeout=timeout,
        tags=model.check_tags(tuple(tags)),
        versions=tuple(versions),
        check=check,
    )


def _in_range(name: str, option: str, value: float, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise errors.InvalidInput(f"{name}: {option} {value!r:.40} is out of range: {low} to {high}")
    return value
