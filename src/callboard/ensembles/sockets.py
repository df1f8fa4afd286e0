"""The sockets under the client library: encryption, waiting that costs little, and what went wrong, in words.

The library waits with a new selector each time, which does not see what TLS has already decrypted; here it is one `poll`.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final

from kazoo.handlers import threading as threads

from callboard import errors
from callboard.ensembles import address
from callboard.kit import urls

_READ: Final = select.POLLIN | select.POLLPRI


class Sockets(threads.SequentialThreadingHandler):  # type: ignore[misc]  # The library has no types.
    """What the library takes threads and sockets from."""

    def __init__(self, encrypted: ssl.SSLContext | None) -> None:
        super().__init__()
        self._encrypted = encrypted
        self.patience_seconds = 1.0
        """How long a server has to accept a connection."""

    def create_connection(self, address: tuple[str, int], hostname: str = "", **_: Any) -> socket.socket:
        """Connect. Raises OSError, of which TLS's errors are some."""
        made = socket.create_connection(address, self.patience_seconds)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._encrypted.wrap_socket(made, server_hostname=hostname) if self._encrypted else made
        except BaseException:
            made.close()
            raise

    def select(
        self, readers: Sequence[Any], writers: Sequence[Any], _: Any, timeout: float | None = None
    ) -> tuple[Any, Any, Any]:
        """Wait until a socket can be read or written, as `select.select` does."""
        ready = [each for each in readers if isinstance(each, ssl.SSLSocket) and each.pending()]
        poll = select.poll()
        for each in readers:
            poll.register(each, _READ)
        for each in writers:
            poll.register(each, select.POLLOUT)
        seen = dict(poll.poll(0 if ready else None if timeout is None else max(timeout, 0) * 1000))
        read = [each for each in readers if each in ready or each.fileno() in seen]
        return read, [each for each in writers if each.fileno() in seen], []


def cut(made: socket.socket | None) -> None:
    """Break a connection, from any thread; who waits for it sees its end."""
    if made is not None:
        with contextlib.suppress(OSError):  # It is closed already.
            socket.socket.shutdown(made, socket.SHUT_RDWR)


def encryption(of: address.Address) -> ssl.SSLContext | None:
    """Return how connections are encrypted, None where they are not. Raises InvalidSetting for files that cannot be used."""
    if not of.tls:
        return None
    made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    for option in ("ca", "cert", "key"):
        given = of.options.get(option)
        try:
            if given:
                open(given, "rb").close()
        except OSError as error:
            raise errors.InvalidSetting(
                f"{option}={given} of {of.shown} cannot be read ({error.strerror}): name a file"
            ) from None
    try:
        if "ca" in of.options:
            made.load_verify_locations(of.options["ca"])
        if "cert" in of.options:
            made.load_cert_chain(of.options["cert"], of.options["key"], password=lambda: "")
    except OSError as error:
        why = f"ca, cert or key of {of.shown} are no certificates and key in PEM ({_reason(error)})"
        raise errors.InvalidSetting(f"{why}: keys must not have a passphrase") from None
    return made


def described(place: str, error: BaseException) -> str:
    """Say in a few words why a server could not be used."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message.rstrip(".").lower()
        return f"TLS with {place}: its certificate does not do ({why}): look at ca= and at the name in the URL"
    if isinstance(cause, ssl.SSLError) and "ALERT" in _said(cause):
        return f"TLS with {place}: {_reason(cause)}: it may ask for a certificate (cert=, key=), or for another one"
    if isinstance(cause, ssl.SSLError):
        return f"TLS with {place}: {_reason(cause)}: it may speak no TLS there, take its secure port or drop tls=true"
    if isinstance(error, threads.KazooTimeoutError | TimeoutError) or isinstance(cause, TimeoutError):
        return f"{place} is silent"
    return f"{place}: {(cause.strerror or type(cause).__name__).lower()}" if cause else f"{place} cut the connection"


def misfit(error: BaseException) -> bool:
    """Whether an error says that TLS will never do as we are, unlike one of a server that is about to die."""
    cause = _cause(error)
    return isinstance(cause, ssl.SSLError) and any(each in _said(cause) for each in ("ALERT", "VERIFY", "WRONG_VERSION"))


def _cause(error: BaseException) -> OSError | None:
    """Return what the socket said; the library wraps it."""
    return next((each for each in (error, error.__cause__, error.__context__) if isinstance(each, OSError)), None)


def mistaken(of: address.Address) -> str:
    """Say what is wrong with the way to servers that only cut connections, where that can be found out; else nothing."""
    if not of.tls and (found := next((each for each in of.hosts if _speaks_tls(each)), None)):
        return f"{urls.written(found)} speaks TLS: add ?tls=true to the URL, or take another port"
    return ""


def _speaks_tls(host: urls.Host, seconds: float = 0.5) -> bool:
    """Whether a server answers TLS's greeting, whatever it then thinks of us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection(host, seconds) as made, context.wrap_socket(made):
            return True
    except ssl.SSLError as error:
        return "ALERT" in _said(error)
    except OSError:
        return False


def _said(error: ssl.SSLError) -> str:
    """TLS's own name for what went wrong; empty where it has none."""
    return getattr(error, "reason", None) or ""


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or type(error).__name__).lower().replace("_", " ")
