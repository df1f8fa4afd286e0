"""One connection that speaks STOMP, on an event loop: TCP or TLS, login, heartbeats, silence noticed.

stomp.py makes the frames that are sent; asyncio carries them instead of the library's threads, of which each message would
need a way into the loop. Who asks for what is `link`'s.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from stomp import protocol, utils
from stomp import transport as transports

from callboard import errors
from callboard.brokers import address as addresses
from callboard.brokers import frames
from callboard.kit import urls

TICK_SECONDS: Final = 0.5
OWN_BEAT_MILLISECONDS: Final = 10_000
"""How often we promise to say something: a broker gives up a frozen process after that."""
BEAT_TICKS: Final = 6
"""How often we do, in ticks: every three seconds, so that a busy event loop keeps the promise."""
THEIR_BEAT_MILLISECONDS: Final = 1_000
"""How often the broker is asked to say something."""
SILENT_TICKS: Final = 8
"""After so many ticks without a word the broker counts as frozen. Ticks, not seconds: a stall of this process is one tick."""
MOST_NONSENSE: Final = 1_000
"""So many pieces that are no frames, without a frame among them, are not a text with NULs in it any more."""


class Wire(asyncio.Protocol):
    """One connection. `received` gets the frames that arrived together, `lost` why it ended, once, unless `close` was called."""

    def __init__(self, host: urls.Host, most_bytes: int) -> None:
        self.host = host
        self.received: Callable[[list[frames.Frame]], None] = lambda found: None
        self.lost: Callable[[str], None] = lambda why: None
        self.greeting: asyncio.Future[frames.Frame] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self.closed = asyncio.Event()
        self.stomp = protocol.Protocol12(_Sender(self.write, host), auto_content_length=False)
        self._splitter = frames.Splitter(most_bytes)
        self._transport: Any = None
        self._ended = False
        self._ticking: asyncio.TimerHandle | None = None
        self._silent_ticks = 0
        self._ticks = 0
        self._judged = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if (over := transport.get_extra_info("socket")) is not None:
            over.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._silent_ticks = 0
        before = self._splitter.nonsense
        try:
            found = self._splitter.feed(data)
        except frames.Malformed as error:
            self.end(f"{urls.written(self.host)} sends what is no STOMP: {error}")
            return
        if self._splitter.nonsense != before and not self._sensible(found):
            return
        if not self.greeting.done() and found:
            self.greeting.set_result(found.pop(0))
        if found:
            self.received(found)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        why = f"{urls.written(self.host)} closed the connection" + (f" ({_line(exc)})" if exc else "")
        if isinstance(exc, ssl.SSLError) and not self.greeting.done():
            self.greeting.set_exception(exc)
        self.end(why)
        self.closed.set()

    def write(self, piece: bytes) -> None:
        """Send bytes; what is sent after the end is dropped."""
        if not self._ended:
            self._transport.write(piece)

    def beat(self, headers: dict[str, str]) -> None:
        """Keep the promise of heartbeats; judge silence when the broker promised some. `headers` are those of its greeting."""
        theirs = headers.get("heart-beat", "0,0").partition(",")[0].strip()
        self._judged = theirs.isdigit() and int(theirs) > 0
        self._ticking = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def end(self, why: str) -> None:
        """Give the connection up at once, and tell why. Allowed twice: the first reason counts."""
        if self._ended:
            return
        self._stop()
        if not self.greeting.done():
            self.greeting.set_exception(ConnectionResetError(why))
        self.lost(why)

    def close(self) -> None:
        """Give the connection up at once, and tell nobody. Allowed twice."""
        if not self._ended:
            self._stop()
            self.greeting.cancel()

    def _stop(self) -> None:
        self._ended = True
        self.writable.set()
        if self._ticking is not None:
            self._ticking.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _tick(self) -> None:
        self._ticks += 1
        self._silent_ticks += 1
        if self._judged and self._silent_ticks > SILENT_TICKS:
            self.end(f"{urls.written(self.host)} has said nothing for {SILENT_TICKS * TICK_SECONDS:g} s")
            return
        if self._ticks % BEAT_TICKS == 0:
            self.write(b"\n")
        self._ticking = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _sensible(self, found: list[frames.Frame]) -> bool:
        """Whether to go on though pieces came that are no frames."""
        if found and self.greeting.done():
            self._splitter.nonsense = 0
        if not self.greeting.done() and not found:
            self.end(f"what answers at {urls.written(self.host)} does not speak STOMP")
        elif self._splitter.nonsense > MOST_NONSENSE:
            self.end(f"{urls.written(self.host)} sends what is no STOMP")
        return not self._ended


class _Sender(transports.BaseTransport):  # type: ignore[misc]  # Says nothing of its types.
    """What stomp.py's protocol sends its frames through."""

    def __init__(self, write: Callable[[bytes], None], host: urls.Host) -> None:
        super().__init__(auto_decode=False)
        self.vhost = None
        self.current_host_and_port = host
        self._write = write

    def transmit(self, frame: Any) -> None:
        self._write(utils.pack(utils.convert_frame(frame)))


async def opened(address: addresses.Address, host: urls.Host, seconds: float, most_bytes: int) -> Wire:
    """Return a connection to this host that is logged in and beats. Raises BrokerRefused, BrokerUnavailable, InvalidSetting."""
    loop = asyncio.get_running_loop()
    wire: Wire | None = None
    try:
        async with asyncio.timeout(seconds):
            given: dict[str, Any] = {}
            if address.tls:
                given = {"ssl": context(address), "server_hostname": host[0], "ssl_handshake_timeout": seconds * 0.8}
            _, wire = await loop.create_connection(lambda: Wire(host, most_bytes), *host, **given)
            login = {"username": address.user, "passcode": address.password} if address.user else {}
            beats = f"{OWN_BEAT_MILLISECONDS},{THEIR_BEAT_MILLISECONDS}"
            wire.stomp.connect(**login, headers={"heart-beat": beats})
            greeting = await wire.greeting
    except errors.CallboardError:
        raise
    except (OSError, ssl.SSLError, ValueError) as error:  # The last for a name that no host can have.
        if wire is not None:
            wire.close()
        raise _failure(address, host, error, connected=wire is not None) from None
    except BaseException:
        if wire is not None:
            wire.close()
        raise
    if greeting.command != "CONNECTED":
        wire.close()
        raise _refusal(address, host, said(greeting))
    wire.beat(greeting.headers)
    return wire


def context(address: addresses.Address) -> ssl.SSLContext:
    """Return what TLS needs to know. Raises InvalidSetting for files that cannot be used."""
    try:
        made = ssl.create_default_context(cafile=address.ca or None)
        if address.cert:
            made.load_cert_chain(address.cert, address.key or None, password=lambda: "")  # Never asked for at a terminal.
    except OSError as error:
        named = ", ".join(each for each in (address.ca, address.cert, address.key) if each)
        raise errors.InvalidSetting(f"{address.shown}: certificates cannot be read from {named}: {_line(error)}") from None
    return made


def said(frame: frames.Frame) -> str:
    """Return what an ERROR frame says, in a line."""
    words = frame.headers.get("message") or frame.body.decode("utf-8", "replace").strip().partition("\n")[0]
    return _line(words) or "an error without words"


def _refusal(address: addresses.Address, host: urls.Host, words: str) -> errors.BrokerRefused:
    who = f"the user {address.user}" if address.user else "nobody without a password"
    return errors.BrokerRefused(
        f"the message broker at {urls.written(host)} does not let in {who} ({words}): check user and password in its URL"
    )


def _failure(address: addresses.Address, host: urls.Host, error: Exception, *, connected: bool) -> errors.BrokerError:
    """Say why there is no connection, and what to look at."""
    where = f"the message broker at {urls.written(host)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or _line(error)
        return errors.BrokerRefused(f"{where} shows a certificate that is not trusted ({why}): name who signed it: &ca=FILE")
    if isinstance(error, ssl.SSLError):
        if "CERTIFICATE" in str(error).upper() or "HANDSHAKE_FAILURE" in str(error).upper():
            return errors.BrokerRefused(f"{where} wants another certificate of ours ({_line(error)}): give &cert=FILE&key=FILE")
        return errors.BrokerRefused(f"{where} does not speak TLS ({_line(error)}): leave out tls=true, or name its TLS port")
    if isinstance(error, ConnectionAbortedError | TimeoutError) and address.tls and not connected:  # Either deadline was first.
        return errors.BrokerUnavailable(f"{where} does not answer in TLS: is this port one with TLS, and does the broker live?")
    if isinstance(error, TimeoutError):
        how = "accepts connections but says nothing" if connected else "does not answer"
        return errors.BrokerUnavailable(f"{where} {how}: is it alive, and is its port for STOMP (usually {addresses.PORT})?")
    if connected and isinstance(error, ConnectionError):
        hint = "that port wants TLS, add ?tls=true"
        if address.tls:
            known = "it must know who signed ours" if address.cert else "add &cert=FILE&key=FILE"
            hint = f"it asks for a certificate, {known}"
        return errors.BrokerUnavailable(f"{where} ended the connection before it let us in: {_line(error)}; if {hint}")
    return errors.BrokerUnavailable(f"{where} is out of reach: {_line(error)}")


def _line(words: object) -> str:
    return " ".join(str(words).split())[:300]
