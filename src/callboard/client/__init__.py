"""Jobs from a program, over HTTP: `Client` for asyncio, `SyncClient` the same for everyone else.

Give it one URL or several; a name may have several addresses. Any gateway will do: when one does not answer, the next is asked,
and since ids are made here, a submission that is sent twice makes one job. Which route is asked for what is here; how gateways
are chosen and when to try again is in `http.client`.
"""

from callboard.client.blocking import SyncClient
from callboard.client.calls import Client, Options

__all__ = ["Client", "Options", "SyncClient"]
