"""A named service as a role: the instances of one declared class that a node hosts, and when they may answer.

`instance` runs the calls of one object, `seats` says whose turn it is to serve, `role` puts both together for the node. The class
comes from `app.services`, elections from `coordination.presence`, requests from the node's table.
"""

from callboard.roles.service.role import Service
from callboard.roles.service.seats import Candidacy

__all__ = ["Candidacy", "Service"]
