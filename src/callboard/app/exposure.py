"""Exposed methods of services and roles: which there are, what they take and return, and how one is run for a request.

`@method` marks them. `exposed` reads a class once; `bind` makes the `rpc.serving.Method`s of one instance, which a node's table
runs. Arguments and results are checked as those of jobs are, see `shape`. Nothing here knows names, epochs or sockets.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal, TypeVar, overload

from callboard import errors
from callboard.app import shape
from callboard.jobs import model as jobs
from callboard.kit import clock, codec, telemetry
from callboard.names import model
from callboard.rpc import serving

F = TypeVar("F", bound=Callable[..., Any])

CALL: Final = shape.Lead(serving.Call, "call")
"""What methods may take first."""
MAX_BYTES: Final = jobs.MAX_PAYLOAD
"""Bytes that the encoded arguments or the result of a call may have: as those of jobs."""
MAX_MESSAGE: Final = 1000
"""Characters kept of the message of an error that travels."""
LIFECYCLE: Final = ("start", "stop")
"""Methods of a service that its node calls, and nobody else."""
_MARK: Final = "__callboard_method__"
_NOTHING: Final = inspect.Parameter.empty
_seldom = telemetry.Seldom(clock.SystemClock())


@overload
def method(function: F, /) -> F: ...


@overload
def method(*, idempotent: bool = False) -> Callable[[F], F]: ...


def method(function: Any = None, /, **options: Any) -> Any:
    """Expose a method of a service or a role: others may call it. Bare, or with options.

    `idempotent=True` says that running it twice does no harm: a call whose connection broke is then made again by itself.
    """
    idempotent = options.pop("idempotent", False)
    if options:
        raise errors.InvalidInput(f"@method has no option {next(iter(options))!r:.40}: it takes idempotent")
    if not isinstance(idempotent, bool):
        raise errors.InvalidInput(f"@method takes idempotent=True or False, not {idempotent!r:.40}")

    def mark(given: F) -> F:
        if not inspect.isfunction(given):
            raise errors.InvalidInput(f"{given!r:.80} is not a function: @method goes right on top of a 'def' in a class")
        setattr(given, _MARK, idempotent)
        return given

    return mark if function is None else mark(function)


class Exposed:
    """One exposed method of a class. Immutable; `arguments` and `result` say how they travel."""

    __slots__ = ("arguments", "idempotent", "is_async", "name", "result", "signature", "title")

    def __init__(self, owner: str, name: str, function: Callable[..., Any], idempotent: bool) -> None:
        self.name = name
        self.title = f"{owner}.{name}"
        self.idempotent = idempotent
        self.is_async = inspect.iscoroutinefunction(function)
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise errors.InvalidInput(f"{self.title} is a generator: a method returns its result, once")
        self.arguments = shape.Arguments(self.title, function, CALL, skipped=1)
        self.result = shape.Result(self.title, function)
        self.signature = _signature(name, function, self.arguments, idempotent)

    def bind(self, instance: object, threads: ThreadPoolExecutor | None = None) -> serving.Method:
        """Return the method of one instance. Plain (not async) ones run in `threads`, or in the loop's own."""
        function = getattr(instance, self.name)
        if self.is_async:
            return serving.Method(self.name, self._in_loop(function), self.idempotent)
        return serving.Method(self.name, self._in_threads(function, threads), self.idempotent)

    def encode_arguments(self, given: Mapping[str, Any]) -> bytes:
        """Return the arguments of a call encoded, by one who has the declaration. Raises InvalidArguments, TooLarge."""
        try:
            return check_size(self.arguments.encode(given), self.title)
        except errors.InvalidInput as error:
            error.data["ran"] = "no"
            raise

    def _in_loop(self, function: Callable[..., Any]) -> Callable[[serving.Call, bytes], Any]:
        decode, invoke, encode = self._decode, self.arguments.call, self._encode

        async def run(call: serving.Call, args: bytes) -> bytes:
            values = decode(args)
            try:
                value = await invoke(function, values, call)
            except BaseException as error:
                raise self._raised(error) from None
            return encode(value)

        return run

    def _in_threads(
        self, function: Callable[..., Any], threads: ThreadPoolExecutor | None
    ) -> Callable[[serving.Call, bytes], Any]:
        def invoke(values: tuple[Any, ...], call: serving.Call) -> tuple[Any, BaseException | None]:
            try:
                return self.arguments.call(function, values, call), None
            except BaseException as error:  # Not through the future, which has no room for a StopIteration.
                return None, error

        async def run(call: serving.Call, args: bytes) -> bytes:
            values = self._decode(args)
            within = contextvars.copy_context().run
            loop = asyncio.get_running_loop()
            value, error = await loop.run_in_executor(threads, within, invoke, values, call)
            if error is not None:
                raise self._raised(error) from None
            return self._encode(value)

        return run

    def _decode(self, args: bytes) -> tuple[Any, ...]:
        try:
            return self.arguments.decode(args or shape.EMPTY)
        except errors.InvalidArguments as error:
            error.data["ran"] = "no"
            raise

    def _encode(self, value: Any) -> bytes:
        try:
            encoded = self.result.encode(value) or b""
        except errors.InvalidInput as error:
            said = error.message.removeprefix("the result cannot be kept: ")
            raise errors.InvalidResult(f"the result of {self.title} cannot be sent: {said}", ran="yes") from None
        if len(encoded) > MAX_BYTES:
            raise errors.InvalidResult(
                f"the result of {self.title} takes {len(encoded)} bytes, the limit is {MAX_BYTES}: return less at once",
                ran="yes",
                limit=MAX_BYTES,
            )
        return encoded

    def _raised(self, error: BaseException) -> BaseException:
        """Return what the caller is told: errors of Callboard and of the service as they are, others by type and message."""
        if isinstance(error, errors.CallboardError):
            return travelling(error)
        if isinstance(error, GeneratorExit) or (isinstance(error, asyncio.CancelledError) and _is_ended()):
            return error
        _seldom.warning("a method raised", code=self.title, exc_info=error)
        said = " ".join(str(error).split())[:MAX_MESSAGE]
        return errors.ServiceError(f"{type(error).__name__}: {said}" if said else type(error).__name__, ran="yes")


def travelling(error: errors.CallboardError) -> errors.CallboardError:
    """Return an error that a method raised, fit to be sent: one line, JSON-shaped facts, `ran` told."""
    error.message = " ".join(str(error.message).split())[:MAX_MESSAGE]
    try:
        if len(codec.pack(error.data, "data")) > MAX_BYTES:
            error.data = {}
    except errors.InvalidInput:
        error.data = {str(name): str(value)[:MAX_MESSAGE] for name, value in error.data.items()}
    error.data["ran"] = "yes"  # Whatever is said of a call that the method itself made.
    return error


def _is_ended() -> bool:
    """Tell whether somebody cancelled this very task: a method may also let through a cancellation of something else."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@functools.lru_cache(maxsize=256)  # A simulation makes hundreds of nodes in one process.
def exposed(cls: type, owner: str) -> Mapping[str, Exposed]:
    """Return the exposed methods of a class, those of `owner`, by name: marked ones, and those that take a `Call` first.

    Raises InvalidInput for a method that cannot be exposed as it is.
    """
    found: dict[str, Exposed] = {}
    for name in dir(cls):
        given, mark = inspect.getattr_static(cls, name), _mark(cls, name)
        if isinstance(given, (staticmethod, classmethod)) and mark is not None:
            raise errors.InvalidInput(f"{owner}.{name} is static or of the class: expose a method that takes self")
        if not inspect.isfunction(given) or (mark is None and not _takes_call(f"{owner}.{name}", given)):
            continue
        if name.startswith("_") or name in LIFECYCLE or not name.isascii():
            why = "is the node's to call" if name in LIFECYCLE else "is not a public name in ASCII"
            raise errors.InvalidInput(f"{owner} exposes {name}, which {why}: name the method otherwise")
        found[name] = Exposed(owner, name, given, mark or False)
    return found


def methods(instance: Any) -> dict[str, serving.Method]:
    """Return the exposed methods of a role, bound. It reads the whole class: ask once, and keep them."""
    return {name: one.bind(instance) for name, one in exposed(type(instance), instance.label).items()}  # type: ignore[arg-type]


def interface(exposed_ones: Mapping[str, Exposed]) -> str:
    """Return a digest of names, parameters, results and marks: equal for equal interfaces, on every machine."""
    text = "\n".join(exposed_ones[name].signature for name in sorted(exposed_ones))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def offer(label: str, kind: Literal["role", "service"], active: model.Active, exposed_ones: Mapping[str, Exposed]) -> model.Offer:
    """Return what a node says of a role or service that it has methods of."""
    idempotent = tuple(sorted(name for name, one in exposed_ones.items() if one.idempotent))
    return model.Offer(label, kind, active, interface(exposed_ones), idempotent)


def role_offer(role: Any, active: model.Active = "all") -> model.Offer:
    """Return what a node says of a role, of which every instance serves unless it says otherwise."""
    return offer(role.label, "role", active, exposed(type(role), role.label))  # type: ignore[arg-type]


def check_size(encoded: bytes, what: str) -> bytes:
    """Return the encoded arguments of a call. Raises TooLarge."""
    if len(encoded) > MAX_BYTES:
        raise errors.TooLarge(
            f"the arguments of {what} take {len(encoded)} bytes, the limit is {MAX_BYTES}: send less at once", limit=MAX_BYTES
        )
    return encoded


def _mark(cls: type, name: str) -> bool | None:
    """Return the nearest mark of a method: its own, or of what it overrides. None when there is none."""
    for each in cls.__mro__:
        given = each.__dict__.get(name)
        mark: bool | None = getattr(getattr(given, "__func__", given), _MARK, None)
        if mark is not None:
            return mark
    return None


def _takes_call(title: str, function: Callable[..., Any]) -> bool:
    """Tell whether a method's first parameter after self is annotated `Call`."""
    parameters = list(inspect.signature(function).parameters.values())[1:2]
    if title.rpartition(".")[2].startswith("_") or not parameters or parameters[0].annotation is _NOTHING:
        return False
    said = parameters[0].annotation
    try:
        return shape.hints(title, function).get(parameters[0].name) is serving.Call
    except errors.InvalidInput:
        if isinstance(said, str) and said.rpartition(".")[2] == "Call":
            raise
        return False  # Whatever else it takes is its own affair.


def _signature(name: str, function: Callable[..., Any], arguments: shape.Arguments, idempotent: bool) -> str:
    """Return a method's interface as text that does not depend on how annotations were written."""
    hints = shape.hints(name, function)
    parameters = inspect.signature(function).parameters
    taken = [
        f"{each}:{inspect.formatannotation(hints.get(each, Any))}{'' if parameters[each].default is _NOTHING else '='}"
        for each in arguments.names
    ]
    return f"{name}({','.join(taken)})->{inspect.formatannotation(hints.get('return', Any))}{'!' if idempotent else ''}"
