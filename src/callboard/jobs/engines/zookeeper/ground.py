"""What a store stands on: made once, and looked at by whoever opens it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callboard import errors
from callboard.ensembles import client, requests
from callboard.jobs.engines.zookeeper import codec, layout

FIRST_EPOCH: Final = 1
_NEIGHBOURS: Final = frozenset({"sessions", "entries", "seals"})
"""What coordination keeps under the same root."""


def made(asked: client.Client, where: layout.Layout) -> None:
    """Make the ground where there is none. Raises StoreForeign, StoreTooNew, Interrupted, StoreUnavailable, StoreRefused."""
    asked.sync()
    there = asked.children(where.root)  # Before the head is looked for: what is there with it was made together with it.
    (found,) = asked.read([where.head])
    if found is not None:
        head(found, where)
        return
    if strangers := set(there or ()) - _NEIGHBOURS:
        name = sorted(strangers)[0]
        raise errors.StoreForeign(
            f"{where.root} in ZooKeeper holds something else ({name!r:.80}): give the store a root of its own"
        )
    if there is None:
        _grow(asked, where.above())
    begin = codec.Head(codec.FORMAT, codec.FORMAT, FIRST_EPOCH)
    steps = [requests.create(path, b"") for path in where.ground(FIRST_EPOCH)]
    asked.commit([*steps, requests.create(where.head, codec.encode(begin))])  # Or somebody else has just done it.


def _grow(asked: client.Client, paths: Sequence[str]) -> None:
    """Make the last of some nodes, each below the one before, and of the others those that are absent.

    Who may write below a node that is there need not have a right to what is above it.
    """
    absent: list[str] = []
    for path in reversed(paths):
        (made,) = asked.commit([requests.create(path, b"")])  # Or it is there.
        if made.code != requests.NO_NODE:
            break
        absent.append(path)
    for path in reversed(absent):
        asked.commit([requests.create(path, b"")])


def head(found: requests.Content | None, where: layout.Layout) -> codec.Head:
    """Return what a head says. Raises StoreForeign, StoreTooNew."""
    if found is None:
        raise errors.StoreForeign(f"{where.head} in ZooKeeper is gone: restore {where.root} from a copy, or open it anew")
    try:
        read = codec.decode_head(found.body)
    except codec.DecodeError:
        read = None
    if read is None:
        raise errors.StoreForeign(f"{where.head} in ZooKeeper is no store's: give the store a root of its own")
    if read.min_reader > codec.FORMAT:
        why = f"the store at {where.root} has format {read.format}, this version of Callboard reads {codec.FORMAT}"
        raise errors.StoreTooNew(f"{why}: install a newer one")
    return read
