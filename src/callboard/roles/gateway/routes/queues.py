"""Routes of queues: list, pause, resume."""

from __future__ import annotations

from typing import Any

from litestar import get, post
from litestar.params import FromPath

from callboard.http import shapes
from callboard.kit import grammar
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import keys, views


@get("/v1/queues", summary="List queues with their jobs by state", opt={"scope": keys.READ})
async def listed(desk: desks.TheDesk, caller: desks.TheCaller) -> shapes.Queues:
    counts = await desk.queue.counts(caller.domain)
    paused = await desk.queue.paused(caller.domain)
    return shapes.Queues(views.queues(counts, [(caller.domain, name) for name in paused]))


@post(
    "/v1/queues/{queue_name:str}/pause",
    status_code=200,
    summary="Pause a queue",
    description="Once this is answered, no claim of the queue commits. Running jobs go on.",
    opt={"scope": keys.MANAGE},
)
async def pause(desk: desks.TheDesk, caller: desks.TheCaller, queue_name: FromPath[str]) -> shapes.Paused:
    await desk.queue.pause(caller.domain, grammar.check_label(queue_name, "queue"), True)
    return shapes.Paused(queue_name, True)


@post("/v1/queues/{queue_name:str}/resume", status_code=200, summary="Resume a queue", opt={"scope": keys.MANAGE})
async def resume(desk: desks.TheDesk, caller: desks.TheCaller, queue_name: FromPath[str]) -> shapes.Paused:
    await desk.queue.pause(caller.domain, grammar.check_label(queue_name, "queue"), False)
    return shapes.Paused(queue_name, False)


HANDLERS: list[Any] = [listed, pause, resume]
