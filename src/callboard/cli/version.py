"""`callboard version`."""

from __future__ import annotations

from importlib import metadata

from callboard.cli import output


def version(*, json: bool = False) -> None:
    """Print the version."""
    installed = metadata.version("callboard")
    if json:
        output.document({"version": installed})
    else:
        output.line(installed)
