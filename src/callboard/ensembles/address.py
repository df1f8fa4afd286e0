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
from urllib import parse

import msgspec

from callboard import errors

SCHEME: Final = "zookeeper"
DEFAULT_PORT: Final = 2181
DEFAULT_ROOT: Final = "/callboard"
OPTIONS: Final = ("auth", "tls", "ca", "cert", "key")
DIGEST: Final = "digest"
SASL: Final = "sasl"
_LIKE: Final = "zookeeper://host1:2181,host2:2181,host3:2181/callboard"
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?")
_ROOT: Final = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)+")

Host = tuple[str, int]


class Address(msgspec.Struct, frozen=True):
    """An ensemble and a place there, by its parts. `root` begins with a slash."""

    hosts: tuple[Host, ...]
    root: str = DEFAULT_ROOT
    user: str = ""
    password: str = ""
    options: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    @property
    def places(self) -> str:
        """Hosts and ports, for the library and for people."""
        return ",".join(map(written, self.hosts))

    @property
    def shown(self) -> str:
        """The URL without the password and the options, for people."""
        user = f"{parse.quote(self.user, safe='')}@" if self.user else ""
        return f"{SCHEME}://{user}{self.places}{self.root}"

    @property
    def auth(self) -> str:
        """How the user logs in: DIGEST or SASL; empty without a user."""
        return self.options.get("auth", DIGEST) if self.user else ""

    @property
    def tls(self) -> bool:
        return self.options.get("tls") == "true"


def written(host: Host) -> str:
    """Write a host and its port as in a URL."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def parsed(url: str, more: Sequence[str] = (), root: str = DEFAULT_ROOT) -> Address:
    """Take a URL apart; `more` are options that the caller knows, `root` is what holds where none is given.

    Raises InvalidSetting, in one line that shows no password.
    """
    if not url.startswith(f"{SCHEME}://"):
        raise _wrong(f"an ensemble's URL begins with {SCHEME}://")
    rest, _, query = url.removeprefix(f"{SCHEME}://").partition("?")
    login, at, rest = rest.rpartition("@")
    user, colon, password = login.partition(":")
    if "/" in login or "#" in login + rest + query:
        raise _wrong("characters such as / @ # in a user or password are written %2F %40 %23")
    if at and not (user and colon and password):
        raise _wrong("a login is USER:PASSWORD@")
    places, slash, path = rest.partition("/")
    path = path.rstrip("/")
    if path and not _ROOT.fullmatch(slash + path):
        raise _wrong(f"the root {slash + path!r:.80} is not made of names like those of files, with a slash between")
    return Address(
        hosts=tuple(map(_host, places.split(","))),
        root=slash + path if path else root,
        user=parse.unquote(user),
        password=parse.unquote(password),
        options=_options(query, (*OPTIONS, *more), bool(at)),
    )


def _host(text: str) -> Host:
    found = _HOST.fullmatch(text)
    if found is None or (found[2] and not 0 < int(found[2]) < 65_536):
        raise _wrong(f"{text.rpartition('@')[2]!r:.80} is not HOST or HOST:PORT; a : or @ in a password is written %3A or %40")
    return found[1].strip("[]"), int(found[2] or DEFAULT_PORT)


def _options(query: str, known: Sequence[str], login: bool) -> dict[str, str]:
    found = dict(parse.parse_qsl(query, keep_blank_values=True))
    for option, value in found.items():
        if option not in known:
            raise _wrong(f"it has no option {option!r:.80}: there are {', '.join(known)}")
        if not value:
            raise _wrong(f"the option {option} has no value")
    if found.get("tls", "true") not in ("true", "false"):
        raise _wrong("tls is true or false")
    if found.get("tls") != "true" and (cipher := next((each for each in ("ca", "cert", "key") if each in found), None)):
        raise _wrong(f"{cipher} is for encrypted connections: add tls=true")
    if ("cert" in found) != ("key" in found):
        raise _wrong("cert and key go together")
    if found.get("auth", DIGEST) not in (DIGEST, SASL):
        raise _wrong(f"auth is {DIGEST} or {SASL}")
    if "auth" in found and not login:
        raise _wrong("auth says how a user logs in: add USER:PASSWORD@")
    return found


def _wrong(why: str) -> errors.InvalidSetting:
    return errors.InvalidSetting(f"{why}: write {_LIKE}, with USER:PASSWORD@ before the hosts where there is a login")
