"""What must hold of a MySQL or MariaDB server, and of a Galera cluster. Pure: what the server said in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Final

from callboard.databases import products
from callboard.databases.products import Finding, Level

PRIVILEGES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "INDEX")
MIGRATING: Final = frozenset(("CREATE", "ALTER", "INDEX"))
"""Of these, what is needed only to make the tables, and to change them after an update."""
BY_ROLE: Final = "by role"
"""Stands among a user's privileges when more of them may come by a role, where nobody sees them."""
_LEAST_PACKET: Final = 1 << 20
_GOOD_PACKET: Final = 16 << 20
_LEAST_CONNECTIONS: Final = 50


def unfit(said: Mapping[str, str]) -> str:
    """Why nothing can be kept on a server with these variables; empty when it can. Looked at on every connection."""
    return next((f"{each.what}: {each.mend}" for each in _needed(said) if each.level is Level.UNFIT), "")


def findings(
    said: Mapping[str, str], cluster: Mapping[str, str], privileges: Set[str], database: str, *, tables: bool = False
) -> list[Finding]:
    """Judge a server by its variables, its status as a node of a cluster (empty: it is none), and the user's privileges, in a
    database that has our tables or has not."""
    found = [*_needed(said), _granted(privileges, database, tables), *_durable(said), *_room(said)]
    if said.get("wsrep_on") == "ON":
        found += _node(said, cluster)
    return found


def _needed(said: Mapping[str, str]) -> Iterator[Finding]:
    version = said["version"]
    name, least = ("MariaDB", (10, 6)) if "MariaDB" in version else ("MySQL", (8, 0))
    if products.numbers(version) < least:
        needed = ".".join(map(str, least))
        yield Finding(Level.UNFIT, f"{name} {version} is too old", f"{name} {needed} or newer is needed")
    else:
        yield Finding(Level.FIT, f"{name} {version}")
    for variable in ("read_only", "super_read_only", "innodb_read_only"):
        if said.get(variable, "OFF") not in ("OFF", "0"):
            yield Finding(
                Level.UNFIT,
                f"the server is read-only ({variable} = {said[variable]})",
                "let it write again, or name the server that writes",
            )
    packet = int(said["max_allowed_packet"])
    if packet < _GOOD_PACKET:
        level = Level.UNFIT if packet < _LEAST_PACKET else Level.WARNING
        yield Finding(level, f"max_allowed_packet is {packet} bytes", "set max_allowed_packet = 16M or more on the server")
    else:
        yield Finding(Level.FIT, f"max_allowed_packet is {packet >> 20} MiB")
    if said.get("log_bin") == "ON" and said.get("binlog_format") == "STATEMENT":
        yield Finding(
            Level.UNFIT, "binlog_format is STATEMENT, which refuses READ COMMITTED", "set binlog_format = ROW on the server"
        )
    if (engine := said.get("default_storage_engine", "InnoDB")) != "InnoDB":
        yield Finding(Level.WARNING, f"default_storage_engine is {engine}; Callboard's tables are InnoDB all the same", "")


def _granted(privileges: Set[str], database: str, tables: bool) -> Finding:
    lacking = [each for each in PRIVILEGES if each not in privileges]
    if not lacking:
        return Finding(Level.FIT, "the user may do what is needed")
    mend = f"GRANT {', '.join(PRIVILEGES)} ON `{database}`.* TO that user"
    if BY_ROLE in privileges:
        return Finding(Level.WARNING, f"the user lacks {', '.join(lacking)}, if its role does not bring it", mend)
    if tables and MIGRATING.issuperset(lacking):
        what = f"the user may work with the tables that are there, and not change them: it lacks {', '.join(lacking)}"
        return Finding(Level.WARNING, what, "before an update, run 'callboard migrate' as a user who has them")
    return Finding(Level.UNFIT, f"the user lacks {', '.join(lacking)}", mend)


def _durable(said: Mapping[str, str]) -> Iterator[Finding]:
    weak = []
    if said.get("innodb_flush_log_at_trx_commit") not in ("1", "3"):
        weak.append("innodb_flush_log_at_trx_commit = 1")
    if said.get("innodb_flush_method") in ("nosync", "O_DIRECT_NO_FSYNC", "littlesync"):
        weak.append("innodb_flush_method = O_DIRECT")
    if said.get("innodb_doublewrite") == "OFF":
        weak.append("innodb_doublewrite = ON")
    if said.get("log_bin") == "ON" and said.get("sync_binlog") == "0":
        weak.append("sync_binlog = 1")
    if weak:
        what = "what was acknowledged may be lost when the server's machine loses power"
        yield Finding(Level.WARNING, what, f"set {', '.join(weak)} on the server")
    else:
        yield Finding(Level.FIT, "commits are on the disk before they are acknowledged")


def _room(said: Mapping[str, str]) -> Iterator[Finding]:
    charset = said.get("character_set_database", "utf8mb4")
    if charset != "utf8mb4":
        mend = "ALTER DATABASE … CHARACTER SET utf8mb4, if others keep text there too"
        yield Finding(Level.WARNING, f"the database's character set is {charset}; Callboard's columns have their own", mend)
    else:
        yield Finding(Level.FIT, f"character set utf8mb4, collation {said.get('collation_database', 'unknown')}")
    connections = int(said.get("max_connections", "151"))
    if connections < _LEAST_CONNECTIONS:
        yield Finding(Level.WARNING, f"max_connections is {connections}, and each node takes two", "raise max_connections")
    else:
        yield Finding(Level.FIT, f"max_connections is {connections}; each node takes two")


def _node(said: Mapping[str, str], cluster: Mapping[str, str]) -> Iterator[Finding]:
    size = int(cluster.get("wsrep_cluster_size", "0"))
    if size < 3 or size % 2 == 0:
        what = f"the Galera cluster has {size} nodes: it does not go on when it falls apart in halves"
        yield Finding(Level.WARNING, what, "make it three nodes, or five")
    else:
        yield Finding(Level.FIT, f"Galera cluster of {size} nodes, this one is {cluster.get('wsrep_local_state_comment')}")
    wanted = {
        "binlog_format": ("ROW",),
        "innodb_autoinc_lock_mode": ("2",),
        "wsrep_certify_nonPK": ("ON",),
        "wsrep_osu_method": ("TOI",),
    }
    by_name = {name.lower(): value for name, value in said.items()}
    for variable, values in wanted.items():
        if (value := by_name.get(variable.lower(), values[0])) not in values:
            level = Level.UNFIT if variable == "binlog_format" else Level.WARNING
            yield Finding(level, f"{variable} is {value}", f"set {variable} = {values[0]} on every node")
    parts = [part.partition("=") for part in said.get("wsrep_provider_options", "").split(";")]
    options = {name.strip(): value.strip() for name, _, value in parts}
    if options.get("pc.recovery", "true").lower() not in ("true", "yes", "on", "1"):
        what = "after all nodes were down at once, the cluster does not come back by itself"
        yield Finding(Level.WARNING, what, "set pc.recovery=TRUE in wsrep_provider_options on every node")
    if options.get("pc.ignore_sb", "false").lower() in ("true", "yes", "on", "1"):
        what = "pc.ignore_sb is set: halves of the cluster that do not see each other both write"
        yield Finding(Level.UNFIT, what, "remove pc.ignore_sb from wsrep_provider_options on every node")
    if said.get("wsrep_dirty_reads", "OFF") == "ON":
        yield Finding(Level.WARNING, "wsrep_dirty_reads is ON: a node that is cut off answers", "set wsrep_dirty_reads = OFF")
