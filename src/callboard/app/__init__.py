"""The declaring API: what a user's program imports to declare jobs and services, use them, and steer them from inside.

`declaring` has the app, its jobs and services, `context` what a handler sees, `connection` the ways to the store, `handler`,
`exposure` and `shape` what roles run. Those above import these rooms; users import the names below from `callboard`.
"""

from callboard.app.connection import Connection, Submitted
from callboard.app.context import Cancelled, Context, Discard, RetryLater
from callboard.app.declaring import Callboard, JobHandle
from callboard.app.exposure import method
from callboard.rpc.serving import Call

__all__ = [
    "Call",
    "Callboard",
    "Cancelled",
    "Connection",
    "Context",
    "Discard",
    "JobHandle",
    "RetryLater",
    "Submitted",
    "method",
]
