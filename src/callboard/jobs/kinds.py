"""What is known of a kind of job where it is submitted and where it runs: defaults, versions, and its arguments' shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from callboard.jobs import model


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A declared kind. `versions` are the payload versions that its handler understands; the last one is what is submitted."""

    name: str
    queue: str = model.DEFAULT_QUEUE
    lane: model.Lane = model.Lane.LONG
    priority: int = model.DEFAULT_PRIORITY
    attempts: int = 3
    backoff: float = 1.0
    """Seconds before the second attempt; doubled each time after."""
    timeout: float | None = None
    """Seconds that one attempt may take."""
    tags: tuple[str, ...] = ()
    versions: tuple[int, ...] = (1,)
    check: Callable[[dict[str, Any]], bytes] | None = None
    """Turn plain named arguments (JSON-shaped, or Python values) into encoded ones, or raise InvalidArguments."""

    @property
    def version(self) -> int:
        return self.versions[-1]
