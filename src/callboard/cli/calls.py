"""`callboard call` and `callboard broadcast`: asking named services, and every instance of a role or a service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from callboard import errors
from callboard.cli import access, exits, output, values
from callboard.http import shapes

Arguments = Annotated[str, Parameter(help="Its arguments, each as name=value; a value that is JSON counts as such.")]
Seconds = Annotated[float, Parameter(help="Seconds that it may take, 60 at most. [10]")]
MOST_SECONDS = 60.0


async def call(
    name: Annotated[str, Parameter(help="Name of a service, like billing@acme; or an instance, cache/INCARNATION.")],
    method: Annotated[str, Parameter(help="The method to call.")],
    /,
    *arguments: Arguments,
    timeout: Seconds = 10.0,
    to: access.Access = access.HERE,
) -> int:
    """Call a method of a named service, and print what it returns as JSON.

    What the method raises is told as an error with its code; the exit code is 1 for codes of the service's own.
    """
    async with to.client() as gateways:
        result = await gateways.call(name, method, values.arguments(arguments), timeout=checked(timeout))
    output.document({"result": result} if to.json else result)
    return exits.Exit.OK


async def broadcast(
    target: Annotated[str, Parameter(help="Whom to call: role:gateway, or service:cache.")],
    method: Annotated[str, Parameter(help="The method to call.")],
    /,
    *arguments: Arguments,
    mode: Annotated[
        Literal["all", "first", "elect"],
        Parameter(help="Gather all answers, take the first good one, or have the recipients elect who acts. [all]"),
    ] = "all",
    timeout: Seconds = 10.0,
    to: access.Access = access.HERE,
) -> int:
    """Call every instance of a role or a service. The exit code is 1 when nobody answered well, with mode all when one did not.

    Piped columns: member, status, result as JSON or why there is none.
    """
    async with to.client() as gateways:
        outcomes = await gateways.broadcast(target, method, values.arguments(arguments), mode=mode, timeout=checked(timeout))
    if to.json:
        output.document({"outcomes": outcomes})
    else:
        output.table(("member", "status", "result"), ((each.member, each.status, _told(each)) for each in outcomes))
    well = [each.status == "ok" for each in outcomes]
    return exits.Exit.OK if (all(well) if mode == "all" else any(well)) else exits.Exit.FAILED


def checked(seconds: float) -> float:
    """Return seconds that a gateway allows. Raises InvalidInput."""
    if not 0 < seconds <= MOST_SECONDS:
        raise errors.InvalidInput(f"--timeout {seconds:g} is out of range: seconds over 0, to {MOST_SECONDS:g}")
    return seconds


def _told(outcome: shapes.Outcome) -> Any:
    if outcome.status == "ok":
        return outcome.result
    return f"{outcome.message} ({outcome.code})" if outcome.code else outcome.message
