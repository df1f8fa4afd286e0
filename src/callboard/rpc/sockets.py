"""The real network: WebSocket messages over TCP, bare on one machine, over mutual TLS between servers.

Behind the seam of `network`. On one machine the secret in the greeting tells who may talk; between servers the certificates
do: both sides show one of the cluster's, and the dialled one must carry the name of the server that was dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import picows
import structlog

from callboard import errors
from callboard.kit import clock, telemetry
from callboard.rpc import network

PATH: Final = "/callboard"
CLOSE_SECONDS: Final = 1.0
"""How long what was sent last may take to leave after `close`; then it is dropped."""
UPGRADE_SECONDS: Final = 5.0
"""How long a stranger may take to ask for a WebSocket."""

log = structlog.get_logger()


class Tls(msgspec.Struct, frozen=True):
    """What both directions need of certificates."""

    listening: ssl.SSLContext
    dialling: ssl.SSLContext

    @classmethod
    def load(cls, authority: Path, certificate: Path, key: Path) -> Tls:
        """Read the cluster's certificate and this server's own with its key, all PEM. Raises WrongCertificate."""
        if missing := [str(each) for each in (authority, certificate, key) if not each.exists()]:
            raise errors.WrongCertificate(
                f"there is no {' and no '.join(missing)}: copy there what 'callboard certs issue' made for this server"
            )
        made = []
        for purpose in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(purpose)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(authority)
                context.load_cert_chain(certificate, key)
            except OSError as error:
                named = ", ".join(map(str, (authority, certificate, key)))
                raise errors.WrongCertificate(f"certificates cannot be read from {named}: {error}") from None
            made.append(context)
        return cls(*made)

    def check(self, server: str) -> None:
        """Shake hands with oneself: whoever would be refused by its like hears it now. Raises WrongCertificate."""
        there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
        both = [
            self.dialling.wrap_bio(there, here, server_hostname=server),
            self.listening.wrap_bio(here, there, server_side=True),
        ]
        for each in both * 3:  # Hello and answer, proof and its check; the rest is for good measure.
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                raise errors.WrongCertificate(
                    f"this server's own certificate is none of server {server} in this cluster: {_said(error)}: issue it anew, by"
                    " the authority whose certificate lies beside it"
                ) from None


class Sockets:
    """The network of a node. On one event loop."""

    def __init__(self, tls: Tls | None = None, time: clock.Clock | None = None) -> None:
        self._tls = tls
        self._refusals = telemetry.Seldom(time or clock.SystemClock())
        self._log = logging.Logger("websocket", logging.WARNING)
        self._log.addHandler(_Bounded(self._refusals))
        if tls is not None:
            tls.listening.sslobject_class = _watching(self._refused)
            tls.dialling.sslobject_class = _watching(lambda _error: None)

    async def listen(self, host: str, port: int, accept: network.Accept) -> _Listener:
        """Open a port. Raises PortInUse, StartupError."""
        try:
            server = await picows.ws_create_server(
                lambda request: _Link(accept()) if request.path == PATH.encode() else None,
                host,
                port,
                ssl=self._tls.listening if self._tls is not None else None,
                max_frame_size=network.MAX_MESSAGE,
                websocket_handshake_timeout=UPGRADE_SECONDS,
                logger_name=self._log,
                use_aiofastnet=False,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise errors.PortInUse(f"another process listens on port {port} of {host}: choose another one") from None
            raise errors.StartupError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        return _Listener(server)

    async def dial(self, address: network.Address, receiver: network.Receiver) -> None:
        """Open a link. Raises Unreachable, WrongCertificate."""
        where = f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
        link = _Link(receiver)
        try:
            transport = await self._connect(link, where, address.server or address.host)
        except ssl.SSLError as error:
            raise self._wrong(address.server, where, _said(error)) from None
        except (OSError, picows.WSError) as error:
            raise errors.Unreachable(f"node {address.incarnation} at {where} does not answer: {error}") from None
        if not link.opened and self._tls is None:
            raise errors.Unreachable(f"node {address.incarnation} at {where} closed the connection at once")
        if not link.opened:
            trouble = getattr(transport.underlying_transport.get_extra_info("ssl_object"), "trouble", None)
            raise self._wrong(address.server, where, _said(trouble) if trouble else "it hung up after it was shown this one's")

    async def _connect(self, link: _Link, where: str, server: str) -> picows.WSTransport:
        named: dict[str, Any] = {"server_hostname": server} if self._tls is not None else {}
        transport, _ = await picows.ws_connect(
            lambda: link,
            f"{'ws' if self._tls is None else 'wss'}://{where}{PATH}",
            ssl_context=self._tls.dialling if self._tls is not None else None,
            max_frame_size=network.MAX_MESSAGE,
            websocket_handshake_timeout=UPGRADE_SECONDS,
            logger_name=self._log,
            max_redirects=0,
            use_aiofastnet=False,
            **named,
        )
        return transport

    def _wrong(self, server: str, where: str, why: str) -> errors.WrongCertificate:
        said = f"server {server} at {where} and this one do not accept each other's certificates: {why}"
        self._refusals.warning("a server is refused", code=errors.WrongCertificate.code, why=said)
        return errors.WrongCertificate(said)

    def _refused(self, error: ssl.SSLError) -> None:
        self._refusals.warning("a server is refused", code=errors.WrongCertificate.code, why=_said(error))


def _said(error: ssl.SSLError) -> str:
    return getattr(error, "verify_message", "") or (error.reason or str(error)).lower().replace("_", " ")


def _watching(refused: Callable[[ssl.SSLError], None]) -> type[ssl.SSLObject]:
    """Return a class of TLS connections that tell why they fail: event loops keep it to themselves."""

    class Watched(ssl.SSLObject):
        trouble: ssl.SSLError | None = None

        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                refused(error)
                raise

        def read(self, len: int = 1024, buffer: Any = None) -> Any:
            try:
                return super().read(len, buffer)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                self.trouble = error  # The other side refused the certificate after this side's part was done.
                raise

    return Watched


class _Bounded(logging.Handler):
    """Takes what picows says of links that break its rules, which strangers can cause as often as they like."""

    def __init__(self, refusals: telemetry.Seldom) -> None:
        super().__init__()
        self._refusals = refusals

    def emit(self, record: logging.LogRecord) -> None:
        self._refusals.warning("a link is refused", code=errors.MalformedFrame.code, why=record.getMessage())


class _Listener:
    """An open port."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.host, self.port = server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        self._server.close()


class _Link(picows.WSListener):
    """One WebSocket: `network.Link` to its receiver, a listener to picows."""

    def __init__(self, receiver: network.Receiver) -> None:
        self._receiver = receiver
        self._transport: picows.WSTransport | None = None
        self._open = False
        self.opened = False
        self._stuck = False
        self._why = "the other side closed it"
        self.peer_server = ""

    # Towards the owner.

    def send(self, message: bytes) -> None:
        if self._open and self._transport is not None:
            self._transport.send(picows.WSMsgType.BINARY, message)

    def close(self) -> None:
        if self._open and self._transport is not None:
            self._why = "it was closed here"
            self._transport.disconnect(not self._stuck)
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._abort, self._transport)

    # From picows.

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        self._open = self.opened = True
        self.peer_server = _server(transport.underlying_transport.get_extra_info("peercert"))
        self._receiver.connected(self)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if transport.is_close_frame_sent:
            return  # It broke the rules: what looks like messages after that may be the inside of a larger one.
        if frame.msg_type is not picows.WSMsgType.BINARY or not frame.fin:
            transport.disconnect()
            return
        try:
            self._receiver.received(frame.get_payload_as_bytes())
        except Exception:
            log.exception("a message could not be handled")
            transport.disconnect(False)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self._open = False
        self._transport = None
        self._receiver.closed(self._why)

    def pause_writing(self) -> None:
        self._stuck = True
        self._receiver.paused()

    def resume_writing(self) -> None:
        self._stuck = False
        self._receiver.resumed()

    def _abort(self, transport: picows.WSTransport) -> None:
        with contextlib.suppress(Exception):
            transport.disconnect(False)


def _server(certificate: dict[str, Any] | None) -> str:
    names = (certificate or {}).get("subjectAltName", ())
    return next((value for kind, value in names if kind == "DNS"), "")
