"""What a feed tells others of: subscriptions that end, and bad messages that cannot be put aside."""

from __future__ import annotations

from typing import Any

import pytest

from callboard import errors
from callboard.brokers import address, link
from callboard.kit import urls
from callboard.roles.bridge import destinations, feed
from callboard.roles.bridge.feed import Delivery
from callboard.roles.bridge.window import Windows

MEANT = destinations.named("main", "default")


class Link:
    """An open link on which nothing happens by itself."""

    alive = True
    host: urls.Host = ("b", 1)

    def __init__(self) -> None:
        self.ids = 0
        self.unsent: Exception | None = None
        self.nacked: list[link.Message] = []

    def make(self, *_: object, **__: object) -> Link:
        return self

    async def open(self) -> None: ...

    def subscribe(self, destination: str, prefetch: int) -> str:
        self.ids += 1
        return f"{self.ids}"

    def unsubscribe(self, id: str) -> None: ...

    def ack(self, messages: object) -> None: ...

    def nack(self, messages: list[link.Message]) -> None:
        self.nacked += messages

    async def dead_letter(self, message: link.Message, reason: str, by: object) -> None:
        if self.unsent is not None:
            raise self.unsent

    async def close(self) -> None: ...

    async def link(self) -> Link:
        return self


class Yard:
    def __init__(self) -> None:
        self.looks = 0
        self.arrivals: list[Delivery] = []
        self.link = Link()
        self.windows: Windows[Delivery] = Windows(8)
        given: Any = (address.parsed("activemq://b:1"), [MEANT], self.windows, 8, self, self.link, self.link.make)
        self.feed = feed.Feed(*given)
        self.feed._link = self.link  # type: ignore[assignment]
        self.feed.open()

    def arrived(self, deliveries: list[Delivery]) -> None:
        self.arrivals += deliveries

    def look(self) -> None:
        """Whoever keeps slots for what the broker may send looks how many that are."""
        self.looks += not self.windows.all

    def arrive(self) -> Delivery:
        self.feed.received([link.Message("1", "a", "m", {}, b"{}", False)])
        return self.arrivals[-1]


@pytest.fixture
def yard() -> Yard:
    return Yard()


async def test_when_a_subscription_ends_slots_are_counted_anew(yard: Yard) -> None:
    yard.feed.shut()
    assert yard.looks == 1
    yard.feed.open()
    yard.feed.pause(frozenset({(MEANT.domain, MEANT.queue)}))
    assert yard.looks == 2
    yard.feed.pause(frozenset())
    yard.feed.refused("3", errors.BrokerRefused("give its user the right to read it"))
    assert yard.looks == 3
    await yard.feed.close()


async def test_a_letter_that_is_refused_is_said_with_one_mend(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    delivery = yard.arrive()
    why = "does not let us send to DLQ.callboard.main.default: give its user the right to write and make it"
    yard.link.unsent = errors.BrokerRefused(why)
    await yard.feed.dead_letter(delivery, "invalid_input: bad")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "bad messages go where" in line]
    assert why in line and line.count("give its user") == 1
    assert yard.link.nacked == [delivery.message]
    assert delivery.window.unacked == 0
