"""What must hold of a PostgreSQL server. Pure: what the server said in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from callboard.databases.products import Finding, Level

LEAST_VERSION: Final = 130_000
_LEAST_CONNECTIONS: Final = 50


def unfit(number: int, version: str, recovering: bool, read_only: bool, encoding: str) -> str:
    """Why nothing can be kept there; empty when it can. Looked at on every connection."""
    found = _needed(number, version, recovering, read_only, encoding)
    return next((f"{each.what}: {each.mend}" for each in found if each.level is Level.UNFIT), "")


def findings(
    said: Mapping[str, str], recovering: bool, encoding: str, may_create: bool, schema: str, may_work: bool | None = None
) -> list[Finding]:
    """Judge a server by its settings, the database's encoding, and whether the user may create in the schema (empty: there is
    none) and work with our tables (None: there are none)."""
    read_only = said["default_transaction_read_only"] == "on"
    found = list(_needed(int(said["server_version_num"]), said["server_version"], recovering, read_only, encoding))
    found.append(_granted(may_create, may_work, schema))
    return [*found, *_durable(said), *_room(said, encoding)]


def _needed(number: int, version: str, recovering: bool, read_only: bool, encoding: str) -> Iterator[Finding]:
    if number < LEAST_VERSION:
        yield Finding(Level.UNFIT, f"PostgreSQL {version} is too old", "PostgreSQL 13 or newer is needed")
    else:
        yield Finding(Level.FIT, f"PostgreSQL {version}")
    if recovering:
        yield Finding(Level.UNFIT, "the server is a standby, and read-only", "name the server that writes")
    elif read_only:
        mend = "set it off there, or name the server that writes"
        yield Finding(Level.UNFIT, "the server is read-only (default_transaction_read_only = on)", mend)
    if encoding != "UTF8":
        what = f"the database's encoding is {encoding}: text of other languages cannot be kept"
        yield Finding(Level.UNFIT, what, "make the database anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0")


def _granted(may_create: bool, may_work: bool | None, schema: str) -> Finding:
    if not schema:
        what = "none of the schemas in the user's search_path exists: there is no place for tables"
        return Finding(Level.UNFIT, what, "CREATE SCHEMA, or ALTER ROLE … SET search_path")
    if may_work is False:
        what = f"the user may not use the tables callboard_… that are there in the schema {schema}"
        return Finding(Level.UNFIT, what, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO that user")
    if may_create:
        return Finding(Level.FIT, f"the user may create tables in the schema {schema}")
    if may_work:
        what = "the user may work with the tables that are there, and not change them"
        return Finding(Level.WARNING, what, "before an update, run 'callboard migrate' as their owner")
    mend = f"GRANT CREATE, USAGE ON SCHEMA {schema} TO that user"
    return Finding(Level.UNFIT, f"the user may not create tables in the schema {schema}", mend)


def _durable(said: Mapping[str, str]) -> Iterator[Finding]:
    weak = [f"{name} = on" for name in ("fsync", "full_page_writes") if said[name] == "off"]
    if weak:
        what = "what was acknowledged may be lost, and the data damaged, when the server's machine loses power"
        yield Finding(Level.WARNING, what, f"set {', '.join(weak)} on the server")
    else:
        yield Finding(Level.FIT, "commits are on the disk before they are acknowledged")
    if said["synchronous_commit"] == "off":
        what = "synchronous_commit is off: Callboard's own sessions set it on, other programs' commits may be lost"
        yield Finding(Level.WARNING, what, "set synchronous_commit = on on the server")


def _room(said: Mapping[str, str], encoding: str) -> Iterator[Finding]:
    if encoding == "UTF8":
        yield Finding(Level.FIT, "encoding UTF8")
    connections = int(said["max_connections"])
    if connections < _LEAST_CONNECTIONS:
        yield Finding(Level.WARNING, f"max_connections is {connections}, and each node takes two", "raise max_connections")
    else:
        yield Finding(Level.FIT, f"max_connections is {connections}; each node takes two")
