"""Connections to server databases (MySQL and MariaDB, Galera clusters, PostgreSQL), by URL.

Knows nothing of jobs or coordination.

`open` loads SQLAlchemy and the product's driver, which are optional extras, and only here.
"""

from __future__ import annotations

from typing import Any

from callboard import errors
from callboard.databases import address
from callboard.kit import urls


def open(url: str) -> Any:
    """Return the `database.Database` that a URL names. Nothing is connected yet.

    Raises InvalidSetting for a URL that names none, and for a driver that is not installed.
    """
    given = address.parsed(url)
    try:
        from callboard.databases import database

        if given.product == "mysql":
            from callboard.databases import mysql

            return database.Database(given, mysql.MySql(given))
        from callboard.databases import postgresql

        return database.Database(given, postgresql.PostgreSql(given))
    except ImportError as error:
        why = " ".join(str(error).split())
        raise errors.InvalidSetting(
            f"{given.scheme}: needs a package that cannot be loaded ({why:.200}): pip install 'callboard[{given.product}]'"
        ) from None


def named(url: str) -> bool:
    """Whether a URL is that of a database, by its scheme."""
    return urls.scheme(url) in address.PRODUCTS


def shown(url: str) -> str:
    """Return a URL without its password and options, for people. Raises InvalidSetting."""
    return address.parsed(url).shown


def check(url: str) -> list[Any]:
    """Look at the server that a URL leads to; return what was found, as `products.Finding`s. Raises InvalidSetting."""
    open(url)  # Told here what is missing for it.
    from callboard.databases import fitness

    return list(fitness.check(url))
