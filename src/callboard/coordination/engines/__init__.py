"""Engines of coordination. One machine needs no more than `local`: a directory."""

from __future__ import annotations

from pathlib import Path

from callboard.coordination import engine as seam
from callboard.coordination.engines import local


def open(directory: Path) -> seam.Engine:
    """Return the coordination that lives in a directory, making the directory if needed. Raises DataUnusable."""
    return local.LocalEngine(directory)
