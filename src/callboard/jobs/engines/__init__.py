"""Engines by URL: `sqlite:///path/file.db`, `memory:`, and whatever else is installed as `callboard.jobs.engines`."""

from __future__ import annotations

from importlib import metadata

from callboard import errors
from callboard.jobs import engine as seam

GROUP = "callboard.jobs.engines"


def open(url: str) -> seam.Engine:
    """Open a store. The scheme names an entry point of group `callboard.jobs.engines`, a callable from URL to engine.

    Raises InvalidSetting for a URL whose scheme no installed engine has, and the engine's StoreErrors and StartupErrors.
    """
    scheme = url.partition(":")[0]
    found = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if ":" not in url or scheme not in found:
        raise errors.InvalidSetting(f"store {url!r} has no engine: begin the URL with one of {', '.join(sorted(found))}")
    engine: seam.Engine = found[scheme].load()(url)
    return engine
