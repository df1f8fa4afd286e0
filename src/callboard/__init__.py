"""Callboard: durable jobs and named services on servers without a single point of failure.

This is the public API; everything else may change between releases.
"""

from __future__ import annotations

from callboard.app import Callboard, Cancelled, Context, Discard, JobHandle, RetryLater
from callboard.client import Client, SyncClient
from callboard.errors import CallboardError

__all__ = ["Callboard", "CallboardError", "Cancelled", "Client", "Context", "Discard", "JobHandle", "RetryLater", "SyncClient"]
