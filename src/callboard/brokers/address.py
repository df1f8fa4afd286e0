"""Where a message broker is: a URL taken apart. Pure.

    activemq://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][?OPTION=VALUE&…]

Several hosts are one broker and its stand-ins: one at a time is used, in their order. Options: `tls=true`, `ca=FILE` (who signed
the broker's certificate, if not one that the system trusts), `cert=FILE` and `key=FILE` (ours, where the broker asks for one).
What stands for itself in a URL (`@ : / ? # %`) is written %40 and so on.
"""

from __future__ import annotations

from typing import Final

import msgspec

from callboard import errors
from callboard.kit import urls

SCHEME: Final = "activemq"
PORT: Final = 61613
"""ActiveMQ's usual port for STOMP."""
OPTIONS: Final = ("tls", "ca", "cert", "key")
"""What may follow `?`: how the connection is encrypted."""

_FORM: Final = urls.Form(f"write {SCHEME}://USER:PASSWORD@HOST:PORT", PORT, OPTIONS)


class Address(msgspec.Struct, frozen=True):
    """A broker by its parts. Without a user nobody logs in."""

    hosts: tuple[urls.Host, ...]
    user: str = ""
    password: str = ""
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    @property
    def shown(self) -> str:
        """The URL without the password, for people."""
        return urls.shown(SCHEME, self.user, self.hosts)


def parsed(url: str) -> Address:
    """Take a URL apart. Raises InvalidSetting, in one line that shows no password."""
    if urls.scheme(url) != SCHEME:
        raise errors.InvalidSetting(f"a message broker's URL begins with {SCHEME}://")
    parts = _FORM.parts(url)
    if parts.login and not (parts.user and parts.password):
        raise _FORM.wrong("before the @ stand a user and a password")
    if parts.path.strip("/"):
        raise _FORM.wrong("nothing follows the hosts but ?OPTION=VALUE: destinations are named elsewhere")
    if not (parts.user + parts.password).isprintable():
        raise _FORM.wrong("a user and a password have no line ends or other control characters")
    encrypted = _FORM.encrypted(parts.options)
    if "key" in parts.options and "cert" not in parts.options:
        raise _FORM.wrong("a key needs its cert")
    return Address(
        hosts=parts.hosts,
        user=parts.user,
        password=parts.password,
        tls=encrypted,
        ca=parts.options.get("ca", ""),
        cert=parts.options.get("cert", ""),
        key=parts.options.get("key", ""),
    )
