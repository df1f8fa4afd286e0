from callboard.app import Call, Callboard, Cancelled, Context, Discard, JobHandle, RetryLater, method
from callboard.client import Client, SyncClient
from callboard.errors import CallboardError, ServiceError

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
