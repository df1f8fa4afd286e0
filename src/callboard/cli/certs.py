"""`callboard certs`: the certificates by which the servers of a cluster know each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from callboard.cli import exits, output
from callboard.rpc import certs

HERE: Final = Path("certs")

Directory = Annotated[Path, Parameter(name="--dir", help="Directory of the files. [certs]")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON.")]


def init(*, dir: Directory = HERE, json: Json = False) -> int:
    """Make a cluster's authority: its key, which signs for servers and stays where it is, and its certificate, for all of them.

    Keep cluster-ca.key secret and backed up; copy cluster-ca.pem to every server.
    """
    return _told(certs.AUTHORITY, certs.init(dir), json=json)


def issue(
    name: Annotated[str, Parameter(help="Name of the server, as other servers dial it.")],
    /,
    *,
    dir: Directory = HERE,
    json: Json = False,
) -> int:
    """Make a key and a certificate for a server, signed by the authority in the directory.

    Move both files to the server, with a copy of cluster-ca.pem; the key stays readable by its owner alone.
    """
    return _told(name, certs.issue(dir, name), json=json)


def _told(name: str, made: certs.Files, *, json: bool) -> int:
    facts: dict[str, Any] = {
        "name": name,
        "certificate": str(made.certificate),
        "key": str(made.key),
        "valid_until": made.valid_until,
    }
    if json:
        output.document(facts)
    else:
        output.facts(facts.items())
    return exits.Exit.OK
