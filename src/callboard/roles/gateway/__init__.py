"""The gateway role: the HTTP API over a queue. Routes by concern in `routes/`, everything they share in `desk`.

A request's way: `edge` (counts, answers submissions and calls itself) → `site` (the framework) → `desk.guard` (key, scope)
→ a route → queue. `keys` is also used by the agent, to make the first admin key.
"""

from callboard.roles.gateway.role import Gateway

__all__ = ["Gateway"]
