"""`callboard agent` and `callboard systemd`: one server of a cluster, as the cluster's file has it; and how systemd starts it."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from callboard import errors, settings
from callboard.cli import configuration, deployment, exits, output, publishing
from callboard.cluster import hosts, model, topology
from callboard.node import published, rebirth

STOP_SECONDS: Final = 20
"""What a stop may take beside the grace time of handlers: results are held as long as can be while a store is away."""
START_SECONDS: Final = 30
"""What a start may take beside the readiness of its nodes."""
STATE: Final = Path("/var/lib")
UNIT: Final = """\
[Unit]
Description=Callboard
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
User={user}
WorkingDirectory={directory}
ExecStart={command}
ExecReload={reload}
{state}KillMode=mixed
TimeoutStartSec={start}
TimeoutStopSec={stop}
Restart=on-failure
RestartSec=2

[Install]
WantedBy=multi-user.target
"""

Server = Annotated[str | None, Parameter(help="Which server of the file this is. [the host's name]")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON.")]


def agent(
    *,
    config: Annotated[Path | None, Parameter(help="The cluster's file. [cluster.toml here]")] = None,
    server: Server = None,
    address: Annotated[str | None, Parameter(help="Where others reach this server, if the file does not say. [found]")] = None,
    set: Annotated[tuple[str, ...], Parameter(help="Another setting for this server, as name=value.")] = (),
    json: Json = False,
) -> int:
    """Start what a cluster's file says of this server. Ctrl-C stops it and lets running jobs end, as with 'up'.

    A server that the file does not name gets what [servers.auto] says. One whose file is older than the one that was published
    with 'config push' says so, and stands for no office. 'callboard reload' has it take up a new file.
    """
    path = config or Path(topology.FILE)
    text = configuration.text(path)
    cluster = topology.parse(text, str(path))
    given = given_for(cluster, server, address, configuration.assigned(set))
    file = published.NONE
    if cluster.together:
        file = published.File(cluster.version, text)
        if not rebirth.only_checked():
            given = publishing.compared(given, cluster.version, text)
    return deployment.serve(given, given.data, json=json, file=file)


def given_for(
    cluster: model.Topology, server: str | None, address: str | None, flags: dict[str, str | list[str]]
) -> settings.Settings:
    """Return what a server runs under this environment and these flags; by default the one that this host is.

    Raises NotFound, InvalidSetting.
    """
    name = server or hosts.own_name(cluster.servers)
    found = cluster.server(name)
    if address is None and cluster.together and found.address is None:
        address = hosts.own_address(found.given["coordination.url"])
    return model.settings_for(cluster, name, address=address, environment=os.environ, flags=flags)


def systemd(
    *,
    config: Annotated[Path | None, Parameter(help="The cluster's file. [none: what 'up' starts with callboard.toml]")] = None,
    server: Server = None,
    user: Annotated[str, Parameter(help="Who runs it. [callboard]")] = "callboard",
    json: Json = False,
) -> int:
    """Print a unit file by which systemd runs Callboard on this server: with a cluster's file its part of it, else 'up' here.

    Put it into /etc/systemd/system/callboard.service.
    """
    command = [str(Path(sys.argv[0]).absolute()) if sys.argv[0].endswith("callboard") else f"{sys.executable} -m callboard.cli"]
    if config is not None:
        given = given_for(configuration.cluster(config), server, "127.0.0.1", {})
        directory = config.absolute().parent
        command += ["agent", "--config", str(config.absolute()), *(["--server", server] if server else [])]
    else:
        given = configuration.load(None, {})
        directory = Path.cwd()
        command += ["up"]
    text = unit(command, given, directory, user)
    if json:
        output.document({"unit": text})
    else:
        output.line(text.rstrip("\n"))
    return exits.Exit.OK


def unit(command: list[str], given: settings.Settings, directory: Path, user: str) -> str:
    """Return a unit file. Raises InvalidInput for paths that a unit file cannot hold."""
    data = (directory / given.data).absolute()
    state = f"StateDirectory={data.relative_to(STATE)}\n" if data.is_relative_to(STATE) and data != STATE else ""
    program = command[0].replace("%", "%%")
    return UNIT.format(
        user=_word(user),
        directory=_word(str(directory)),
        command=" ".join([program, *map(_word, command[1:])]),
        reload=" ".join([program, "reload", "--data", _word(str(data))]),
        state=_word(state),
        start=math.ceil(given.agent.start_seconds + START_SECONDS),
        stop=math.ceil(given.worker.grace_seconds + STOP_SECONDS),
    )


def _word(text: str) -> str:
    if any(sign in text for sign in "\"'\\$") or " " in text.strip():
        raise errors.InvalidInput(f"{text!r:.200} has a character that a unit file reads otherwise: use a path without")
    return text.replace("%", "%%")
