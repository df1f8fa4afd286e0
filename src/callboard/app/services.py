"""Declared services, and the ways to call them: what `@app.service` makes of a class, and what `app.call` needs.

Which instance is active, and where, is the resolver's affair (`names`), reached through a `Caller` that a node gives to its app.
`roles.service` hosts what is declared here.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from callboard import errors
from callboard.app import exposure, shape
from callboard.http import shapes
from callboard.kit import codec, grammar
from callboard.names import model

T = TypeVar("T")

CALL_SECONDS: Final = 10.0
"""How long a call may take when nothing is said."""
RESERVED: Final = frozenset(
    {"node", "view", "gateway", "worker", "registry", "bridge", "relay", "agent", "site-controller", "domain-controller"}
)
"""Labels of Callboard's own roles."""
_ACTIVE: Final = ("one", "all")
_MODES: Final = ("all", "first", "elect")


class Outcome(Protocol):
    """What came of a broadcast at one recipient; see `rpc.broadcast`."""

    @property
    def member(self) -> str: ...

    @property
    def status(self) -> str: ...

    @property
    def result(self) -> bytes | None: ...

    @property
    def code(self) -> str: ...

    @property
    def message(self) -> str: ...


class Caller(Protocol):
    """Who finds names and calls them: a node's `names.resolver.Resolver`. On its own event loop; errors are CallboardErrors."""

    async def call(
        self, name: str, method: str, args: bytes, *, timeout: float = CALL_SECONDS, domain: str = grammar.DEFAULT_DOMAIN
    ) -> bytes:
        """Return the encoded result; `domain` is meant where the name has none."""

    async def broadcast(
        self, target: str, method: str, args: bytes, *, mode: Any = "all", timeout: float = CALL_SECONDS
    ) -> Sequence[Any]:
        """Return an `Outcome` for each recipient."""


class Declared:
    """A service of an app: its class, and what that exposes. Immutable."""

    __slots__ = ("active", "cls", "label", "methods", "offer")

    def __init__(self, label: str, active: Any, cls: Any) -> None:
        """Read the class. Raises InvalidInput, with the mend, for one that cannot be a service."""
        self.label = grammar.check_label(label, "service")
        self.cls = _checked(label, cls)
        self.active: model.Active = active
        if label in RESERVED:
            raise errors.InvalidInput(f"service {label}: the name is one of Callboard's own roles, choose another")
        if active not in _ACTIVE:
            raise errors.InvalidInput(f"service {label}: active {active!r:.40} is unknown: 'one' or 'all'")
        self.methods: Mapping[str, exposure.Exposed] = exposure.exposed(cls, label)
        if not self.methods:
            raise errors.InvalidInput(f"service {label} exposes nothing: mark its methods with @method")
        self.offer = exposure.offer(label, "service", self.active, self.methods)


def _checked(label: str, cls: Any) -> type:
    if not inspect.isclass(cls):
        raise errors.InvalidInput(f"{cls!r:.80} is not a class: @app.service({label!r}) goes on top of a class")
    try:
        inspect.signature(cls).bind()
    except TypeError:
        raise errors.InvalidInput(
            f"service {label}: {cls.__name__} is made without arguments, give its parameters defaults or read them in start()"
        ) from None
    except ValueError:
        pass  # Of a class in C, nobody knows.
    if inspect.isabstract(cls):
        raise errors.InvalidInput(f"service {label}: {cls.__name__} is abstract, write the methods that it lacks")
    return cls


class Reach:
    """A caller, usable from every loop of the process: what runs elsewhere hops to the caller's own loop."""

    def __init__(self, caller: Caller, loop: asyncio.AbstractEventLoop) -> None:
        self._caller = caller
        self._loop = loop

    async def call(self, name: str, method: str, args: bytes, timeout: float) -> bytes:
        return await self._here(self._caller.call(name, method, args, timeout=timeout))

    async def broadcast(self, target: str, method: str, args: bytes, mode: str, timeout: float) -> list[shapes.Outcome]:
        found = await self._here(self._caller.broadcast(target, method, args, mode=mode, timeout=timeout))
        return [outcome(each) for each in found]

    async def _here(self, call: Coroutine[Any, Any, T]) -> T:
        if asyncio.get_running_loop() is self._loop:
            return await call
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            call.close()
            raise errors.Unreachable("the node that would make the call has ended", ran="no") from None


@runtime_checkable
class Way(Protocol):
    """How calls leave a process: a `Reach`, or gateways over HTTP."""

    async def call(self, name: str, method: str, args: bytes, timeout: float) -> bytes: ...

    async def broadcast(self, target: str, method: str, args: bytes, mode: str, timeout: float) -> list[shapes.Outcome]: ...


def outcome(of: Outcome) -> shapes.Outcome:
    """Return an outcome with its result decoded."""
    plain = codec.unpack(of.result) if of.result else None
    return shapes.Outcome(of.member, of.status, plain, of.code or None, of.message or None)


async def call(
    way: Way, declared: Mapping[str, Declared], name: str, method: str, args: Mapping[str, Any], timeout: float
) -> Any:
    """Make a call. Where the service is declared here, its arguments are checked first, and the result is as annotated.

    What the method raised is of the service's own class where this process knows one with its code.
    """
    try:
        return await _call(way, declared, name, method, args, timeout)
    except errors.ServiceError as error:
        if (known := _known(error)) is not None:
            raise known from None
        raise


async def _call(
    way: Way, declared: Mapping[str, Declared], name: str, method: str, args: Mapping[str, Any], timeout: float
) -> Any:
    _check_seconds(timeout)
    service = declared.get(name.partition("@")[0].partition("/")[0]) if isinstance(name, str) else None
    known = service.methods.get(method) if service is not None else None
    if known is None:
        result = await way.call(name, method, encoded(args, method), timeout)
        return codec.unpack(result) if result else None
    result = await way.call(name, method, known.encode_arguments(args), timeout)
    try:
        return known.result.decode(result)
    except errors.InvalidInput as error:
        raise errors.InvalidResult(f"{known.title} answered otherwise than declared here: {error.message}", ran="yes") from None


async def broadcast(
    way: Way, target: str, method: str, args: Mapping[str, Any], mode: str, timeout: float
) -> list[shapes.Outcome]:
    """Call every instance of a target; return an outcome for each. Raises InvalidInput, InvalidName, UnknownName."""
    _check_seconds(timeout)
    if mode not in _MODES:
        raise errors.InvalidInput(f"mode {mode!r:.40} is unknown: {', '.join(map(repr, _MODES))}")
    return await way.broadcast(target, method, encoded(args, method), mode, timeout)


def _check_seconds(timeout: float) -> None:
    if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise errors.InvalidInput(f"timeout {timeout!r:.40} is out of range: seconds over 0")


def _known(error: errors.ServiceError) -> errors.ServiceError | None:
    """Return an error that travelled as an object of its class; None when it is one, or no class or several have its code."""
    if type(error) is not errors.ServiceError or error.code == errors.ServiceError.code:
        return None
    waiting, found = errors.ServiceError.__subclasses__(), set()
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if cls.code == error.code:
            found.add(cls)
    if len(found) != 1:
        return None
    made = (cls := found.pop()).__new__(cls)
    errors.CallboardError.__init__(made, error.message, **error.data)  # Its own may take something else.
    return made


def encoded(args: Mapping[str, Any], what: str) -> bytes:
    """Return arguments that nobody here knows the shape of, encoded. Raises InvalidInput, TooLarge."""
    return exposure.check_size(codec.pack(args, "args"), what) if args else shape.EMPTY


class Name:
    """A name to call: its attributes are the methods, `await app.name("billing@acme").balance()`."""

    __slots__ = ("_call", "_name", "_timeout")

    def __init__(self, call: Callable[[str, str, Mapping[str, Any], float], Awaitable[Any]], name: str, timeout: float) -> None:
        model.parse(name)
        self._call = call
        self._name = name
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<name {self._name}>"

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(f"{self._name} has no method {method}: exposed ones do not begin with '_'")

        def made(**args: Any) -> Awaitable[Any]:
            return self._call(self._name, method, args, self._timeout)

        return made
