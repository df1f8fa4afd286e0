"""`callboard check` and `callboard migrate`: is a server fit, and a store's schema of today."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from callboard import brokers, databases, ensembles
from callboard.cli import configuration, exits, output
from callboard.jobs import engines

Url = Annotated[str | None, Parameter(help="URL of the store. [the store of the settings here]")]
Config = Annotated[Path | None, Parameter(help="Settings file. [callboard.toml here, or $CALLBOARD_CONFIG]")]
_STORE_OPTIONS = ("backlog",)
"""What the URL of a store in ZooKeeper has beside the ensemble's own options."""
Json = Annotated[bool, Parameter(name="--json", help="Print JSON.")]


def check(url: Url = None, /, *, config: Config = None, json: Json = False) -> int:
    """Tell whether the server of a store, or of a message broker, is fit: what was found, and how to mend it.

    Nothing is changed there. A database (mysql://, postgresql://) and an ensemble (zookeeper://) are looked at closely, a broker
    (activemq://) as far as its door; another store is opened, and that is all.
    Ends with 6 when something is unfit.
    """
    given = url or configuration.load(config, {}).store_url
    if databases.named(given):
        found = [(each.level.value, each.what, each.mend) for each in databases.check(given)]
    elif ensembles.named(given):
        found = ensembles.check(given, _STORE_OPTIONS)
    elif brokers.named(given):
        found = asyncio.run(brokers.check(given))
    else:
        engines.open(given).close()
        found = [("fit", f"the {given.partition(':')[0]} store opens", "")]
    if json:
        output.document([dict(zip(("level", "found", "mend"), each, strict=True)) for each in found])
    else:
        output.table(("", "found", "mend"), found)
    return exits.Exit.STARTUP if any(level == "unfit" for level, _, _ in found) else exits.Exit.OK


def migrate(url: Url = None, /, *, config: Config = None, json: Json = False) -> int:
    """Bring a store's schema to the version that this Callboard writes. Others may work with it meanwhile, older ones too.

    First this, once; then the new programs, one server after the other.
    """
    done = engines.migrate(url or configuration.load(config, {}).store_url)
    if json:
        output.document(done)
    elif done.before == done.version:
        output.line(f"nothing to do: schema {done.version}")
    else:
        output.line(f"schema {done.before or 'none'} is now {done.version}; programs that read {done.min_reader} or later go on")
    return exits.Exit.OK
