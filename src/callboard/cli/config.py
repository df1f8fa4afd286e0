"""`callboard config check` and `config push`: a cluster's file, before servers run by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from callboard import errors, settings
from callboard.cli import configuration, exits, output, publishing
from callboard.cluster import model, pushed, topology

File = Annotated[Path | None, Parameter(help="The cluster's file. [cluster.toml here]")]
OTHERS: Final = "(others)"
OWN: Final = "(found at its start)"
BUILT_IN: Final = "(built-in kinds)"
OF_APP: Final = "(those of the app)"
ITS_GATEWAYS: Final = "(its gateways)"
LONG: Final = ("registries", "controllers", "site controllers", "data", "store", "coordination")
"""What is in the JSON alone."""
Json = Annotated[bool, Parameter(name="--json", help="Print JSON.")]


def check(file: File = None, /, *, json: Json = False) -> int:
    """Print what each server of a cluster's file runs; or all that is wrong with it, each with its line. Nothing is connected."""
    try:
        cluster = configuration.cluster(file)
    except errors.InvalidSetting as error:
        for fault in error.data.get("faults", [error.message]):
            output.complain(fault, error.code)
        return exits.Exit.INVALID
    templates = (cluster.auto,) if cluster.auto else ()
    found = [_told(cluster, server) for server in (*cluster.servers.values(), *templates)]
    if json:
        output.document({"cluster": cluster.cluster, "version": cluster.version, "groups": cluster.groups, "servers": found})
        return exits.Exit.OK
    if output.on_terminal():
        output.line(f"{cluster.cluster}, version {cluster.version}; groups {' '.join(cluster.groups)}")
    columns = [name for name in found[0] if name not in LONG]
    output.table(columns, [[each[name] for name in columns] for each in found])
    return exits.Exit.OK


def push(file: File = None, /, *, json: Json = False) -> int:
    """Publish a cluster's file at its sites: servers that start with an older one from now on stand for no office.

    Its version must be higher than what was published before. What is kept is the text without passwords.
    """
    found = file or Path(topology.FILE)
    text = configuration.text(found)
    cluster = topology.parse(text, str(found))
    if not cluster.together:
        raise errors.InvalidInput("the file has one server: there is nobody to publish it for")
    before = publishing.push(cluster, text)
    if json:
        was = {site: None if each is None else each.version for site, each in before.items()}
        output.document({"cluster": cluster.cluster, "version": cluster.version, "before": was})
        return exits.Exit.OK
    for site, each in before.items():
        had = "none" if each is None else f"version {each.version}"
        output.line(f"site {site} has version {cluster.version}; before it had {had}")
    return exits.Exit.OK


def _told(cluster: model.Topology, server: model.Server) -> dict[str, Any]:
    given = model.settings_for(cluster, server.name)
    works = given.worker.count > 0
    return {
        "server": OTHERS if server is cluster.auto else server.name,
        "site": server.site,
        "address": server.address or (OWN if cluster.together else given.wire.host),
        "gateways": " ".join(_gateways(given)) or "none",
        "workers": f"{given.worker.count} of {given.worker.slots} slots" if works else "none",
        "app": given.app or BUILT_IN,
        "domains": " ".join(given.worker.domains) if works else "",
        "queues": " ".join(given.worker.queues or (OF_APP,)) if works else "",
        "services": given.service.count if given.app else 0,
        "registries": given.registry.count or ITS_GATEWAYS,
        "controllers": given.controller.count or ITS_GATEWAYS,
        "site controllers": given.controller.site_count or ITS_GATEWAYS,
        "data": given.data,
        "store": pushed.shown(given.store_url),
        "coordination": pushed.shown(given.coordination_url),
    }


def _gateways(given: settings.Settings) -> list[str]:
    return [f"{given.gateway.host}:{given.gateway.port + index}" for index in range(given.gateway.count)]
