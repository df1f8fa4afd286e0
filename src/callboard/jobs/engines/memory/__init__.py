"""The memory store: inside one process, gone with it. For tests, simulations and trying things out. `open` is its entry point.

Passes the same suite as the durable engines, so it may stand in for them anywhere. `tables` holds rows and indexes,
`verbs` what each operation does to them, `reads` what is asked of them, `engine` ties them to the seam.
"""

from __future__ import annotations

import threading
import weakref

from callboard import errors
from callboard.jobs.engines.memory import engine
from callboard.kit import grammar

_named: weakref.WeakValueDictionary[str, engine.Store] = weakref.WeakValueDictionary()
_naming = threading.Lock()


def open(url: str) -> engine.MemoryEngine:
    """Open `memory:` or `memory:NAME`. Raises InvalidSetting for a NAME that is not a label."""
    name = url.partition(":")[2]
    if not name:
        return engine.MemoryEngine(engine.Store())
    try:
        grammar.check_label(name, "name")
    except errors.InvalidName:
        raise errors.InvalidSetting(f"store {url!r:.80} is not 'memory:' or 'memory:NAME', NAME of a-z, 0-9 and '-'") from None
    with _naming:
        store = _named.get(name)
        if store is None:
            store = _named[name] = engine.Store()
        return engine.MemoryEngine(store)
