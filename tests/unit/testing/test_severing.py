"""The proxy that breaks connections at a word."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from callboard.testing import severing


class Echo:
    """A server that answers with what it hears, and remembers it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard: list[bytes] = []
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            while said := connection.recv(100):
                self.heard.append(said)
                connection.sendall(said)
        self.ended.release()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.listener.shutdown(socket.SHUT_RDWR)
    echo.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[severing.Proxy]:
    with severing.Proxy(echo.port) as proxy:
        yield proxy


def said(on: socket.socket, words: bytes) -> bytes:
    """What comes back; nothing when the connection is broken."""
    try:
        on.sendall(words)
        return on.recv(100)
    except ConnectionError:
        return b""


def connected(proxy: severing.Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def test_everything_is_handed_on(proxy):
    with connected(proxy) as on:
        assert said(on, b"one") == b"one"
        assert said(on, b"two") == b"two"


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("silently", [True, False])
def test_it_breaks_at_a_word_once(echo, proxy, answered, silently):
    with connected(proxy) as on:
        assert said(on, b"one") == b"one"
        proxy.cut_at(b"word", answered=answered, silently=silently)
        assert said(on, b"a word, too") == b""
    assert proxy.cuts == 1
    assert echo.heard == ([b"one", b"a word, too"] if answered else [b"one"])
    assert echo.ended.acquire(timeout=0.1 if silently else 5) is not silently
    with connected(proxy) as on:
        assert said(on, b"word") == b"word"


def test_silence_keeps_connections_open(proxy):
    with connected(proxy) as on:
        assert said(on, b"one") == b"one"
        proxy.silence()
        on.settimeout(0.1)
        with pytest.raises(TimeoutError):
            said(on, b"two")
        proxy.speak()
        on.settimeout(5)
        assert said(on, b"three") == b""
    with connected(proxy) as on:
        assert said(on, b"four") == b"four"


def test_a_closed_listener_refuses_new_connections(proxy):
    with connected(proxy) as on:
        assert said(on, b"one") == b"one"
        proxy.close_listener()
        with pytest.raises(ConnectionError):
            connected(proxy)
        assert said(on, b"two") == b"two"
        proxy.close()
        proxy.close()
        assert said(on, b"three") == b""


def test_silence_begins_with_the_last_cut(proxy):
    proxy.cut_at(b"word", answered=False, last=True)
    with connected(proxy) as on:
        assert said(on, b"word") == b""
    with connected(proxy) as on:
        on.settimeout(0.1)
        with pytest.raises(TimeoutError):
            said(on, b"anything")
