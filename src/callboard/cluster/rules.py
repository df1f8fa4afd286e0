"""What the keys of a cluster's file must be together: servers that can work together, and do not stand on each other's feet.

Pure: judges what was read, and notes what is wrong.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from typing import Final

from callboard import databases, errors, settings
from callboard.cluster import lines, model, reading
from callboard.databases import address

LONELY: Final = frozenset({"", "sqlite", "memory", "local"})
"""Schemes of stores and coordinations that servers cannot share."""


def judge(topology: model.Topology, read: reading.Reading) -> None:
    """Note in `read` what is wrong with servers that were read from it."""
    templates = (topology.auto,) if topology.auto else ()
    for server in (*topology.servers.values(), *templates):
        _judge_server(topology, server, read)
    if topology.together:
        for server in (*topology.servers.values(), *templates):
            _judge_shared(server, read)
        for one, other in itertools.combinations(topology.servers.values(), 2):
            _judge_pair(one, other, read)
        _judge_sites(topology, read)


def _judge_server(topology: model.Topology, server: model.Server, read: reading.Reading) -> None:
    known = sorted({text.partition("=")[0] for text in topology.groups})
    group = server.given.get("service.group")
    if group is not None and group not in known:
        read.nearest(_where(server, "service.group", read), "group", group, known)
    for name in ("store.url", "coordination.url"):
        url = server.given.get(name)
        if url is not None and databases.named(url):
            try:
                address.parsed(url)
            except errors.InvalidSetting as error:
                _once(read, _where(server, name, read), error.message)


def _judge_shared(server: model.Server, read: reading.Reading) -> None:
    table = ("servers", server.name)
    if server.name != model.AUTO and server.address is None and not read.has((*table, "address")):
        read.wrong((*table, "address"), "is missing: where do other servers reach this one?")
    if server.address is not None and _unspecified(server.address):
        read.wrong((*table, "address"), f"{server.address} is no address that others reach: write the server's own")
    for name, mend in (
        ("store.url", "a database's, like mysql://USER:PASSWORD@HOST/DATABASE"),
        ("coordination.url", "like zookeeper://HOST,HOST,HOST/PATH, or a database's"),
    ):
        scheme = server.given.get(name, "").partition(":")[0]
        if scheme in LONELY:
            what = f"{scheme}: works for one server alone" if scheme else "is missing, and several servers share it"
            _once(read, _where(server, name, read), f"{what}: write one that all reach, {mend}")


def _judge_pair(one: model.Server, other: model.Server, read: reading.Reading) -> None:
    if one.address is None or one.address != other.address:
        return
    here, there = (settings.load(under=each.given) for each in (one, other))
    if here.directory == there.directory:
        read.wrong(("servers", other.name), f"has the address and the data directory of {one.name}: give it its own")
    hosts = {here.gateway.host, there.gateway.host}
    if set(_ports(here)) & set(_ports(there)) and (len(hosts) == 1 or any(map(_unspecified, hosts))):
        why = f"has the address of {one.name}, and a gateway on the same port: give it another gateway.port"
        read.wrong(("servers", other.name), why)


def _judge_sites(topology: model.Topology, read: reading.Reading) -> None:
    """Each site coordinates itself: one that reaches over two would end the sessions of both when their link is cut."""
    urls: dict[str, str] = {}
    for server in (*topology.servers.values(), *((topology.auto,) if topology.auto else ())):
        url = server.given.get("coordination.url")
        if url is not None:
            site = urls.setdefault(url, server.site)
            if site != server.site:
                why = f"sites {site} and {server.site} have the same one: give each its own, in [sites.{server.site}]"
                _once(read, _where(server, "coordination.url", read), why)


def _ports(given: settings.Settings) -> Iterator[int]:
    return iter(range(given.gateway.port, given.gateway.port + given.gateway.count))


def _unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _where(server: model.Server, name: str, read: reading.Reading) -> lines.Path:
    """Return the path at which a server's setting stands: its own, its site's, that for all."""
    below = tuple(name.split("."))
    for table in (("servers", server.name), ("sites", server.site)):
        if read.has(table + below):
            return table + below
    return below


def _once(read: reading.Reading, path: lines.Path, why: str) -> None:
    """Note what is wrong with a key that several servers have from one place."""
    before = len(read.faults)
    read.wrong(path, why)
    if read.faults[-1] in read.faults[:before]:
        read.faults.pop()
