"""`callboard queues`, `pause`, `resume`: queues and whether they move."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from callboard import errors
from callboard.cli import access, exits, output
from callboard.http import shapes

STATES: Final = ("scheduled", "available", "running", "retryable", "pending", "completed", "discarded", "cancelled")

Names = Annotated[str, Parameter(help="Names of queues.")]


async def queues(*, to: access.Access = access.HERE) -> int:
    """List queues with their jobs by state.

    Piped columns: queue, open or paused, then the numbers of jobs scheduled, available, running, retryable, pending,
    completed, discarded, cancelled. A number is exact to 10,000, then `10,000+`.
    """
    async with to.client() as gateways:
        found = await gateways.queues()
    if to.json:
        output.document({"queues": found})
        return exits.Exit.OK
    states = [state for state in STATES if not output.on_terminal() or any(state in each.counts for each in found)]
    rows = ((each.queue, _word(each.paused), *(each.counts.get(state, 0) for state in states)) for each in found)
    output.table(("queue", "", *states), rows)
    return exits.Exit.OK


async def pause(*names: Names, to: access.Access = access.HERE) -> int:
    """Pause queues: once this returns, no job of them is started. Running jobs go on."""
    return await _turned(names, True, to)


async def resume(*names: Names, to: access.Access = access.HERE) -> int:
    """Let paused queues go on."""
    return await _turned(names, False, to)


async def _turned(names: tuple[str, ...], paused: bool, to: access.Access) -> int:
    if not names:
        raise errors.InvalidInput(f"there is no queue to {'pause' if paused else 'resume'}: give its name, like default")
    turned: list[shapes.Paused] = []
    try:
        async with to.client() as gateways:
            for name in names:
                await (gateways.pause(name) if paused else gateways.resume(name))
                turned.append(shapes.Paused(name, paused))
    finally:
        if to.json and turned:
            output.document({"queues": turned})
        elif turned:
            output.table(("queue", ""), ((each.queue, _word(each.paused)) for each in turned))
    return exits.Exit.OK


def _word(paused: bool) -> str:
    return "paused" if paused else "open"
