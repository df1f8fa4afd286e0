"""Engines of coordination by URL: `local:///directory`, `memory:`, `zookeeper://host:port,host:port/path`, and whatever else is
installed as `callboard.coordination.engines`. Opening connects to nothing; beginning a session does."""

from __future__ import annotations

from importlib import metadata

from callboard import errors
from callboard.coordination import engine as seam
from callboard.databases import address

GROUP = "callboard.coordination.engines"


def open(url: str, *, session_seconds: float = 3.0) -> seam.Engine:
    """Open an engine. The scheme names an entry point of group `callboard.coordination.engines`, called with the URL and
    `session_seconds`: how long a silent session is to live, as asked for (see `Session.granted_seconds` for what was granted).

    Raises InvalidSetting for a URL that no installed engine knows, or that its engine cannot read, and where a package that the
    engine needs is missing.
    """
    scheme, colon, _ = url.partition(":")
    found = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if not colon or scheme not in found:
        known = ", ".join(sorted(found))
        raise errors.InvalidSetting(f"coordination {scheme + colon!r:.80} has no engine: begin the URL with one of {known}")
    try:
        make = found[scheme].load()
    except ModuleNotFoundError as error:
        extra = address.PRODUCTS.get(scheme, scheme)
        mend = f"pip install 'callboard[{extra}]'" if found[scheme].value.startswith("callboard.") else "install it"
        raise errors.InvalidSetting(f"coordination by {scheme} needs the package {error.name}: {mend}") from None
    engine: seam.Engine = make(url, session_seconds=session_seconds)
    return engine
