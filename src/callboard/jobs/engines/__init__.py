"""Engines by URL: `sqlite:///path/file.db`, `mysql://…`, `postgresql://…`, `memory:`, and whatever else is installed as
`callboard.jobs.engines`. A URL may hold a password: it is never told."""

from __future__ import annotations

import importlib
from importlib import metadata

import msgspec

from callboard import errors
from callboard.jobs import engine as seam

GROUP = "callboard.jobs.engines"


class Migrated(msgspec.Struct, frozen=True):
    """What became of a store's schema: its version before (0: there was none) and now, and the oldest that may read it."""

    before: int
    version: int
    min_reader: int


def open(url: str) -> seam.Engine:
    """Open a store. The scheme names an entry point of group `callboard.jobs.engines`, a callable from URL to engine.

    Raises InvalidSetting for a URL whose scheme no installed engine has, or where a package that the engine needs is missing, and
    the engine's StoreErrors and StartupErrors.
    """
    point = _point(url)
    try:
        make = point.load()
    except ImportError as error:
        raise _lacking(point, error) from None
    engine: seam.Engine = make(url)
    return engine


def migrate(url: str) -> Migrated:
    """Bring a store's schema to this version; others may work with it meanwhile.

    An engine with a schema has a function `migrate` from URL to Migrated beside the one that opens it. Raises as `open`, and
    Unsupported for an engine that has none.
    """
    point = _point(url)
    try:
        found = getattr(importlib.import_module(point.module), "migrate", None)
    except ImportError as error:
        raise _lacking(point, error) from None
    if found is None:
        raise errors.Unsupported(f"a {point.name} store has no schema: there is nothing to migrate")
    migrated: Migrated = found(url)
    return migrated


def _point(url: str) -> metadata.EntryPoint:
    scheme, colon, _ = url.partition(":")
    found = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if not colon or scheme not in found:
        known = ", ".join(sorted(found))
        raise errors.InvalidSetting(f"store {scheme + colon!r:.80} has no engine: begin the URL with one of {known}")
    return found[scheme]


def _lacking(point: metadata.EntryPoint, error: ImportError) -> errors.InvalidSetting:
    what = f"the package {error.name}"
    if not isinstance(error, ModuleNotFoundError):  # It is there, and lacks something itself: a library of the system's.
        what = f"a package that cannot be loaded ({' '.join(str(error).split()):.200})"
    ours = point.module.startswith("callboard.")
    mend = f"'callboard[{point.module.rpartition('.')[2]}]'" if ours else point.module.partition(".")[0]
    return errors.InvalidSetting(f"a {point.name} store needs {what}: pip install {mend}")
