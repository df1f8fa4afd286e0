"""URLs of servers, taken apart: hosts with their ports, a login, options. Pure. What the parts mean say the rooms that connect.

    SCHEME://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/PATH][?OPTION=VALUE&…]

What stands for itself in a URL (`@ : / ? # %`) is written %40 and so on. Errors are one line and show no password.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib import parse

import msgspec

from callboard import errors

Host = tuple[str, int]
"""A host's name or address, and its port."""

_STRANGE: Final = re.compile(r"[%/@\[\]\s]")
"""What no name of a host has: it is a socket file, or what was left open before."""
_FOR_TLS: Final = ("ca", "cert", "key")


class Parts(msgspec.Struct, frozen=True):
    """What a URL says. `path` is as it was written, without the slash before it; the rest is for use."""

    hosts: tuple[Host, ...]
    login: bool
    """Whether there was an @, whatever stood before it."""
    user: str
    password: str
    path: str
    options: dict[str, str]

    def __repr__(self) -> str:
        return f"Parts({places(self.hosts)})"


class Form(msgspec.Struct, frozen=True):
    """How URLs of one kind are written: `like` ends each error, `port` holds where none is given, `options` are those it has."""

    like: str
    port: int
    options: Sequence[str]

    def parts(self, url: str) -> Parts:
        """Take a URL apart, whatever its scheme. Raises InvalidSetting."""
        rest, _, query = url.partition("://")[2].partition("?")
        login, at, place = rest.rpartition("@")
        user, _, password = login.partition(":")
        if "#" in rest + query or "/" in login or "@" in login or ("@" in query and not at):
            raise self.wrong("characters such as / @ # ? in a name or password are written %2F %40 %23 %3F")
        hosts, _, path = place.partition("/")
        return Parts(
            hosts=tuple(map(self._host, hosts.split(","))),
            login=bool(at),
            user=parse.unquote(user),
            password=parse.unquote(password),
            path=path,
            options=self._options(query),
        )

    def encrypted(self, options: dict[str, str]) -> bool:
        """Tell whether `tls=true` is among options; `ca`, `cert` and `key` go with it only. Raises InvalidSetting."""
        chosen = options.get("tls", "false")
        if chosen not in ("true", "false"):
            raise self.wrong("tls is true or false")
        if chosen == "false" and (without := next((each for each in _FOR_TLS if each in options), None)):
            raise self.wrong(f"{without} is of use with tls=true only: add tls=true")
        return chosen == "true"

    def wrong(self, why: str) -> errors.InvalidSetting:
        """Return the error for a URL that is not of this form."""
        return errors.InvalidSetting(f"{why}: {self.like}")

    def _host(self, text: str) -> Host:
        name, port = text, str(self.port)
        if text.startswith("["):
            name, closed, behind = text[1:].partition("]")
            port = behind[1:] if behind.startswith(":") else port if closed and not behind else ""
        elif ":" in text:
            name, _, port = text.partition(":")
        if not name:
            raise self.wrong("a host is missing, '' is not HOST or HOST:PORT (servers listen on TCP: no socket file)")
        if _STRANGE.search(name):
            raise self.wrong(f"{name!r:.80} is not HOST or HOST:PORT (servers are reached over TCP, not by a socket file)")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            why = f"the port after {name!r:.80} is no number from 1 to 65535, this is not HOST or HOST:PORT"
            raise self.wrong(f"{why}; a : in a password is written %3A")
        return name, int(port)

    def _options(self, query: str) -> dict[str, str]:
        found = dict(parse.parse_qsl(query, keep_blank_values=True))
        for option, value in found.items():
            if option not in self.options:
                raise self.wrong(f"it has no option {option!r:.80}: there are {', '.join(self.options)}")
            if not value:
                raise self.wrong(f"the option {option!r} has no value")
        return found


def scheme(url: str) -> str:
    """Return what stands before `://`; empty when nothing does."""
    name, found, _ = url.partition("://")
    return name if found else ""


def written(host: Host) -> str:
    """Write a host and its port as in a URL."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def places(hosts: Iterable[Host]) -> str:
    """Write hosts and their ports as in a URL."""
    return ",".join(map(written, hosts))


def shown(scheme: str, user: str, hosts: Iterable[Host]) -> str:
    """Write a URL's beginning, up to its hosts, for people: without a password."""
    login = f"{parse.quote(user, safe='')}@" if user else ""
    return f"{scheme}://{login}{places(hosts)}"
