"""Messages that mean harm, or are broken in ways that no honest sender breaks them: each goes aside, and the next one runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from callboard import errors
from callboard.app import Callboard
from callboard.testing.engines import activemq as activemqs
from tests.engines import bridging
from tests.engines.bridging import Bridged

MAIN = "callboard.main.default"


class Stage:
    def __init__(self) -> None:
        self.app = Callboard("b")
        self.begun: list[int] = []

        @self.app.job(lane="short")
        async def quick(n: int = 0) -> int:
            self.begun.append(n)
            return n


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
async def yard(eventually: Any, activemq: Any) -> AsyncIterator[Bridged]:
    async with bridging.bridged(eventually, activemq.url()) as made:
        yield made


FORGED = {
    "a length that is too short": {"content-length": "3"},
    "a length that is too long": {"content-length": "60"},
    "a length over every limit": {"content-length": "99999999999"},
    "a length that is none": {"content-length": "x"},
    "what acknowledges": {"ack": "x", "subscription": "y", "message-id": "z", "redelivered": "1"},
    "another destination": {"destination": "/queue/other", "timestamp": "-1", "expires": "x", "priority": "x"},
    "a reply to what is no name": {"reply-to": "/queue/a\0\n\nx", "correlation-id": "c\0\n\nd"},
    "line ends and colons": {"a:b\\c": "c\nd:e\r\\", "e": "\n\n\0MESSAGE\nack:1\n\n\0"},
}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED.keys())
async def test_forged_headers_stop_nothing(yard: Bridged, stage: Stage, activemq: Any, headers: dict[str, str]) -> None:
    """Whoever speaks to the broker by its own API names any property he likes, and a broker writes them between its headers."""
    node = await yard.node(stage.app)
    await asyncio.to_thread(activemq.send_text, MAIN, '{"kind": "b.quick", "args": {"n": 1}}', headers)
    teller = await yard.teller()
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 2}})
    await yard.until(lambda: 2 in stage.begun)
    await yard.until(lambda: activemq.queue(MAIN).size == 0)
    (feed,) = node.bridge._feeds
    assert feed.connections <= (2 if "99999999999" in headers.values() else 1)
    assert not node.bridge.wants_restart


async def test_a_frame_that_a_name_of_a_property_cuts_in_two_is_said(
    yard: Bridged, stage: Stage, activemq: Any, caplog: Any
) -> None:
    """The broker escapes values, not names: the frame ends where the sender likes, before what acknowledges it."""
    await yard.node(stage.app)
    cut = {"x\n\n\0MESSAGE\nack:1": "y"}
    await asyncio.to_thread(activemq.send_text, MAIN, '{"kind": "b.quick", "args": {"n": 1}}', cut)
    teller = await yard.teller()
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 2}})
    await yard.until(lambda: 2 in stage.begun)
    await yard.until(lambda: activemq.queue(MAIN).size == 1)
    await yard.until(lambda: "cannot be acknowledged" in caplog.text or "Unexpected ACK" in caplog.text)


async def test_headers_that_are_too_large_stop_nothing(yard: Bridged, stage: Stage, activemq: Any) -> None:
    node = await yard.node(stage.app)
    teller = await yard.teller()
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 1}}, {f"h{n}": "x" * 9_000 for n in range(12)})
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 2}})
    await yard.until(lambda: 2 in stage.begun)
    await yard.until(lambda: activemq.queue(MAIN).size == 0)
    assert node.bridge.stats()["dead_letters"] == 1
    assert node.bridge._feeds[0].connections == 1


async def test_a_reason_cannot_end_its_frame(yard: Bridged, stage: Stage, activemq: Any) -> None:
    await yard.node(stage.app)
    teller = await yard.teller()
    teller.link.subscribe(f"DLQ.{MAIN}", 10)
    await teller.send(MAIN, b'{"kind": "b.quick", "\\u0000\\nSEND\\n\\n": 1}')
    await teller.send(MAIN, {"kind": "b.quick", "args": {"n": 2}})
    await yard.until(lambda: 2 in stage.begun)
    await yard.until(lambda: len(teller.found) == 1)
    assert teller.found[0].headers["callboard-reason"].startswith("invalid_input: the body is not JSON")
    assert teller.found[0].headers["callboard-destination"] == MAIN
    await yard.until(lambda: activemq.queue(MAIN).size == 0)


@pytest.mark.long
async def test_a_bad_message_in_a_full_broker_does_not_keep_it_full(yard: Bridged, stage: Stage) -> None:
    """A letter to the dead waits for room, on the very connection whose acknowledgements would make some."""
    with activemqs.Broker(store_megabytes=24) as full:
        teller = await yard.teller(full.url())
        await teller.send(MAIN, b"garbage")
        sent = 0
        with contextlib.suppress(errors.BrokerUnavailable):
            for n in range(1, 400):
                filler = {"kind": "b.quick", "args": {"n": n}, "meta": {"x": "y" * 4_000}}
                await teller.link.send(MAIN, msgspec.json.encode(filler), {"filler": "z" * 9_000}, seconds=2)
                sent = n
            for _ in range(40):
                await teller.link.send("shop.full", b"x" * 900_000, seconds=2)
        await yard.node(stage.app, urls=[full.url()])
        await yard.until(lambda: len(set(stage.begun)) >= sent, 30)
        await yard.until(lambda: full.queue(MAIN).size == 0, 30)
