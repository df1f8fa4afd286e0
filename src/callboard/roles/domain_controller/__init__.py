"""The domain controller: keeps the store in order for the domains of its groups, and speaks for servers that have gone silent.

`role` stands for the offices, `duty` is what the holder of one does, `rescue` looks after silent servers as `silence` judges.
Every write carries the term of the office (`jobs.terms`). Work goes on without it: the store alone decides.
"""

from callboard.roles.domain_controller.role import DomainController

__all__ = ["DomainController"]
