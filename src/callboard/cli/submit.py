"""`callboard submit`: one job, and its result if somebody wants to wait for it."""

from __future__ import annotations

import math
import os
import sys
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from callboard import brokers, client, errors
from callboard.cli import access, exits, output, values
from callboard.client import calls
from callboard.http import shapes
from callboard.jobs import model, submission
from callboard.kit import clock, grammar, uuid7


async def submit(
    kind: Annotated[str, Parameter(help="Kind of the job, like images.thumbnail.")],
    /,
    *arguments: Annotated[str, Parameter(help="Its arguments, each as name=value; a value that is JSON counts as such.")],
    wait: Annotated[bool, Parameter(help="Wait for the end; print the result.")] = False,
    within: Annotated[float | None, Parameter(help="With --wait: seconds to wait at the most.")] = None,
    delay: Annotated[float | None, Parameter(help="Seconds until it may start.")] = None,
    run_at: Annotated[str | None, Parameter(help="When it may start, like 2030-01-31T12:00:00+01:00.")] = None,
    priority: Annotated[int | None, Parameter(help="0 (first) to 9 (last).")] = None,
    queue: Annotated[str | None, Parameter(help="Queue to put it into.")] = None,
    lane: Annotated[Literal["short", "long"] | None, Parameter(help="Whether it is short work or long work.")] = None,
    tag: Annotated[tuple[str, ...], Parameter(help="A tag; may be repeated.")] = (),
    meta: Annotated[tuple[str, ...], Parameter(help="A carried fact, as name=text; may be repeated.")] = (),
    attempts: Annotated[int | None, Parameter(help="Attempts in all.")] = None,
    backoff: Annotated[float | None, Parameter(help="Seconds before the second attempt; doubles.")] = None,
    attempt_seconds: Annotated[float | None, Parameter(name="--timeout", help="Seconds that one attempt may take.")] = None,
    version: Annotated[int | None, Parameter(help="Version of the arguments' shape.")] = None,
    id: Annotated[str | None, Parameter(help="A UUIDv7, to make repeating this harmless.")] = None,
    via: Annotated[
        str | None,
        Parameter(help="Send it as a message to this broker (activemq://…), for a bridge to take it. [$CALLBOARD_VIA]"),
    ] = None,
    destination: Annotated[str | None, Parameter(help="With --via: the broker's queue. [callboard.DOMAIN.QUEUE]")] = None,
    to: access.Access = access.HERE,
) -> int:
    """Submit a job. Once this returns, the job is stored durably; its id is printed.

    With --via it is a durable message in the broker then, and is stored when a bridge has a free slot for it.
    What is left out comes from the kind's declaration. With --wait, the result is printed as JSON, and the exit code is 1
    when the job fails.
    """
    if within is not None and not wait:
        raise errors.InvalidInput("--within says how long to --wait: give both")
    options: dict[str, Any] = {
        "id": id,
        "delay": delay,
        "run_at": _time(run_at),
        "priority": priority,
        "queue": queue,
        "lane": lane,
        "tags": tag or None,
        "meta": values.texts(meta, "--meta") or None,
        "attempts": attempts,
        "backoff": backoff,
        "timeout": attempt_seconds,
        "version": version,
    }
    given = {name: _finite(name, value) for name, value in options.items() if value is not None}
    args = values.arguments(arguments)
    via = _broker(via, to.url)
    if via is None and destination is not None:
        raise errors.InvalidInput("--destination is a queue of a broker: say which one with --via")
    if via is not None:
        if wait:
            raise errors.InvalidInput("--via cannot --wait: the store knows nothing of a job that is on its way")
        now = clock.SystemClock().now()
        given = {"id": uuid7.text(uuid7.make(now)), "domain": to.domain, **given}
        return await _sent(via, destination, submission.Submission(kind=kind, args=args, **given), now, json=to.json)
    async with to.client() as gateways:
        receipt = await gateways.submit(kind, args, **given)
        if wait:
            return await _awaited(gateways, receipt, within, json=to.json)
        _acknowledge(receipt, json=to.json)
        await _warn(gateways, receipt)
    return exits.Exit.OK


def _broker(via: str | None, url: str | None) -> str | None:
    """Return the broker to send to, None for gateways: what was said here counts more than the environment."""
    if via is not None and url is not None:
        raise errors.InvalidInput("--via is a broker, --url are gateways: a job goes one way only, give one of them")
    return via or (None if url is not None else os.environ.get("CALLBOARD_VIA") or None)


async def _sent(url: str, destination: str | None, job: submission.Submission, now: int, *, json: bool) -> int:
    """Send a job through a broker; checked first, as far as it can be without the kind's declaration."""
    submission.build(job, {}, now)
    if destination is None:
        destination = f"callboard.{job.domain or grammar.DEFAULT_DOMAIN}.{job.queue or model.DEFAULT_QUEUE}"
    headers = {"callboard-id": str(job.id), "content-type": "application/json"}
    await brokers.send(url, destination, msgspec.json.encode(job), headers, access.TIMEOUT_SECONDS)
    if json:
        output.document({"id": job.id, "destination": destination})
    else:
        output.line(str(job.id))
    return exits.Exit.OK


def _finite(name: str, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise errors.InvalidInput(f"--{name} {value} is not a number of seconds: write it like 2.5")
    return value


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise errors.InvalidTime(f"--run-at {text!r:.60} is not a time: write it like 2030-01-31T12:00:00+01:00") from None
    if read.tzinfo is None:
        raise errors.InvalidTime(f"--run-at {text} has no offset from UTC: add 'Z' or '+02:00'")
    return read


def _acknowledge(receipt: shapes.Receipt, *, json: bool) -> None:
    if json:
        output.document(receipt)
    else:
        output.line(receipt.id)
    if not receipt.created:
        output.note("an equal job of this id was there already")


async def _warn(gateways: client.Client, receipt: shapes.Receipt) -> None:
    """Say when nobody would run it. It is stored whatever comes of asking."""
    try:
        job = await gateways.get(receipt.id, domain=receipt.domain)
    except errors.CallboardError:
        return
    if job.waiting_for:
        output.note(f"{output.plain(job.waiting_for)}: the job waits until one does")


async def _awaited(gateways: client.Client, receipt: shapes.Receipt, within: float | None, *, json: bool) -> int:
    if output.on_terminal(sys.stderr):
        output.note(f"job {receipt.id}")
    await _warn(gateways, receipt)
    try:
        job = await gateways.wait(receipt.id, within, domain=receipt.domain)
    except errors.WaitTimeout:
        raise errors.WaitTimeout(f"job {receipt.id} goes on after {within:g} s: see 'callboard job {receipt.id}'") from None
    if json:
        output.document(job)
    if job.state != "completed":
        raise calls.failed(job)
    if not json:
        output.document(job.result)
    return exits.Exit.OK
