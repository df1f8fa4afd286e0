"""Routes of the cluster view: which servers, nodes and offices there are now."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import get
from litestar.params import QueryParameter

from callboard import errors
from callboard.cluster import view
from callboard.roles.gateway import desk as desks
from callboard.roles.gateway import keys

MAX_WAIT_SECONDS: Final = 60.0
After = Annotated[
    str | None, QueryParameter(description="The mark of the view seen last, `12.5`: answer when there is a newer one.")
]
Wait = Annotated[
    float, QueryParameter(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for it; then the present one is answered.")
]


@get(
    "/v1/view",
    summary="Show the servers, nodes and offices of the site",
    description="`version` grows with each change, `stale` says that it may be out of date.",
    opt={"scope": keys.READ},
)
async def shown(desk: desks.TheDesk, caller: desks.TheCaller, after: After = None, wait: Wait = 0) -> view.View:
    if desk.view is None:
        raise errors.NotActive("this gateway has no view of the cluster: ask another one", ran="no")
    if after is None:
        return desk.view.view
    try:
        return await desk.waits.unless_over(desk.view.after(*view.parse_mark(after), wait))
    except TimeoutError:
        return desk.view.view


HANDLERS: list[Any] = [shown]
