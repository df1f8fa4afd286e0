"""Callboard: durable jobs and named services on servers without a single point of failure.

This is the public API; everything else may change between releases. A name is loaded when it is first used: a command that
needs no client must not wait for an HTTP library. Type checkers read `__init__.pyi`, where the same names are imported.
"""

from __future__ import annotations

import importlib

__all__ = [
    "Call",
    "Callboard",
    "CallboardError",
    "Cancelled",
    "Client",
    "Context",
    "Discard",
    "JobHandle",
    "RetryLater",
    "ServiceError",
    "SyncClient",
    "method",
]

_MODULES = {
    "Call": "callboard.app",
    "Callboard": "callboard.app",
    "CallboardError": "callboard.errors",
    "Cancelled": "callboard.app",
    "Client": "callboard.client",
    "Context": "callboard.app",
    "Discard": "callboard.app",
    "JobHandle": "callboard.app",
    "RetryLater": "callboard.app",
    "ServiceError": "callboard.errors",
    "SyncClient": "callboard.client",
    "method": "callboard.app",
}
"""Where each name is declared."""


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
