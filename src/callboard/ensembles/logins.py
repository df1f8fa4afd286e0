"""Logging in by SASL (DIGEST-MD5, which ZooKeeper's servers have built in): an exchange of tokens. Needs pure-sasl."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Final

from callboard import errors

_HOST: Final = "zk-sasl-md5"
"""What every ZooKeeper server calls itself in this exchange."""
_ROUNDS: Final = 5


class NoSasl(Exception):
    """Raised when what the server says is no such exchange: it may not be set up for SASL."""


def need() -> None:
    """Raise InvalidSetting when the package is missing."""
    if importlib.util.find_spec("puresasl") is None:
        raise errors.InvalidSetting("auth=sasl needs the package pure-sasl: pip install 'callboard[zookeeper]'")


def exchange(user: str, password: str, ask: Callable[[bytes], bytes | None]) -> None:
    """Log in; `ask` sends a token and returns the server's. Raises NoSasl, and what `ask` raises."""
    import puresasl.client

    sasl = puresasl.client.SASLClient(_HOST, "zookeeper", "DIGEST-MD5", username=user, password=password)
    challenge: bytes | None = ask(b"")
    try:
        for _ in range(_ROUNDS):
            if not challenge:
                break
            answer = sasl.process(challenge)
            if sasl.complete and not answer:
                return
            challenge = ask(answer or b"")
            if sasl.complete:
                return
    except (puresasl.SASLError, puresasl.SASLProtocolException, ValueError, KeyError, UnicodeDecodeError) as error:
        raise NoSasl(type(error).__name__) from error
    raise NoSasl("no challenge")
