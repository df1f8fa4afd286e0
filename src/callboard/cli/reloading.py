"""`callboard reload`: an agent takes up what was installed and written since its start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from callboard.cli import configuration, deployment, exits, output, servers
from callboard.node import reloading


def reload(
    *,
    data: deployment.Data = None,
    config: Annotated[Path | None, Parameter(help="The cluster's file, for a server that it is about.")] = None,
    server: servers.Server = None,
    wait: Annotated[bool, Parameter(help="Return when every node that had to be is replaced.")] = False,
    timeout: Annotated[float, Parameter(help="Seconds to wait. [120; with --wait 600]")] = 0,
    json: deployment.Json = False,
) -> int:
    """Have the agent of this server take up new software and new settings, and replace its nodes one after another.

    The agent reads its file again, by what is installed now. If that fails it says why, and goes on as it was. Else the process
    becomes the new agent, which has each node that is not as it should be replaced, the next when the last one is ready.
    """
    if config is not None:
        given = servers.given_for(configuration.cluster(config), server, "127.0.0.1", {"data": data} if data is not None else {})
    else:
        given = configuration.load(None, {"data": data})
    said = reloading.reload(given.directory, timeout or (600 if wait else 120), renewed=wait)
    if json:
        output.document({"renewing": said.renewing})
    else:
        output.line("Reloaded; nodes are being replaced." if said.renewing else "Reloaded.")
    return exits.Exit.OK
