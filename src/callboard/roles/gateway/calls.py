"""Calls as they come in over HTTP: from the bytes of a body to a named service and the bytes of its answer.

Like `intake`, it works on bytes at both ends: the edge calls `one` without any framework around it. Who answers for a name is the
resolver's affair, what the arguments must be the service's.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callboard import errors
from callboard.app import exposure, services
from callboard.http import shapes
from callboard.kit import codec, grammar
from callboard.names import model
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import intake, keys

MAX_SECONDS: Final = 60.0
"""The longest that a call or a broadcast may take over HTTP."""

_args = msgspec.json.Decoder(dict[str, Any])
_broadcast = msgspec.json.Decoder(shapes.Broadcast)


async def one(
    desk: desks.Desk, grant: keys.Grant, domain: str, name: str, method: str, body: bytes, seconds: float = services.CALL_SECONDS
) -> bytes:
    """Call a method of a name for the bearer of a key; return the answer's document in JSON. `domain` is meant without `@`.

    Raises InvalidName, Forbidden, CallError (with `data["ran"]`), and what the method raised.
    """
    grant.check_scope(keys.INVOKE)
    parsed = model.parse(name, domain)
    if parsed.label in services.RESERVED:
        check_operator(grant)
    grant.check_domain(parsed.domain)
    args = _packed(intake.read(body, _args), method) if body else b""
    try:
        result = await _callers(desk).call(name, method, args, timeout=seconds, domain=domain)
    except errors.CallError as error:
        error.data.setdefault("ran", "unknown")
        raise
    return b'{"result":' + (codec.to_json(codec.unpack(result)) if result else b"null") + b"}"


async def many(desk: desks.Desk, grant: keys.Grant, body: bytes) -> shapes.Outcomes:
    """Call every instance of a role or service; return an outcome for each. Roles are for those who run the system.

    Instances are asked in the default domain, which the key must reach.
    """
    given = intake.read(body, _broadcast)
    if not 0 < given.timeout <= MAX_SECONDS:
        raise errors.InvalidInput(f"timeout {given.timeout} is out of range: over 0, to {MAX_SECONDS:g} seconds")
    if model.parse_target(given.target).kind == "role":
        check_operator(grant)
    grant.check_domain(grammar.DEFAULT_DOMAIN)
    args = _packed(given.args, given.method)
    found = await _callers(desk).broadcast(given.target, given.method, args, mode=given.mode, timeout=given.timeout)
    return shapes.Outcomes([services.outcome(each) for each in found])


def _callers(desk: desks.Desk) -> services.Caller:
    if desk.calls is None:
        raise errors.NotActive("this gateway has no way to other nodes: ask another one", ran="no")
    return desk.calls


def check_operator(grant: keys.Grant) -> None:
    """Raise Forbidden unless a key is for those who run the system: with the scope admin, and for all domains."""
    grant.check_scope(keys.ADMIN)
    if grant.domain != grammar.ROOT_DOMAIN:
        raise errors.Forbidden(f"key {grant.key_id} reaches {grant.domain} alone: roles are for keys that reach all domains")


def _packed(args: dict[str, Any], method: str) -> bytes:
    try:
        return exposure.check_size(codec.pack_trusted(args), method)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise errors.InvalidInput(f"the arguments cannot be encoded: {error}") from None
