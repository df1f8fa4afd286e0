"""Where an ensemble is: a URL taken apart. Pure.

    zookeeper://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/ROOT][?OPTION=VALUE&…]

What stands for itself in a URL (`@ : / ? # %`) is written %40 and so on. Options:

    auth=digest|sasl    how the user logs in; digest if not said
    tls=true            encrypted; the server's certificate must bear the name that stands in the URL
    ca=FILE             who signed the server's certificate, if it is none of those that this machine trusts
    cert=FILE key=FILE  the certificate to show to servers that ask for one
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from callboard.kit import urls

SCHEME: Final = "zookeeper"
DEFAULT_PORT: Final = 2181
DEFAULT_ROOT: Final = "/callboard"
OPTIONS: Final = ("auth", "tls", "ca", "cert", "key")
DIGEST: Final = "digest"
SASL: Final = "sasl"
_LIKE: Final = (
    f"write {SCHEME}://host1:2181,host2:2181,host3:2181/callboard, with USER:PASSWORD@ before the hosts where there is a login"
)
_ROOT: Final = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)+")


class Address(msgspec.Struct, frozen=True):
    """An ensemble and a place there, by its parts. `root` begins with a slash."""

    hosts: tuple[urls.Host, ...]
    root: str = DEFAULT_ROOT
    user: str = ""
    password: str = ""
    options: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    @property
    def places(self) -> str:
        """Hosts and ports, for the library and for people."""
        return urls.places(self.hosts)

    @property
    def shown(self) -> str:
        """The URL without the password and the options, for people."""
        return f"{urls.shown(SCHEME, self.user, self.hosts)}{self.root}"

    @property
    def auth(self) -> str:
        """How the user logs in: DIGEST or SASL; empty without a user."""
        return self.options.get("auth", DIGEST) if self.user else ""

    @property
    def tls(self) -> bool:
        return self.options.get("tls") == "true"


def parsed(url: str, more: Sequence[str] = (), root: str = DEFAULT_ROOT) -> Address:
    """Take a URL apart; `more` are options that the caller knows, `root` is what holds where none is given.

    Raises InvalidSetting, in one line that shows no password.
    """
    form = urls.Form(_LIKE, DEFAULT_PORT, (*OPTIONS, *more))
    if urls.scheme(url) != SCHEME:
        raise form.wrong(f"an ensemble's URL begins with {SCHEME}://")
    parts = form.parts(url)
    if parts.login and not (parts.user and parts.password):
        raise form.wrong("a login is USER:PASSWORD@")
    path = parts.path.rstrip("/")
    if path and not _ROOT.fullmatch(f"/{path}"):
        raise form.wrong(f"the root {'/' + path!r:.80} is not made of names like those of files, with a slash between")
    _check(form, parts)
    return Address(parts.hosts, f"/{path}" if path else root, parts.user, parts.password, parts.options)


def _check(form: urls.Form, parts: urls.Parts) -> None:
    """Raise InvalidSetting for options that do not go together."""
    found = parts.options
    form.encrypted(found)
    if ("cert" in found) != ("key" in found):
        raise form.wrong("cert and key go together")
    if found.get("auth", DIGEST) not in (DIGEST, SASL):
        raise form.wrong(f"auth is {DIGEST} or {SASL}")
    if "auth" in found and not parts.login:
        raise form.wrong("auth says how a user logs in: add USER:PASSWORD@")
