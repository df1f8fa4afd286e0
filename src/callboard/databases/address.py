"""Where a database is: a URL taken apart. Pure.

    mysql://USER:PASSWORD@HOST[:PORT][,HOST[:PORT]…]/NAME[?OPTION=VALUE&…]

Several hosts are tried in their order. What stands for itself in a URL (`@ : / ? # %`) is written %40 and so on.
"""

from __future__ import annotations

from typing import Final
from urllib import parse

import msgspec

from callboard import errors
from callboard.kit import urls

PRODUCTS: Final = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgresql", "postgres": "postgresql"}
"""Which product a scheme means."""
PORTS: Final = {"mysql": 3306, "postgresql": 5432}
OPTIONS: Final = {
    "mysql": ("ssl_ca", "ssl_cert", "ssl_key"),
    "postgresql": ("sslmode", "sslrootcert", "sslcert", "sslkey"),
}
"""What may follow `?`: how connections are encrypted."""


class Address(msgspec.Struct, frozen=True):
    """A database by its parts."""

    scheme: str
    user: str
    password: str
    hosts: tuple[urls.Host, ...]
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
        return f"{urls.shown(self.scheme, self.user, self.hosts)}/{parse.quote(self.name)}"


def parsed(url: str) -> Address:
    """Take a URL apart. Raises InvalidSetting, in one line that shows no password."""
    scheme = urls.scheme(url)
    if scheme not in PRODUCTS:
        raise errors.InvalidSetting(f"a database's URL begins with one of {', '.join(f'{each}://' for each in PRODUCTS)}")
    product = PRODUCTS[scheme]
    form = urls.Form(f"write {scheme}://USER:PASSWORD@HOST:PORT/DATABASE", PORTS[product], OPTIONS[product])
    parts = form.parts(url)
    if "/" in parts.path:
        raise form.wrong("characters such as / in a name are written %2F")
    if not parts.path:
        raise form.wrong("the name of the database is missing")
    if product == "mysql" and not parts.user:
        raise form.wrong("the user is missing")
    return Address(scheme, parts.user, parts.password, parts.hosts, parse.unquote(parts.path), parts.options)
