"""The base of every role, and how a role exposes methods to other nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from callboard.app import exposure
from callboard.kit import lifecycle
from callboard.rpc import serving


class Role(lifecycle.Lifecycle):
    """A unit of function that a node hosts. It is `rpc.serving.Served`: what it exposes answers at `NAME/INCARNATION`.

    Readiness and activity are two things: a standby is ready and not active. Where every instance serves, as here, both are one;
    active-passive roles override `admit` and `active`. `facts` go into the node's entry, for those who list nodes.
    """

    name: ClassVar[str]
    _exposed: Mapping[str, serving.Method] | None = None

    @property
    def label(self) -> str:
        """What it answers to."""
        return self.name

    @property
    def active(self) -> bool:
        """Whether it serves now."""
        return self.ready

    @property
    def methods(self) -> Mapping[str, serving.Method]:
        """What other nodes may call: methods marked with `app.exposure.method`, `ping` at the least."""
        if self._exposed is None:
            self._exposed = exposure.methods(self)
        return self._exposed

    def admit(self, domain: str, epoch: int) -> int:
        """Every instance serves every domain, under no epoch."""
        return 0

    def facts(self) -> Mapping[str, Any]:
        """Return JSON-shaped facts that others may want to know: an address, kinds, slots."""
        return {}

    @exposure.method(idempotent=True)
    async def ping(self) -> Mapping[str, Any]:
        """Answer that this role makes progress, with what it is doing."""
        return {"role": self.name, "ready": self.ready, "active": self.active}
