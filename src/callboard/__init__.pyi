from callboard.app import Callboard, Cancelled, Context, Discard, JobHandle, RetryLater
from callboard.client import Client, SyncClient
from callboard.errors import CallboardError

__all__ = ["Callboard", "CallboardError", "Cancelled", "Client", "Context", "Discard", "JobHandle", "RetryLater", "SyncClient"]
