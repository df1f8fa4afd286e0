"""How many commits of a Galera cluster were refused because another node's went first: over all its nodes, between two looks."""

from __future__ import annotations

from typing import Any

import msgspec

from callboard.cli.bench import hands


class Counts(msgspec.Struct, frozen=True):
    """What the nodes have counted since they started: write sets sent, and those refused or rolled back for another's sake."""

    sent: int
    refused: int


def counts(url: str) -> Counts:
    """Ask every host of a URL."""
    driver: Any = hands.driver(url)
    nodes = driver.statuses(url)
    refused = sum(node["wsrep_local_cert_failures"] + node["wsrep_local_bf_aborts"] for node in nodes)
    return Counts(sum(node["wsrep_replicated"] for node in nodes), refused)


def share(before: Counts | None, after: Counts | None) -> dict[str, float]:
    """Return the refused ones as percent of all commits between two looks; nothing without both."""
    if before is None or after is None or after.sent == before.sent:
        return {}
    refused = after.refused - before.refused
    return {"certification failures": 100 * refused / (after.sent - before.sent + refused)}
