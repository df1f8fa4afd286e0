"""The declaring API: what a user's program imports to declare jobs, submit them and steer them from inside.

`declaring` has the app and its jobs, `context` what a handler sees, `connection` the ways to the store, `handler` and `shape`
what the worker role runs. Those above import these rooms; users import the names below from `callboard`.
"""

from callboard.app.connection import Connection, Submitted
from callboard.app.context import Cancelled, Context, Discard, RetryLater
from callboard.app.declaring import Callboard, JobHandle

__all__ = ["Callboard", "Cancelled", "Connection", "Context", "Discard", "JobHandle", "RetryLater", "Submitted"]
