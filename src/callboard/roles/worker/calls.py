"""A handler run to its end without an event loop of its own around it: what threads and child processes do."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from typing import Any

from callboard import errors
from callboard.app import context, handler
from callboard.jobs import model
from callboard.roles.worker import endings


def run(declared: handler.Handler, job: model.Job, port: context.Port, max_result: int) -> bytes | endings.Failure | None:
    """Decode the arguments, call the handler in a context of its own, encode its result. Never raises."""
    try:
        values = declared.arguments.decode(job.args)
    except errors.InvalidArguments as error:
        return endings.refused(error)
    given = None
    if declared.arguments.wants_context:
        given = context.Context(job, port, functools.partial(declared.result.encode_within, max_result))
    try:
        value = contextvars.copy_context().run(_call, declared, values, given)
    except BaseException as error:  # SystemExit too: a handler ends its job with it, not the worker.
        return endings.failure(error)
    return None if port.joined else endings.encoded(declared, value, max_result)


def _call(declared: handler.Handler, values: tuple[Any, ...], given: context.Context | None) -> Any:
    value = declared.call(values, given)
    return asyncio.run(value) if asyncio.iscoroutine(value) else value  # Also one of a wrapped async function.
