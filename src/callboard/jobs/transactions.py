"""Jobs inside a user's own transaction: on a SQLAlchemy connection, async or not, to the database that is the store.

Nothing is committed here and no hint is sent: workers see a job at their next look after the user's commit. SQLAlchemy is an
optional extra, and only loaded with a connection of its making in hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model


async def put(connection: Any, jobs: Sequence[model.Job], now: int) -> list[seam.Result]:
    """Store jobs in a connection's transaction, all or none; the results are those of `engine.Put`.

    Raises Unsupported where the database cannot, StoreForeign where it is no store, InvalidInput for what is no connection in a
    transaction, and whatever SQLAlchemy raises, as it is.
    """

    def act(on: Any) -> list[seam.Result]:
        from callboard.jobs.engines.sql import joined

        _check(joined.unsupported(on))
        return joined.put(on, jobs, now)

    done = _on(connection, act)
    results: list[seam.Result] = await done if inspect.isawaitable(done) else done
    return results


def complete(connection: Any, job: model.Job, result: bytes | None, now: int) -> Awaitable[None] | None:
    """Complete a claimed job in a connection's transaction: at once, or, for an async connection, when the answer is awaited.

    Raises ClaimLost when the claim is not held any more, and as `put`.
    """

    def act(on: Any) -> None:
        from callboard.jobs.engines.sql import joined

        _check(joined.unsupported(on))
        joined.complete(on, job, result, now)

    done: Awaitable[None] | None = _on(connection, act)
    return done


def _on(given: Any, act: Callable[[Any], Any]) -> Any:
    """Act on the connection that was given, or that a session has. Known by what they can do: wrappers will do."""
    if callable(getattr(given, "run_sync", None)):
        return given.run_sync(lambda inner: act(_connection(inner)))
    return act(_connection(given))


def _connection(given: Any) -> Any:
    if callable(getattr(given, "exec_driver_sql", None)):
        return given
    if not callable(getattr(given, "connection", None)):
        raise errors.InvalidInput(f"{given!r:.60} is no connection: give a SQLAlchemy Connection or Session, async or not")
    return given.connection()


def _check(reason: str) -> None:
    if reason:
        raise errors.Unsupported(f"jobs inside your own transaction need a store on MySQL or PostgreSQL: {reason}")
