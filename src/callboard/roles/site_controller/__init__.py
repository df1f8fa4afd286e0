"""The site controller: gathers what agents and nodes say of themselves, and tells every node of the site what changes.

`role` stands for the site's office, `duty` is what the holder does, `courier` sees to it that one node knows what there is.
What is told is made, purely, in `cluster`. Nodes that nobody tells anything go on with what they know.
"""

from callboard.roles.site_controller.role import SiteController

__all__ = ["SiteController"]
