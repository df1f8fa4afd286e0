"""A TCP proxy that breaks connections at a chosen moment: before or after a word of the client's reached the server.

    with severing.Proxy(port) as proxy:
        proxy.cut_at(b"COMMIT", answered=True)   # The server commits, its answer is lost.

Threads, so that it serves blocking clients of the same process. It speaks no protocol: a word is looked for in what arrives at
once.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Final, Self

_BYTES: Final = 1 << 16
_ANSWER_SECONDS: Final = 10.0


class Proxy:
    """Listens on a port of loopback, hands everything on to `port` of the same machine."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        """How many connections were broken at a word."""
        self._word: tuple[bytes, bool, bool, bool] | None = None
        self._times_left = 0
        self._pairs: set[_Pair] = set()
        self._lock = threading.Lock()
        self._silent = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, word: bytes, *, answered: bool, silently: bool = False, last: bool = False, time: int = 1) -> None:
        """Break the next connection that says `word`, once; or the one that says it for the second time from now, or a later one.

        `answered`: the server has worked and answered, and the answer is kept from the client; otherwise it never hears the word.
        `silently`: the server is not told that the connection is gone, as when a network is cut.
        `last`: from that moment on it is as after `silence`, so that nobody comes back by another connection.
        """
        with self._lock:
            self._word, self._times_left = (word, answered, silently, last), time

    def silence(self) -> None:
        """Hand nothing on any more, on old and new connections; all stay open."""
        self._silent = True

    def speak(self) -> None:
        """Take up new connections again. What was said in silence is lost, with the connections it was said on."""
        self.cut()
        self._silent = False

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()

    def close_listener(self) -> None:
        """Refuse new connections; old ones stay. Allowed twice."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """Break all connections, listen no more. Allowed twice."""
        self.close_listener()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=1)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = _Pair(client, server)
        with self._lock:
            self._pairs.add(pair)
        kept = False
        try:
            kept = self._pump(pair)
        finally:
            if not kept:
                pair.close()
                with self._lock:
                    self._pairs.discard(pair)

    def _pump(self, pair: _Pair) -> bool:
        """Hand on until one side ends; whether the server's side stays open."""
        with contextlib.suppress(OSError, ValueError):
            while True:
                for readable in select.select([pair.client, pair.server], [], [])[0]:
                    said = readable.recv(_BYTES)
                    if not said:
                        return False
                    if self._silent:
                        continue
                    if readable is pair.server:
                        pair.client.sendall(said)
                    elif (word := self._heard(said)) is None:
                        pair.server.sendall(said)
                    else:
                        return self._break(pair, said, *word)
        return False

    def _heard(self, said: bytes) -> tuple[bool, bool] | None:
        with self._lock:
            if self._word is None or self._word[0] not in said:
                return None
            self._times_left -= 1
            if self._times_left:
                return None
            _, answered, silently, last = self._word
            self._word = None
            self._silent = self._silent or last
            self.cuts += 1
            return answered, silently

    def _break(self, pair: _Pair, said: bytes, answered: bool, silently: bool) -> bool:
        if answered:
            pair.server.sendall(said)
            pair.server.settimeout(_ANSWER_SECONDS)
            pair.server.recv(_BYTES)
        if silently:
            pair.client.close()
        return silently


class _Pair:
    """Both sides of a connection."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server

    def close(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()
