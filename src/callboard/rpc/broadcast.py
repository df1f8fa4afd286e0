"""One request to many, with an outcome for each of them and one deadline for all.

Used by `names.resolver`, which knows the recipients. *all* gathers every answer; *first* takes the first one and cancels the
rest; in *elect* the recipients choose among themselves who acts, by the ring over the list in the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from callboard import errors
from callboard.kit import grammar
from callboard.rpc import frames, network, peers

Mode = Literal["all", "first", "elect"]
Status = Literal["ok", "error", "timeout", "unreachable", "elsewhere", "cancelled"]


class Recipient(msgspec.Struct, frozen=True):
    """One of those whom a broadcast is for."""

    member: str
    """`LABEL/INCARNATION`."""
    address: network.Address
    label: str


class Outcome(msgspec.Struct, frozen=True):
    """What became of one recipient's part."""

    member: str
    status: Status
    """*elsewhere*: another member was elected (`message` names it); *cancelled*: another one's answer was the first."""
    result: bytes | None = None
    """MessagePack, when `status` is ok."""
    code: str = ""
    message: str = ""


async def gather(
    among: peers.Peers,
    recipients: Sequence[Recipient],
    method: str,
    args: bytes,
    *,
    mode: Mode = "all",
    timeout: float,
    key: str = "",
    domain: str = grammar.DEFAULT_DOMAIN,
    meta: dict[str, str] | None = None,
) -> list[Outcome]:
    """Ask all recipients at once; return one outcome for each, in their order, within `timeout` seconds. Raises nothing.

    In *elect*, `key` decides with the recipients' names who acts: pass another one to spread the work over them.
    """
    if not recipients:
        return []
    electorate = frames.Electorate.of(key, [each.member for each in recipients]) if mode == "elect" else None
    loop = asyncio.get_running_loop()
    outcomes: list[Outcome | None] = [None] * len(recipients)
    enough = loop.create_future()

    async def ask(place: int, to: Recipient) -> None:
        outcome = await _ask(among, to, method, args, timeout, domain, meta, electorate, _doubter(outcomes, place, to))
        if outcomes[place] is None:
            outcomes[place] = outcome
        if mode == "first" and outcome.status == "ok" and not enough.done():
            enough.set_result(None)

    tasks = [loop.create_task(ask(place, to)) for place, to in enumerate(recipients)]
    everyone = asyncio.gather(*tasks, return_exceptions=True)  # Those that are cut off below, too.
    try:
        await (everyone if mode != "first" else asyncio.wait((everyone, enough), return_when=asyncio.FIRST_COMPLETED))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return [found or Outcome(to.member, "cancelled") for found, to in zip(outcomes, recipients, strict=True)]


def _doubter(outcomes: list[Outcome | None], place: int, to: Recipient) -> Callable[[], None]:
    """Return what replaces an outcome when its recipient answers again while others are waited for."""

    def doubt() -> None:
        said = f"{to.member} answered twice: none of it can be trusted"
        outcomes[place] = Outcome(to.member, "error", code=errors.AnsweredTwice.code, message=said)

    return doubt


def _status(error: errors.CallboardError) -> Status:
    if error.data.get("ran") == "yes":
        return "error"  # The method's own, whatever it met where it asked others.
    if isinstance(error, errors.DeadlineExceeded):
        return "timeout"
    return "unreachable" if isinstance(error, errors.Unreachable | errors.ConnectionLost | errors.WireRefused) else "error"


async def _ask(
    among: peers.Peers,
    to: Recipient,
    method: str,
    args: bytes,
    timeout: float,
    domain: str,
    meta: dict[str, str] | None,
    electorate: frames.Electorate | None,
    again: Callable[[], None],
) -> Outcome:
    try:
        answer = await among.request(
            to.address,
            label=to.label,
            domain=domain,
            method=method,
            args=args,
            timeout=timeout,
            incarnation=to.address.incarnation,
            meta=meta,
            electorate=electorate,
            again=again,
        )
    except errors.CallboardError as error:
        return Outcome(to.member, _status(error), code=error.code, message=error.message)
    if isinstance(answer, frames.Elsewhere):
        return Outcome(to.member, "elsewhere", message=answer.chosen)
    return Outcome(to.member, "ok", result=answer)
