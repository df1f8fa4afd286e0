"""Connections to ZooKeeper ensembles, by URL: logins, TLS, requests of many steps, and what becomes of them when servers die.

Knows nothing of what is kept there. The client library, kazoo, is an optional extra: the rooms that load it are loaded by
those who use them, `check` does so itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from callboard import errors
from callboard.ensembles import address
from callboard.kit import urls


def named(url: str) -> bool:
    """Whether a URL is that of an ensemble, by its scheme."""
    return urls.scheme(url) == address.SCHEME


def shown(url: str) -> str:
    """Return a URL without its password and options, for people. Raises InvalidSetting."""
    return address.parsed(url.partition("?")[0]).shown


def check(url: str, more: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """Look at the ensemble that a URL leads to; return what was found as (level, finding, mend).

    `more` are options of the URL that others understand. Raises InvalidSetting.
    """
    given = address.parsed(url, more)
    try:
        from callboard.ensembles import fitness
    except ModuleNotFoundError as error:
        why = f"zookeeper needs the package {error.name}: pip install 'callboard[zookeeper]'"
        raise errors.InvalidSetting(why) from None
    return fitness.check(given)
