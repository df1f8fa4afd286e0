"""Connections to message brokers (ActiveMQ, by STOMP), by URL.

Knows nothing of jobs. `address` takes URLs apart, `link` is one connection, `frames` and `wire` are beneath it, `fitness` looks
at a broker for `callboard check`. All but `address` need stomp.py, the optional extra `callboard[activemq]`, and are loaded here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from callboard import errors
from callboard.brokers import address
from callboard.kit import urls

os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
"""Else stomp.py asks DNS for this machine's names while it is imported, which may take long; nothing here needs them."""


def named(url: str) -> bool:
    """Whether a URL is that of a message broker, by its scheme."""
    return urls.scheme(url) == address.SCHEME


def shown(url: str) -> str:
    """Return a URL without its password and options, for people. Raises InvalidSetting."""
    return address.parsed(url).shown


def links() -> Any:
    """Return the module `link`. Raises InvalidSetting when the extra is not installed."""
    try:
        from callboard.brokers import link
    except ImportError as error:
        raise _missing(error) from None
    return link


async def send(url: str, destination: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
    """Send one message on a connection of its own; when this returns, the broker has it on its disk.

    Raises what `link.Link.open` and `send` raise; each is given `seconds`.
    """
    await links().sent(address.parsed(url), destination, body, headers, seconds)


async def check(url: str) -> list[tuple[str, str, str]]:
    """Look at a broker; return what was found: level (`fit`, `warning`, `unfit`), what, how to mend it. Raises InvalidSetting."""
    links()
    from callboard.brokers import fitness

    return await fitness.check(address.parsed(url))


def _missing(error: ImportError) -> errors.InvalidSetting:
    why = " ".join(str(error).split())
    return errors.InvalidSetting(
        f"activemq: needs a package that cannot be loaded ({why:.200}): pip install 'callboard[activemq]'"
    )
