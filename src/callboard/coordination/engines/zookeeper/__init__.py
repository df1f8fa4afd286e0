"""Coordination by a ZooKeeper ensemble, 3.6 or later: `zookeeper://HOST:PORT,…/ROOT`. Needs the extra `callboard[zookeeper]`.

`layout` is what lies where, and what a node's content says; `plan` makes one request of an apply's operations (pure). `driver` is
a connection of `ensembles`, brought onto the event loop; `watches` and `session` act. The seam's contract is
`coordination.engine`.
"""

from __future__ import annotations

from callboard.coordination.engines.zookeeper.engine import open

__all__ = ["open"]
