"""`callboard key create|list|revoke`: API keys."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from callboard import errors
from callboard.cli import access, exits, output

SCOPES: Final = ("jobs:submit", "jobs:read")
"""What a key may do when nothing is said: what a program needs that submits jobs and waits for them."""


async def create(
    name: Annotated[str, Parameter(help="Who will use it.")],
    /,
    *,
    scope: Annotated[
        tuple[str, ...],
        Parameter(
            help="What it may do: jobs:submit, jobs:read, jobs:manage, calls:invoke, admin; may be repeated."
            " [jobs:submit, jobs:read]"
        ),
    ] = (),
    to: access.Access = access.HERE,
) -> int:
    """Make an API key; it is shown once. It is bound to --domain and what is inside that domain."""
    async with to.client() as gateways:
        made = await gateways.create_key(name, scope or SCOPES, domain=to.domain)
    if to.json:
        output.document(made)
    elif output.on_terminal():
        output.facts([("id", made.id), ("name", made.name), ("scopes", ", ".join(made.scopes)), ("domain", made.domain)])
        output.facts([("key", made.key)])
        output.note("the key is shown this once: only a hash of it is stored")
    else:
        output.line(made.key)
    return exits.Exit.OK


async def listed(*, to: access.Access = access.HERE) -> int:
    """List API keys, without their secrets, oldest first.

    Piped columns: id, name, domain, scopes, created, revoked.
    """
    async with to.client() as gateways:
        found = await gateways.keys()
    if to.json:
        output.document({"keys": found})
        return exits.Exit.OK
    rows = ((each.id, each.name, each.domain, ",".join(each.scopes), each.created_at, each.revoked_at) for each in found)
    output.table(("id", "name", "domain", "scopes", "created", "revoked"), rows)
    return exits.Exit.OK


async def revoke(
    *ids: Annotated[str, Parameter(help="Ids of keys, as the list shows them.")], to: access.Access = access.HERE
) -> int:
    """Revoke API keys for good: within a second nothing is answered to them any more."""
    if not ids:
        raise errors.InvalidInput("there is no key to revoke: give its id, as 'callboard key list' shows it")
    async with to.client() as gateways:
        revoked = [await gateways.revoke_key(id) for id in ids]
    if to.json:
        output.document({"keys": revoked})
    else:
        output.table(("id", "name", "revoked"), ((each.id, each.name, each.revoked_at) for each in revoked))
    return exits.Exit.OK
