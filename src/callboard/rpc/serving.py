"""What a node answers: the table of its roles and services, and the way of one request through it.

Only methods in the table can be called. Who serves says, at accept and again before the reply, whether it still may: an old
epoch's answer does not leave this room. Sockets are `peer`'s, names the callers'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from callboard import errors
from callboard.kit import ring
from callboard.rpc import frames


class Call(msgspec.Struct):
    """What a method is told about the request that it answers: its first parameter, annotated `Call`."""

    name: str
    """The name as it was asked for: `billing@acme`."""
    domain: str
    method: str
    epoch: int
    """Under which this instance serves the name, 0 where every instance serves: let effects outside refuse a lower one."""
    caller: str
    """Incarnation of the node that asks."""
    deadline: int
    """When the caller stops waiting: nanoseconds of CLOCK_BOOTTIME here."""
    meta: Mapping[str, str]


class Method(msgspec.Struct, frozen=True):
    """One exposed method: `run` decodes the arguments, runs it, encodes the result. Raises CallboardErrors only."""

    name: str
    run: Callable[[Call, bytes], Awaitable[bytes]]
    idempotent: bool = False


class Served(Protocol):
    """A role or service in this node that has methods."""

    @property
    def label(self) -> str: ...

    @property
    def methods(self) -> Mapping[str, Method]: ...

    def admit(self, domain: str, epoch: int) -> int:
        """Return the epoch under which a request for `domain` is accepted now; `epoch` is what the caller meant (0: any).

        Raises NotActive, WrongEpoch, LeaseUnconfirmed, DomainNotServed. Called again before the reply with the epoch it returned.
        """


class Table:
    """The labels of one node. On one event loop."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._served: dict[str, Served] = {}

    def add(self, served: Served) -> None:
        """Answer for a label from now on. Raises InvalidInput when another one has it."""
        if self._served.setdefault(served.label, served) is not served:
            raise errors.InvalidInput(f"two roles or services are named {served.label}: name one of them otherwise")

    def remove(self, served: Served) -> None:
        """Answer for it no more. Allowed twice."""
        if self._served.get(served.label) is served:
            del self._served[served.label]

    def find(self, label: str) -> Served | None:
        """Return who answers for a label here."""
        return self._served.get(label)

    async def serve(self, request: frames.Request, call: Call) -> bytes | frames.Elsewhere:
        """Run one request. Raises CallError and what the method raises; `data["ran"]` tells whether it was begun."""
        label = request.label
        served = self._served.get(label)
        if served is None or (request.incarnation and request.incarnation != self.incarnation):
            raise errors.UnknownName(f"{request.name} is not at node {self.incarnation}: look it up again", ran="no")
        method = served.methods.get(request.method)
        if method is None:
            known = ", ".join(sorted(served.methods)) or "none"
            raise errors.UnknownMethod(f"{label} exposes no method {request.method!r:.60}: it has {known}", ran="no")
        call.epoch = epoch = served.admit(call.domain, request.epoch)
        if request.electorate is not None:
            chosen = ring.pick(request.electorate.key, request.electorate.members)
            if chosen != f"{label}/{self.incarnation}":
                return frames.Elsewhere(request.id, chosen)
        answer = await method.run(call, request.args)
        try:
            confirmed = served.admit(call.domain, epoch)
        except errors.CallError as error:
            error.data["ran"] = "yes"  # It refuses the answer now, not the request.
            raise
        if confirmed != epoch:
            raise errors.WrongEpoch(f"{request.name} changed hands meanwhile: the answer is withheld", ran="yes", epoch=epoch)
        return answer
