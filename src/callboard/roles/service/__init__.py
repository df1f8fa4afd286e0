"""A named service as a role: the instances of one declared class that a node hosts, and when they may answer.

`instance` runs the calls of one object, `everywhere` is the one that needs no office, `role` puts them together for the node.
The class comes from `app.services`, the offices from `roles.offices`, requests from the node's table.
"""

from callboard.roles.service.role import Service

__all__ = ["Service"]
