"""The framework's application: routes, guard, injection, errors, documentation. Made for one gateway."""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar, Response, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException

from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import docs, problems
from callboard.roles.gateway.routes import access, calls, health, jobs, names, nodes, queues, servers, view

_CLIENT_LEFT: Final = 499


def build(desk: desks.Desk) -> Litestar:
    """Return the application whose routes work with `desk`."""
    rooms = (jobs, queues, nodes, servers, names, access, calls, view)
    keyed = [handler for room in rooms for handler in room.HANDLERS]
    keyed.remove(jobs.submit_batch)
    batch = Router("/", route_handlers=[jobs.submit_batch], request_max_body_size=desk.max_batch_body)
    return Litestar(
        [Router("/", route_handlers=[*keyed, batch], guards=[desks.guard]), *health.HANDLERS],
        dependencies={
            "desk": Provide(lambda: desk, sync_to_thread=False),
            "caller": Provide(desks.provide_caller, sync_to_thread=False),
        },
        exception_handlers={HTTPException: _framework_problem, Exception: _problem},
        request_max_body_size=desks.MAX_BODY,
        openapi_config=docs.CONFIG,
        logging_config=None,
        state=State({"desk": desk}),
    )


def _problem(_request: desks.Asked, error: Exception) -> Response[bytes]:
    return _response(problems.answer(error))


def _framework_problem(request: desks.Asked, error: HTTPException) -> Response[bytes]:
    """Say in our words what the framework found wrong with a request."""
    what = f"{request.method} {request.url.path:.200}"
    match error:
        case NotFoundException():
            answer = problems.say(404, "not_found", f"there is nothing at {what}: /docs lists what there is")
        case MethodNotAllowedException():
            allowed = (error.headers or {}).get("allow", "")
            answer = problems.say(405, "method_not_allowed", f"{what} is not possible: allowed are {allowed}", allowed=allowed)
            answer.headers.append((b"allow", allowed.encode()))
        case ValidationException():
            answer = problems.say(422, "invalid_input", f"{what}: {_first(error.extra)}")
        case _ if error.status_code == 413:
            handler = request.route_handler
            answer = problems.answer(problems.too_large(handler.resolve_request_max_body_size() or desks.MAX_BODY))
        case _ if error.status_code < 500:
            answer = problems.say(error.status_code, "invalid_input", f"{what}: {error.detail}")
        case _ if "disconnected" in error.detail:
            answer = problems.say(_CLIENT_LEFT, "invalid_input", "the client left before its request was complete")
        case _:
            answer = problems.answer(error)
    return _response(answer)


def _first(extra: Any) -> str:
    """Return the first of the framework's complaints as a line."""
    if isinstance(extra, list) and extra:
        return f"{extra[0].get('key', 'request')}: {extra[0].get('message', 'is not valid')}"
    return "is not valid"


def _response(answer: problems.Answer) -> Response[bytes]:
    headers = {
        name.decode(): value.decode() for name, value in answer.headers if name not in (b"content-type", b"content-length")
    }
    return Response(answer.body, status_code=answer.status, media_type=problems.MEDIA_TYPE, headers=headers)
