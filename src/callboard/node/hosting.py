"""Which roles a node hosts, and what they are built from. One function a role.

Roles are imported only where they are hosted: a worker never pays for the HTTP server's memory. The table of places is the one
place that says what a kind of node is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from callboard import app, errors
from callboard.app import exposure
from callboard.brokers import address
from callboard.coordination import sessions
from callboard.jobs import queue
from callboard.kit import beat, clock, grammar
from callboard.names import groups
from callboard.names import model as names
from callboard.node import layout, wiring
from callboard.roles import offices, role, self_report


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What roles are built from. All of it is started."""

    record: layout.NodeRecord
    queue: queue.Queue
    app: app.Callboard
    beat: beat.Beat
    clock: clock.Clock
    lives: sessions.ProcessSessions
    wiring: wiring.Wiring


class Hosted(msgspec.Struct, frozen=True):
    """A role, what the node's entry says of its methods, and what is to be done before it starts: returns an admin key if one
    was made."""

    role: role.Role
    offer: names.Offer
    prepare: Callable[[], Awaitable[str | None]] | None = None


def worker(parts: Parts) -> Iterator[Hosted]:
    """Build the role that runs handlers, and beside it the one that takes jobs from message brokers, if any are set."""
    from callboard.roles import worker  # Here, so that a gateway does not load it.

    given, bridged = parts.record.settings.worker, _bridged(parts)
    made = worker.Worker(
        parts.queue,
        parts.app,
        node=parts.record.node,
        slots=given.slots,
        domains=given.domains,
        queues=list(given.queues) if given.queues is not None else None,
        short_floor=given.short_floor,
        beat=parts.beat,
        log_level=parts.record.settings.log.level,
        log_form=parts.record.settings.log.form,
        beside=bridged.app if bridged is not None else None,
    )
    yield Hosted(made, exposure.role_offer(made))
    if bridged is not None:
        beside = _bridge(parts, made, bridged)
        yield Hosted(beside, exposure.role_offer(beside))


def _bridged(parts: Parts) -> Any:
    """Return what answers for the node's message brokers; None when none are set. Raises InvalidSetting."""
    given = [address.parsed(url) for url in parts.record.settings.bridge.urls]
    if not given:
        return None
    try:
        from callboard.roles import bridge  # Here, as most nodes host none; and it needs an optional extra.
    except ImportError as error:
        why = " ".join(str(error).split())
        raise errors.InvalidSetting(
            f"bridge.urls needs a package that cannot be loaded ({why:.200}): pip install 'callboard[activemq]'"
        ) from None
    return bridge.Answers(given, parts.queue)


def _bridge(parts: Parts, beside: Any, answers: Any) -> role.Role:
    """Build the role that takes jobs from message brokers for a worker's free slots."""
    from callboard.roles import bridge

    meant = bridge.chosen(parts.record.settings.bridge.destinations, beside.takes_from)
    door = beside.open_door([(domain, name) for domain in {each.domain for each in meant} for name in answers.queues()])
    made = bridge.Bridge(parts.queue, door, parts.app.kinds, answers.brokers, meant, answers)
    door.freed, door.left = made.freed, made.left
    return made


def gateway(parts: Parts) -> Iterator[Hosted]:
    """Build the role that answers HTTP. The first gateway also sees to it that the local commands have a key."""
    from callboard.node import access  # Both here, so that a worker does not load Litestar and uvicorn.
    from callboard.roles import gateway

    given, wired = parts.record.settings.gateway, parts.wiring

    async def prepare() -> str | None:
        return await access.ensure(parts.queue, parts.record.settings)

    made = gateway.Gateway(
        parts.queue,
        parts.app.kinds,
        host=given.host,
        port=given.port + parts.record.index,
        entries=lambda: asyncio.to_thread(parts.lives.entries, layout.NODES),
        max_body_bytes=given.max_body_bytes,
        calls=wired.resolver,
        calls_ready=lambda: wired.resolver.home is not None,
        node_connections=wired.peers.connections,
        names=wired.resolver,
        coordination=wired.session,
        view=wired.viewing.watched,
        own=wired.peers.address.host,
    )
    yield Hosted(made, exposure.role_offer(made), prepare if parts.record.index == 0 else None)


def registry(parts: Parts) -> Iterator[Hosted]:
    """Build the role that knows who answers for a name."""
    from callboard.roles import registry  # Here, as most nodes host none.

    made = registry.Registry(parts.wiring.session, parts.wiring.peers, parts.wiring.groups, parts.clock)
    yield Hosted(made, exposure.role_offer(made))


def domain_controller(parts: Parts) -> Iterator[Hosted]:
    """Build the role that keeps the store in order for its groups' domains, and speaks for silent servers."""
    from callboard.roles import domain_controller  # Here, as most nodes host none.

    given = parts.record.settings
    made = domain_controller.DomainController(
        parts.queue,
        parts.wiring.session,
        _candidacy(parts, None, None, preempt=False),
        parts.clock,
        session_of=layout.session_name,
        lease_seconds=given.controller.lease_seconds,
        retention=given.retention,
    )
    yield Hosted(made, exposure.role_offer(made, active="one"))


def site_controller(parts: Parts) -> Iterator[Hosted]:
    """Build the role that tells every node of the site what there is."""
    from callboard.roles import site_controller  # Here, as most nodes host none.

    site = parts.record.settings.site
    candidacy = msgspec.structs.replace(
        _candidacy(parts, site, None, preempt=False), groups=groups.Groups({site: (grammar.ROOT_DOMAIN,)})
    )
    made = site_controller.SiteController(parts.wiring.session, parts.wiring.peers, candidacy, parts.clock)
    yield Hosted(made, exposure.role_offer(made, active="one"))


def services(parts: Parts) -> Iterator[Hosted]:
    """Build a role for each named service of the app."""
    from callboard.roles import service  # Here, as most nodes host none.

    given = parts.record.settings.service
    candidacy = _candidacy(parts, given.group, given.order, preempt=given.preempt)
    for declared in parts.app.services.values():
        yield Hosted(service.Service(declared, clock=parts.clock, candidacy=candidacy), declared.offer)


def _candidacy(parts: Parts, group: str | None, order: int | None, *, preempt: bool) -> offices.Candidacy:
    """How the node of these parts stands for the offices of a group, None: of every group."""
    wired = parts.wiring
    return offices.Candidacy(
        presence=wired.presence,
        groups=wired.groups,
        stands_for=() if not parts.record.settings.stands else wired.groups.names if group is None else (group,),
        order=parts.record.index if order is None else order,
        preempt=preempt,
        address=lambda: wired.peers.address,
        site=parts.record.settings.site,
    )


BUILDERS: Final[Mapping[str, Callable[[Parts], Iterator[Hosted]]]] = {
    "worker": worker,
    "gateway": gateway,
    "registry": registry,
    "domain-controller": domain_controller,
    "site-controller": site_controller,
    "service": services,
}


def roles(record: layout.NodeRecord) -> tuple[str, ...]:
    """Return the roles of a kind of node, in the order in which they start."""
    if record.role != "gateway":
        return (record.role,)
    given = record.settings
    counts = {
        "registry": given.registry.count,
        "domain-controller": given.controller.count,
        "site-controller": given.controller.site_count,
    }
    return (*(name for name, count in counts.items() if count == 0), "gateway")


def build(parts: Parts) -> list[Hosted]:
    """Return what the node of a record hosts: what every node does, and what its place asks for."""
    hosted: list[Hosted] = []
    itself = self_report.NodeItself(
        parts.wiring.peers, parts.wiring.groups, lambda: [each.offer for each in hosted], parts.wiring.presence.standing
    )
    hosted.append(Hosted(itself, exposure.role_offer(itself)))
    for name in roles(parts.record):
        hosted += BUILDERS[name](parts)
    return hosted
