"""A node's cluster view: takes what the site controller tells, and tells it how far this node is.

Nothing is taken from a holder of the office under a lower epoch than was heard of. While nobody tells anything, the node goes on
with what it knows, and says that it is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from callboard import errors
from callboard.cluster import view, watching
from callboard.kit import lifecycle
from callboard.rpc import peers, serving

_pack: Final = msgspec.msgpack.Encoder().encode
_delta: Final = msgspec.msgpack.Decoder(view.Delta).decode


class Viewing(lifecycle.Lifecycle):
    """One per node; `rpc.serving.Served` for site controllers. On one event loop."""

    label: Final = view.LABEL

    def __init__(self, wire: peers.Peers) -> None:
        super().__init__()
        self.watched = watching.Watched()
        self.methods: Mapping[str, serving.Method] = {"push": serving.Method("push", self._push, idempotent=True)}
        self._wire = wire
        self._teller = ""
        """Incarnation of the node that told something last."""
        self._ends: list[Callable[[], None]] = []

    def admit(self, domain: str, epoch: int) -> int:
        """Every node has a view, under no epoch of its own."""
        return 0

    async def _start(self) -> None:
        self._ends = [self._wire.on_gone(self._silent), self._wire.listen(view.TOPIC, lambda teller, _: self._silent(teller))]
        self._wire.table.add(self)

    async def _stop(self) -> None:
        self._wire.table.remove(self)
        for end in self._ends:
            end()

    async def _push(self, call: serving.Call, args: bytes) -> bytes:
        """Take what changed, if it follows on what is known here; return the version that is known then."""
        try:
            delta = _delta(args)
        except ValueError as error:  # What makes no sense, or is no text.
            raise errors.InvalidArguments(f"no changes of a cluster view: {error}", ran="no") from None
        known = self.watched.view
        if delta.version.epoch < known.version.epoch:
            raise errors.WrongEpoch(
                f"the site was told of under epoch {known.version.epoch} already, not {delta.version.epoch}: look who leads it",
                ran="no",
                epoch=known.version.epoch,
            )
        now = view.after(known, delta) if delta.version >= known.version else None
        if now is not None:
            self._teller = call.caller
            self.watched.put(now)
        return _pack(self.watched.view.version)

    def _silent(self, incarnation: str) -> None:
        """Nobody tells anything until somebody does again."""
        if incarnation == self._teller:
            self.watched.put(msgspec.structs.replace(self.watched.view, stale=True))
