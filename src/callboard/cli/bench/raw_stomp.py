"""The limit of a message broker's consumers: stomp.py alone takes messages, acknowledges each by itself. And what fills queues.

    python -m callboard.cli.bench.raw_stomp URL QUEUE

A process consumes until its standard input ends. How many messages went is asked at the broker, of this side and of the bridge's
alike.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import stomp

from callboard import errors
from callboard.brokers import address

PREFETCH: Final = 1_000
"""Messages in a consumer's hands: the broker never waits for its acknowledgements."""
_SENDERS: Final = 4
"""Connections that fill a queue: the broker forces each one's messages to its disk one by one, and those of several together."""
_PATIENCE_SECONDS: Final = 60.0


class Consumer(stomp.ConnectionListener):  # type: ignore[misc]  # The library has no types.
    """Acknowledges what arrives, at once, and tells nobody."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def on_message(self, frame: Any) -> None:
        self._connection.ack(frame.headers["ack"])


class Sender(stomp.ConnectionListener):  # type: ignore[misc]  # As above.
    """One connection that sends persistent messages."""

    def __init__(self, url: str, queue: str) -> None:
        self._queue = queue
        self._received = threading.Event()
        self._connection = _connected(url, self)

    def on_receipt(self, frame: Any) -> None:
        self._received.set()

    def send(self, bodies: Sequence[str], headers: Mapping[str, str] | None = None) -> None:
        """Send them; return when the broker has said that it has the last one, and so all."""
        self._received.clear()
        for number, body in enumerate(bodies, 1):
            asked = {"receipt": "last"} if number == len(bodies) else {}
            self._connection.send(f"/queue/{self._queue}", body, headers={"persistent": "true", **(headers or {}), **asked})
        if not self._received.wait(_PATIENCE_SECONDS):
            raise errors.StartupError(f"the broker has not taken the messages within {_PATIENCE_SECONDS:g} s")

    def close(self) -> None:
        self._connection.disconnect()


def fill(url: str, queue: str, body: str, messages: int) -> None:
    """Send so many messages with the same body."""

    def part() -> None:
        with contextlib.closing(Sender(url, queue)) as sender:
            sender.send([body] * (messages // _SENDERS))

    threads = [threading.Thread(target=part) for _ in range(_SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def consuming(url: str, queue: str) -> Iterator[None]:
    """Consume meanwhile, in threads of the library's."""
    connection = _connected(url)
    connection.set_listener("consumer", Consumer(connection))
    connection.subscribe(f"/queue/{queue}", id="1", ack="client-individual", headers={"activemq.prefetchSize": str(PREFETCH)})
    try:
        yield
    finally:
        connection.disconnect()


def _connected(url: str, listener: Any = None) -> Any:
    at = address.parsed(url)
    made = stomp.Connection12(list(at.hosts), auto_decode=False, auto_content_length=False)
    if listener is not None:
        made.set_listener("sender", listener)
    made.connect(at.user or None, at.password or None, wait=True)
    return made


if __name__ == "__main__":
    with consuming(sys.argv[1], sys.argv[2]):
        sys.stdin.read()
