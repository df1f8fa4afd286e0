"""The base of every role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from callboard.kit import lifecycle


class Role(lifecycle.Lifecycle):
    """A unit of function that a node hosts. `facts` go into the node's entry, for those who list nodes."""

    name: ClassVar[str]

    def facts(self) -> Mapping[str, Any]:
        """Return JSON-shaped facts that others may want to know: an address, kinds, slots."""
        return {}

    async def ping(self) -> Mapping[str, Any]:
        """Answer that this role makes progress, with what it is doing."""
        return {"role": self.name, "ready": self.ready}
