"""What stands in the paths of the API: ids and names as they are written there."""

from __future__ import annotations

from urllib.parse import quote

from callboard import errors
from callboard.kit import uuid7


def job(id: str) -> str:
    """Return the path of a job. Raises InvalidId for what cannot be one."""
    try:
        return f"/v1/jobs/{uuid7.text(uuid7.parse(id))}"
    except ValueError:
        raise errors.InvalidId(f"{id!r:.60} is not a job id: give a UUIDv7 as it was returned at submission") from None


def named(name: str, domain: str | None) -> str:
    """Return a name, with the domain that is meant if it has none. Raises InvalidName for what no path can hold."""
    if not isinstance(name, str) or name.count("/") > 1:
        raise errors.InvalidName(f"{name!r:.80} is not a name: write billing@acme, or cache/INCARNATION for an exact instance")
    label, slash, incarnation = name.partition("/")
    whole = name if domain is None or "@" in label else f"{label}@{domain}{slash}{incarnation}"
    return quote(whole, safe="@/")


def method(name: str) -> str:
    """Return the name of a method. Raises InvalidName."""
    if not isinstance(name, str) or not name.isidentifier():
        raise errors.InvalidName(f"{name!r:.80} is not the name of a method: write it as in the service's class")
    return part(name)


def part(text: str) -> str:
    """Return one part of a path."""
    return quote(text, safe="")
