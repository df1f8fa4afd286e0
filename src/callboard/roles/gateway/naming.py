"""Names as operators look at them: which there are, and whether somebody answers. What is known of them is the registries'."""

from __future__ import annotations

import difflib
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.app import services
from callboard.http import shapes
from callboard.kit import clock as clocks
from callboard.names import model, protocol
from callboard.roles.gateway import calls, keys
from callboard.roles.gateway import desk as desks
from callboard.rpc import network

NEAR: Final = 0.6
"""How alike two names must be, of 1, for one to be what was meant by the other."""
_pack = msgspec.msgpack.Encoder().encode
_pong = msgspec.msgpack.Decoder(protocol.Pong)


async def listing(desk: desks.Desk, prefix: str) -> shapes.Names:
    """Return the names that begin with a prefix, who answers, and who stands by. Raises Unreachable without a registry."""
    found = await reach(desk).listing(prefix)
    return shapes.Names([_listed(each) for each in found.names], found.stale)


async def ping(desk: desks.Desk, grant: keys.Grant, domain: str, name: str, seconds: float) -> shapes.Answering:
    """Ask the instance that answers for a name whether it does, and measure how long that takes.

    Raises InvalidName, Forbidden, UnknownName, NotActive when no instance answers, DeadlineExceeded.
    """
    grant.check_scope(keys.INVOKE)
    parsed = model.parse(name, domain)
    if parsed.label in services.RESERVED:
        calls.check_operator(grant)
    grant.check_domain(parsed.domain)
    names, clock = reach(desk), desk.queue.clock
    end = clock.boot() + round(seconds * 1e9)
    try:
        answer = await names.lookup(name, ping=not parsed.incarnation, timeout=seconds, domain=domain)
        address = answer.instances[0]
        await names.lookup(f"{protocol.NODE}/{address.incarnation}", timeout=_until(end, clock))  # Not what is measured.
        args = {"label": answer.label, "group": answer.group, "epoch": answer.epoch}
        began = clock.boot()
        pong = _pong.decode(await itself(names, address, "ping", args, _until(end, clock)))
    except errors.UnknownName as error:
        raise await nearer(names, error, parsed) from None
    return shapes.Answering(
        name=name,
        node=address.incarnation,
        server=address.server,
        active=pong.office == "held",
        group=answer.group,
        epoch=answer.epoch,
        seconds=(clock.boot() - began) / 1e9,
    )


def reach(desk: desks.Desk) -> desks.Names:
    """Return the way to names. Raises NotActive at a gateway that has none."""
    if desk.names is None:
        raise errors.NotActive("this gateway has no way to other nodes: ask another one", ran="no")
    return desk.names


async def itself(names: desks.Names, at: network.Address, method: str, args: dict[str, Any], seconds: float) -> bytes:
    """Call a method of a node itself; return its result. Raises what `Names.call` raises."""
    return await names.call(f"{protocol.NODE}/{at.incarnation}", method, _pack(args), timeout=seconds)


async def nearer(names: desks.Names, error: errors.UnknownName, name: model.Name) -> errors.UnknownName:
    """Return the error for a name that nobody knows, with the one that may have been meant."""
    if name.incarnation:
        return error
    known = {each.label for each in (await names.listing()).names}
    near = difflib.get_close_matches(name.label, sorted(known), n=1, cutoff=NEAR)
    if not near:
        return error
    return errors.UnknownName(f"nobody alive has a service or role named {name.label}: did you mean {near[0]}?", ran="no")


def _until(end: int, clock: clocks.Clock) -> float:
    """Return the seconds that are left, never none: who has none is told so by the call."""
    return max((end - clock.boot()) / 1e9, 0.001)


def _listed(of: protocol.Listed) -> shapes.ListedName:
    return shapes.ListedName(
        name=of.name,
        kind=of.kind,
        active=of.active,
        group=of.group,
        epoch=of.epoch,
        instances=[place(each) for each in of.instances],
        standbys=[place(each.address) for each in of.standbys],
        conflict=of.conflict or None,
    )


def place(of: network.Address) -> shapes.Place:
    """Return where an instance is, as it is told."""
    return shapes.Place(of.incarnation, of.server)
