"""The registry: which address answers for a global name now, and whether it is really alive.

`role` serves and pushes, `feed` keeps the book true to coordination, `patrol` pings and deposes as `watch` judges.
"""

from callboard.roles.registry.role import Registry

__all__ = ["Registry"]
