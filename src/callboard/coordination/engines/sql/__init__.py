"""Coordination by a database server: MySQL and MariaDB (Galera too), PostgreSQL. Needs the extra of the product.

`tables` is what lies there; `book` every statement that reads or writes it; `ages` who has been silent for too long (pure).
`desk` is a session's blocking half, run by the thread in `pulse`; `session` is its half on the loop. The seam's contract is
`coordination.engine`.
"""

from __future__ import annotations

from callboard.coordination.engines.sql.engine import open

__all__ = ["open"]
