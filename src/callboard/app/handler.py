"""A declared handler: the function, its kind, and how its arguments and result travel. What a worker runs.

Made by `Callboard.job`; nobody else makes one. Immutable, used from any thread and found again by `locate` in other processes.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, Final, Literal

from callboard import errors
from callboard.app import context, shape
from callboard.jobs import kinds

RunsIn = Literal["loop", "thread", "process"]
PLACES: Final = ("loop", "thread", "process")


class Handler:
    """One kind's function and everything to run it with."""

    __slots__ = ("arguments", "function", "is_async", "kind", "result", "runs_in")

    def __init__(
        self, kind: kinds.Kind, function: Callable[..., Any], runs_in: RunsIn | None, arguments: shape.Arguments
    ) -> None:
        self.kind = kind
        self.function = function
        self.arguments = arguments
        self.result = shape.Result(kind.name, function)
        self.is_async = inspect.iscoroutinefunction(function)
        self.runs_in = runs_in or ("loop" if self.is_async else "thread")
        self._check()

    def call(self, values: tuple[Any, ...], given: context.Context | None) -> Any:
        """Call the function with decoded arguments: a coroutine when it is async."""
        return self.arguments.call(self.function, values, given)

    @property
    def path(self) -> str:
        """Where other processes find it: `module:qualified name`."""
        return f"{self.function.__module__}:{self.function.__qualname__}"

    def _check(self) -> None:
        name = self.kind.name
        if self.runs_in not in PLACES:
            raise errors.InvalidInput(f"{name} runs_in {self.runs_in!r:.40}: use 'loop', 'thread' or 'process'")
        if inspect.isasyncgenfunction(self.function) or inspect.isgeneratorfunction(self.function):
            raise errors.InvalidInput(f"{name} is a generator: a handler returns its result, once")
        if self.runs_in == "loop" and not self.is_async:
            raise errors.InvalidInput(f"{name} runs in the loop and is not async: write 'async def', or runs_in='thread'")
        if self.runs_in == "process" and "<locals>" in self.function.__qualname__:
            raise errors.InvalidInput(f"{name} must be found by another process: define it at the top of its module")


def locate(path: str) -> Handler:
    """Return the handler that a `Handler.path` names, importing its module.

    Raises AppNotFound when the module or the name is not there, and whatever the import raises.
    """
    module, _, names = path.partition(":")
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    try:
        for name in names.split("."):
            found = getattr(found, name)
    except AttributeError:
        raise errors.AppNotFound(f"{path} does not exist: was the handler renamed while it was in use?") from None
    handler = getattr(found, "handler", None)
    if not isinstance(handler, Handler):
        raise errors.AppNotFound(f"{path} is not a declared job: its name must stay bound to what @app.job returned")
    return handler
