"""A store in a ZooKeeper ensemble, 3.6 or later: `zookeeper://HOST[:PORT],…/ROOT[?backlog=N]`.

Needs the extra `callboard[zookeeper]`.

Every process holds a **replica** of all jobs, without what is big. The verbs of the memory engine decide on it; one
transaction with the versions of all nodes that it relies on writes what was decided; a log of changes in the ensemble keeps
all replicas true. `layout` is what lies where, `codec` what nodes contain, `replica` what a process holds, `trial` makes one
transaction of many units, `log` loads and follows, `ground` makes the store, `engine` ties them to the seam.
"""

from __future__ import annotations

from typing import Final

from callboard import errors
from callboard.ensembles import address, client
from callboard.jobs.engines.zookeeper import engine, layout

_START_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 1.0
"""How long each call waits for a connection before the store is said to be away: those above try again, and can be stopped."""


def open(url: str) -> engine.ZooKeeperEngine:
    """Open a store, and make it if there is none. `backlog` is how many unfinished jobs it takes.

    Raises InvalidSetting, StoreUnavailable, StoreRefused, StoreForeign, StoreTooNew.
    """
    given = address.parsed(url, more=("backlog",))
    backlog = given.options.get("backlog", str(engine.BACKLOG))
    if not backlog.isdecimal() or not 0 < int(backlog) <= 1_000_000:
        raise errors.InvalidSetting("backlog is how many unfinished jobs the store takes: a number from 1 to 1000000")
    asked = client.Client(given, patience_seconds=_PATIENCE_SECONDS)
    asked.start(_START_SECONDS)
    made = engine.ZooKeeperEngine(asked, layout.Layout(given.root), int(backlog))
    try:
        made.start()
    except BaseException:
        asked.close()
        raise
    return made
