"""`cluster.toml`: read, judged, made into a `model.Topology`. Pure: text in, value out.

    version = 1
    [store]                       any setting, for all servers
    [groups]                      which group serves which domains
    [sites.NAME]                  any setting, for the servers of a site
    [servers.NAME]                address, site, and any setting, for one server
    [servers.auto]                the same, for servers that have no name here

Settings have the names that they have everywhere (`callboard.settings`).
"""

from __future__ import annotations

from typing import Any, Final

from callboard import errors
from callboard.cluster import model, reading, rules
from callboard.kit import grammar

FILE: Final = "cluster.toml"
"""Looked for in the working directory."""
AUTHORITY: Final = "cluster-ca"
"""The name that the authority has among certificates."""
DEFAULT_SITE: Final = "main"
EVERYTHING: Final = ("main=.",)
"""The groups of a file that names none: one, for all domains."""


def parse(text: str, file: str = FILE) -> model.Topology:
    """Return what a file says. `file` is its name in what is said about it.

    Raises InvalidSetting, whose `faults` has one line for each thing that is wrong, in the order of the file.
    """
    read = reading.Reading(text, file)
    topology = _made(read) if read.usable else None
    if read.faults or topology is None:
        faults = [fault.said for fault in sorted(read.faults)]
        more = f" (and {len(faults) - 1} more: callboard config check {file})" if len(faults) > 1 else ""
        raise errors.InvalidSetting(faults[0] + more, faults=faults)
    return topology


def _made(read: reading.Reading) -> model.Topology:
    common = read.settings((), "top", reading.TOP)
    cluster = common.pop("cluster", "callboard")
    sites = _sites(read)
    servers = {name: _server(name, common, sites, read) for name in read.table(("servers",))}
    if not servers:
        read.wrong(("servers",), "there is none: write a table [servers.NAME] for each")
    made = model.Topology(
        version=_version(read),
        cluster=cluster,
        groups=_groups(read),
        auto=servers.pop(model.AUTO, None),
        servers=servers,
    )
    rules.judge(made, read)
    return made


def _version(read: reading.Reading) -> int:
    version = read.tables.get("version")
    if version is None:
        read.wrong(("version",), "is missing: write version = 1, and count it up at each change")
    elif not isinstance(version, int) or isinstance(version, bool) or not 1 <= version < 1 << 31:
        read.wrong(("version",), "is a number from 1 on")
    else:
        return version
    return 1


def _groups(read: reading.Reading) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for group, domains in read.table(("groups",)).items():
        path = ("groups", group)
        try:
            grammar.check_label(group, "group")
            for domain in domains if isinstance(domains, list) else [domains]:
                checked = domain if domain == grammar.ROOT_DOMAIN else grammar.check_domain(domain)
                if checked in found:
                    read.wrong(path, f"domain {checked} is named by {found[checked]} already: leave it to one")
                found.setdefault(checked, group)
        except errors.InvalidName as error:
            read.wrong(path, error.message)
    return tuple(f"{group}={domain}" for domain, group in found.items()) or EVERYTHING


def _sites(read: reading.Reading) -> dict[str, dict[str, Any]]:
    found = {}
    for site in read.table(("sites",)):
        try:
            grammar.check_label(site, "site")
        except errors.InvalidName as error:
            read.wrong(("sites", site), error.message)
        found[site] = read.settings(("sites", site), "site")
    return found


def _server(name: str, common: dict[str, Any], sites: dict[str, dict[str, Any]], read: reading.Reading) -> model.Server:
    path = ("servers", name)
    if name != model.AUTO:
        _check_name(name, read)
    own = read.settings(path, "server", reading.SERVER)
    site = _site(read, path, list(sites))
    return model.Server(
        name=name, site=site, address=read.text((*path, "address")), given={**common, **sites.get(site, {}), **own}
    )


def _check_name(name: str, read: reading.Reading) -> None:
    path = ("servers", name)
    if name == AUTHORITY:
        read.wrong(path, "is the name of the authority among certificates: name the server otherwise")
    try:
        grammar.check_domain(name)
    except errors.InvalidName:
        read.wrong(path, "a server's name is labels with dots, of a-z, 0-9 and '-'")


def _site(read: reading.Reading, path: tuple[str, ...], sites: list[str]) -> str:
    said = read.text((*path, "site"))
    if said is None:
        if len(sites) > 1 and not read.has((*path, "site")):
            read.wrong((*path, "site"), f"is missing: there is {', '.join(sites)}")
        return sites[0] if sites else DEFAULT_SITE  # Of several: so that nothing else is found wrong with it for this.
    if sites and said not in sites:
        read.nearest((*path, "site"), "site", said, sites)
        return sites[0]
    try:
        return grammar.check_label(said, "site")
    except errors.InvalidName as error:
        read.wrong((*path, "site"), error.message)
        return DEFAULT_SITE
