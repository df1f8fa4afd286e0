"""Where a database is: a URL taken apart. Pure.

    mysql://USER:PASSWORD@HOST[:PORT][,HOST[:PORT]…]/NAME[?OPTION=VALUE&…]

Several hosts are tried in their order. What stands for itself in a URL (`@ : / ? # %`) is written %40 and so on.
"""

from __future__ import annotations

from typing import Final
from urllib import parse

import msgspec

from callboard import errors

PRODUCTS: Final = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgresql", "postgres": "postgresql"}
"""Which product a scheme means."""
PORTS: Final = {"mysql": 3306, "postgresql": 5432}
OPTIONS: Final = {
    "mysql": ("ssl_ca", "ssl_cert", "ssl_key"),
    "postgresql": ("sslmode", "sslrootcert", "sslcert", "sslkey"),
}
"""What may follow `?`: how connections are encrypted."""

Host = tuple[str, int]


class Address(msgspec.Struct, frozen=True):
    """A database by its parts."""

    scheme: str
    user: str
    password: str
    hosts: tuple[Host, ...]
    name: str
    options: dict[str, str]

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    @property
    def product(self) -> str:
        return PRODUCTS[self.scheme]

    @property
    def shown(self) -> str:
        """The URL without the password, for people."""
        user = f"{parse.quote(self.user)}@" if self.user else ""
        return f"{self.scheme}://{user}{','.join(map(written, self.hosts))}/{parse.quote(self.name)}"


def written(host: Host) -> str:
    """Write a host and its port as in a URL."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def parsed(url: str) -> Address:
    """Take a URL apart. Raises InvalidSetting, in one line that shows no password."""
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in PRODUCTS:
        raise errors.InvalidSetting(f"a database's URL begins with one of {', '.join(f'{each}://' for each in PRODUCTS)}")
    product = PRODUCTS[scheme]
    rest, _, query = rest.partition("?")
    place, _, name = rest.partition("/")
    login, at, hosts = place.rpartition("@")
    user, _, password = login.partition(":")
    if "/" in name or "@" in name or "#" in rest + query:
        raise _wrong(scheme, "characters such as / @ # in a name or password are written %2F %40 %23")
    if not name:
        raise _wrong(scheme, "the name of the database is missing")
    if product == "mysql" and not (at and user):
        raise _wrong(scheme, "the user is missing")
    return Address(
        scheme=scheme,
        user=parse.unquote(user),
        password=parse.unquote(password),
        hosts=tuple(_host(scheme, each, PORTS[product]) for each in hosts.split(",")),
        name=parse.unquote(name),
        options=_options(scheme, product, query),
    )


def _host(scheme: str, text: str, default: int) -> Host:
    name, port = text, str(default)
    if text.startswith("["):
        name, _, behind = text[1:].partition("]")
        port = behind[1:] if behind.startswith(":") else str(default) if not behind else ""
    elif ":" in text:
        name, _, port = text.partition(":")
    if not name:
        raise _wrong(scheme, "a host is missing (a socket file cannot be named: servers are reached over TCP)")
    if "%" in name or "/" in name:
        raise _wrong(scheme, f"{name!r} is no host: servers are reached over TCP, not by a socket file")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise _wrong(scheme, f"the port after {name!r} is no number from 1 to 65535; a : in a password is written %3A")
    return name, int(port)


def _options(scheme: str, product: str, query: str) -> dict[str, str]:
    known = OPTIONS[product]
    found = dict(parse.parse_qsl(query, keep_blank_values=True))
    for option in found:
        if option not in known:
            raise _wrong(scheme, f"it has no option {option!r}: there are {', '.join(known)}")
    return found


def _wrong(scheme: str, why: str) -> errors.InvalidSetting:
    return errors.InvalidSetting(f"{why}: write {scheme}://USER:PASSWORD@HOST:PORT/DATABASE")
