"""What the routes work with: the queue, the kinds, who asks. Put together by the role, handed to every route.

The guard stands before every route under /v1: it knows the caller by the key, checks the route's scope, and refuses query
parameters that the route does not know (a misspelt filter must not list everything).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromQuery

from callboard import errors
from callboard.app import services
from callboard.cluster import watching
from callboard.coordination import engine
from callboard.jobs import kinds
from callboard.jobs import queue as queues
from callboard.kit import grammar
from callboard.names import model, protocol
from callboard.roles.gateway import health, keys, metrics, roster, waits

MAX_BODY: Final = 1 << 20
"""Bytes that the body of a request may have, unless it is a batch."""
MAX_BATCH_BODY: Final = 16 << 20
PROVIDED: Final = ("desk", "caller", "body", "job_id", "queue_name", "key_id", "name", "method", "incarnation", "server")
"""Parameters of routes that come from elsewhere than the query."""

Asked = Request[Any, Any, Any]


class Names(services.Caller, Protocol):
    """Who knows what is behind a name: a node's `names.resolver.Resolver`."""

    async def lookup(
        self, name: str, *, ping: bool = False, timeout: float = 5.0, domain: str = grammar.DEFAULT_DOMAIN
    ) -> model.Answer:
        """Return who answers for a name; with `ping`, who did so just now, as the first of the instances."""

    async def listing(self, prefix: str = "", *, timeout: float = 5.0) -> protocol.Listing:
        """Return all names that begin with a prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Everything that a route may need."""

    queue: queues.Queue
    kinds: Mapping[str, kinds.Kind]
    keyring: keys.Keyring
    roster: roster.Roster
    waits: waits.Waits
    metrics: metrics.Metrics
    health: health.Health
    calls: services.Caller | None = None
    """The node's way to named services and roles; None where it has none."""
    names: Names | None = None
    """The same with what lies behind a name; None where it has none."""
    coordination: engine.Session | None = None
    """The node's part in coordination; None where it has none."""
    view: watching.Watched | None = None
    """The node's cluster view; None where it has none."""
    max_batch_body: int = MAX_BATCH_BODY
    """Bytes that the body of a batch may have."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and in which domain: `?domain=` inside the key's reach, else the key's own."""

    grant: keys.Grant
    domain: str


TheDesk = NamedDependency[Desk]
TheCaller = NamedDependency[Caller]


def authorization(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the value of the Authorization header, empty when there is none."""
    for name, value in headers:
        if name == b"authorization":
            return value
    return b""


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let the request through if its key has the scope that the route names in `opt["scope"]`. Fails closed without one."""
    desk: Desk = connection.app.state.desk
    grant = await desk.keyring.grant(authorization(connection.scope["headers"]))
    grant.check_scope(handler.opt["scope"])
    if connection.scope["query_string"]:
        known = _query_names(handler)
        for name in connection.query_params:
            if name not in known:
                raise errors.InvalidInput(f"query parameter {name!r:.40} is unknown here: known are {', '.join(known)}")
    connection.scope["state"]["grant"] = grant


def provide_caller(request: Asked, domain: FromQuery[str | None] = None) -> Caller:
    """Make the `caller` that routes ask for."""
    grant: keys.Grant = request.scope["state"]["grant"]
    return Caller(grant, grant.home if domain is None else grant.check_domain(domain))


def _query_names(handler: BaseRouteHandler) -> list[str]:
    """Return what may stand in the query: the route's parameters that are not provided otherwise."""
    names = ["domain"]
    for name, field in handler.parsed_fn_signature.parameters.items():
        if name not in PROVIDED:
            names.append(getattr(field.kwarg_definition, "name", None) or name)
    return names
