"""Routes for supervisors, load balancers and Prometheus. They need no key and tell nothing of jobs' contents."""

from __future__ import annotations

from typing import Any

from litestar import Response, get

from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import metrics


@get("/healthz", summary="Does this process move? 503 asks for its restart")
async def alive(desk: desks.TheDesk) -> Response[dict[str, str]]:
    moves = desk.health.alive()
    return Response({"loop": "ok", "writer": "ok" if moves else "stalled"}, status_code=200 if moves else 503)


@get("/readyz", summary="Can it serve? 503 asks to send requests elsewhere")
async def ready(desk: desks.TheDesk) -> Response[dict[str, str]]:
    report = await desk.health.ready()
    return Response(report, status_code=200 if report["jobs"] == "ok" else 503)


@get("/metrics", summary="Metrics for Prometheus", media_type=metrics.MEDIA_TYPE)
async def scrape(desk: desks.TheDesk) -> Response[bytes]:
    return Response(await desk.metrics.text())


HANDLERS: list[Any] = [alive, ready, scrape]
