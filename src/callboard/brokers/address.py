"""Where a message broker is: a URL taken apart. Pure.

    activemq://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][?OPTION=VALUE&…]

Several hosts are one broker and its stand-ins: one at a time is used, in their order. Options: `tls=true`, `ca=FILE` (who signed
the broker's certificate, if not one that the system trusts), `cert=FILE` and `key=FILE` (ours, where the broker asks for one).
What stands for itself in a URL (`@ : / ? # %`) is written %40 and so on.
"""

from __future__ import annotations

from typing import Final
from urllib import parse

import msgspec

from callboard import errors

SCHEME: Final = "activemq"
PORT: Final = 61613
"""ActiveMQ's usual port for STOMP."""
OPTIONS: Final = ("tls", "ca", "cert", "key")
"""What may follow `?`: how the connection is encrypted."""

Host = tuple[str, int]


class Address(msgspec.Struct, frozen=True):
    """A broker by its parts. Without a user nobody logs in."""

    hosts: tuple[Host, ...]
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
        user = f"{parse.quote(self.user, safe='')}@" if self.user else ""
        return f"{SCHEME}://{user}{','.join(map(written, self.hosts))}"


def named(url: str) -> bool:
    """Whether a URL is that of a broker, by its scheme."""
    return url.partition("://")[0] == SCHEME


def written(host: Host) -> str:
    """Write a host and its port as in a URL."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def parsed(url: str) -> Address:
    """Take a URL apart. Raises InvalidSetting, in one line that shows no password."""
    if not named(url) or "://" not in url:
        raise errors.InvalidSetting(f"a message broker's URL begins with {SCHEME}://")
    rest, _, query = url.partition("://")[2].partition("?")
    login, at, hosts = rest.rpartition("@")
    user, colon, password = login.partition(":")
    if "#" in url or "/" in login or "@" in login:
        raise _wrong("characters such as / @ # in a user or password are written %2F %40 %23")
    if at and not (user and colon and password):
        raise _wrong("before the @ stand a user and a password")
    if "/" in hosts.rstrip("/"):
        raise _wrong("nothing follows the hosts but ?OPTION=VALUE: destinations are named elsewhere")
    options = _options(query)
    user, password = parse.unquote(user), parse.unquote(password)
    if not (user + password).isprintable():
        raise _wrong("a user and a password have no line ends or other control characters")
    return Address(
        hosts=tuple(_host(each) for each in hosts.rstrip("/").split(",")),
        user=user,
        password=password,
        tls=options.pop("tls", "false") == "true",
        **options,
    )


def _host(text: str) -> Host:
    name, port = text, str(PORT)
    if text.startswith("["):
        name, _, behind = text[1:].partition("]")
        port = behind[1:] if behind.startswith(":") else port if not behind else ""
    elif ":" in text:
        name, _, port = text.partition(":")
    if not name:
        raise _wrong("a host is missing")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise _wrong(f"the port after {name!r} is no number from 1 to 65535; a : in a password is written %3A")
    return name, int(port)


def _options(query: str) -> dict[str, str]:
    found = dict(parse.parse_qsl(query, keep_blank_values=True))
    for option, value in found.items():
        if option not in OPTIONS:
            raise _wrong(f"it has no option {option!r}: there are {', '.join(OPTIONS)}")
        if not value:
            raise _wrong(f"the option {option!r} has no value")
    if found.get("tls", "true") not in ("true", "false"):
        raise _wrong("tls is true or false")
    if found.get("tls") != "true" and found.keys() - {"tls"}:
        raise _wrong("ca, cert and key are of use with tls=true only")
    if "key" in found and "cert" not in found:
        raise _wrong("a key needs its cert")
    return found


def _wrong(why: str) -> errors.InvalidSetting:
    return errors.InvalidSetting(f"{why}: write {SCHEME}://USER:PASSWORD@HOST:PORT")
