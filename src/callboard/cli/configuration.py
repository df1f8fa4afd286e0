"""Which settings a command works under: the configuration file, the environment, the command's own flags; or a cluster's file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callboard import errors, settings
from callboard.cluster import model, topology


def load(config: Path | None, flags: Mapping[str, Any]) -> settings.Settings:
    """Return the settings. `config` is the file given, else $CALLBOARD_CONFIG, else callboard.toml here when there is one.

    Flags by dotted name, None for one that was not given. Raises InvalidSetting, also for a named file that is not there.
    """
    named = config or (Path(found) if (found := os.environ.get("CALLBOARD_CONFIG")) else None)
    file = named or Path(settings.FILE)
    return settings.load(file if named is not None or file.exists() else None, os.environ, flags)


def text(file: Path) -> str:
    """Return what a cluster's file holds. Raises InvalidSetting."""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidSetting(f"{file} cannot be read: {error}") from None


def cluster(file: Path | None) -> model.Topology:
    """Return what a cluster's file says; without one, that of cluster.toml here. Raises InvalidSetting."""
    found = file or Path(topology.FILE)
    return topology.parse(text(found), str(found))


def assigned(words: tuple[str, ...]) -> dict[str, str | list[str]]:
    """Return settings by dotted name from `name=value` words; several values have commas. Raises InvalidSetting."""
    found: dict[str, str | list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise errors.InvalidSetting(f"--set {word!r:.60} is not name=value: write it like worker.grace_seconds=30")
        listed = name in settings.fields() and "tuple" in str(settings.fields()[name][0])
        found[name] = [part for part in text.split(",") if part] if listed else text
    return found
