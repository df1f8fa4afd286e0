"""The log of changes: how a replica is loaded, follows the commits of all processes, and how the log is kept short.

The log consists of epochs. The present one grows by an entry a commit, numbered by ZooKeeper without gaps. A process that
finds it long begins a new epoch; the one before stays for those who are behind, what is older goes. Who is further behind
loads anew.
"""

from __future__ import annotations

from typing import Final

from callboard import errors
from callboard.ensembles import client, requests
from callboard.jobs.engines.memory.tables import Key
from callboard.jobs.engines.zookeeper import codec, ground, layout, replica

EPOCH_BYTES: Final = 8 << 20
EPOCH_ENTRIES: Final = 10_000
_FIRST_LOOK: Final = 2
_MOST_AT_ONCE: Final = 256
_LOOK_BYTES: Final = 4 << 20
"""Of entries that are asked for at once, as far as they are like those before."""
_SWEPT_AT_ONCE: Final = 100


class Log:
    """A replica and its place in the log. The engine's lock is held by whoever calls."""

    def __init__(self, asked: client.Client, where: layout.Layout, backlog: int) -> None:
        self._client = asked
        self._where = where
        self._backlog = backlog
        self.held = replica.Replica(backlog)
        self.epoch = 0
        self.number = 0
        """Of the next entry to follow."""
        self.next = 0
        """Of the next entry that is not there, as far as is known."""
        self.head_stamp = 0
        self.loads = 0
        self.followed = 0
        """Entries that were read, for the figures."""
        self._loading = False
        """The log is behind what was loaded: a job that it tells of may be gone."""
        self._bytes = 0
        self._own: dict[int, list[Key]] = {}
        """Own commits that stand behind entries that were not followed yet, with the jobs that they made."""
        self._old: list[str] = []
        """What is left of old epochs, and is to be deleted by this process."""

    def refresh(self, *, sync: bool, mine: tuple[bytes, int] | None = None) -> bool:
        """Follow the log to its end; after `sync`, that is all that was committed before this was called.

        Returns whether the commit `mine` (token and number) was met. Raises Interrupted, StoreUnavailable.
        """
        if not self.epoch:
            self._client.sync()
            self._load()
            sync = False
        met, wanted, moved = False, _FIRST_LOOK, False
        while True:
            numbers = range(self.number, self.number + wanted)
            # The head is read last: if it names the next epoch at most, nothing of this one was gone when the entries were read.
            paths = [*(self._where.entry(self.epoch, each) for each in numbers), self._where.head]
            *entries, top = self._client.synced(paths) if sync else self._client.read(paths)
            sync = False
            head = ground.head(top, self._where)
            size = 0
            for entry in entries:
                if entry is None:
                    break
                size += len(entry.body)
                met |= self._follow(entry, mine)
            else:
                wanted = max(_FIRST_LOOK, min(4 * wanted, _MOST_AT_ONCE, _LOOK_BYTES * wanted // (size + 1)))
                continue
            assert top is not None, "it was looked at"
            if head.epoch == self.epoch:
                self.head_stamp = top.version
                self._loading = False
                return met
            if head.epoch > self.epoch + 1:
                self._load()
            elif moved:  # Seen twice: nothing can be added to the old epoch since.
                self._enter(self.epoch + 1)
            moved = head.epoch == self.epoch + 1
            wanted = _FIRST_LOOK

    def committed(self, number: int, made: list[Key], size: int) -> None:
        """An own commit became entry `number`, and the replica has it."""
        self.next = number + 1
        self._bytes += size
        if number == self.number:
            self.number += 1
        else:
            self._own[number] = made

    @property
    def place(self) -> tuple[int, int, int]:
        """Where in the log the replica is: it changes with all that is followed."""
        return self.loads, self.epoch, self.number

    def forget(self) -> None:
        """The replica is wrong, or its place is unknown: load anew at the next refresh."""
        self.epoch = 0

    def shorten(self) -> None:
        """Begin a new epoch when this one is long, and delete a piece of an old one. Raises Interrupted, StoreUnavailable."""
        if self._old:
            piece, self._old = self._old[:_SWEPT_AT_ONCE], self._old[_SWEPT_AT_ONCE:]
            self._client.commit([requests.delete(path) for path in piece])
        elif self._bytes > EPOCH_BYTES or self.number > EPOCH_ENTRIES:
            head = codec.encode(codec.Head(codec.FORMAT, codec.FORMAT, self.epoch + 1))
            begin = [
                requests.write(self._where.head, head, self.head_stamp),
                requests.create(self._where.epoch(self.epoch + 1), b""),
            ]
            if not any(result.code for result in self._client.commit(begin)):
                self._sweep(self.epoch)

    def _sweep(self, before: int) -> None:
        """Note what is older than an epoch for deletion."""
        epochs = [int(name) for name in self._client.children(self._where.log) or () if name.isdecimal()]
        for epoch in sorted(epochs):
            if epoch < before:
                path = self._where.epoch(epoch)
                self._old += [f"{path}/{name}" for name in self._client.children(path) or ()]
                self._old.append(path)

    def _follow(self, found: requests.Content, mine: tuple[bytes, int] | None) -> bool:
        """Take over one entry; tell whether it is `mine`."""
        number = self.number
        self.number += 1
        self.next = max(self.next, self.number)
        if number in self._own:
            self.held.place(self._own.pop(number), self.epoch, number)
            return False
        entry = codec.decode_entry(found.body)
        own = {key for made in self._own.values() for key in made} if self._own else None
        if not self.held.follow(entry, self.epoch, number, loading=self._loading, own=own):
            self.forget()
            raise errors.StoreUnavailable("this process's picture of the store was wrong: it is made anew")
        self.followed += 1
        self._bytes += len(found.body)
        return mine == (entry.token, entry.number)

    def _enter(self, epoch: int, number: int = 0) -> None:
        self.epoch, self.number, self.next, self._bytes = epoch, number, number, 0
        self._own.clear()

    def _load(self) -> None:
        """Read all there is: first the log's end, then jobs, documents and nodes, which may be newer than that; from the end of
        the log on, following it makes them true."""
        where, asked = self._where, self._client
        while True:
            (top,) = asked.read([where.head])
            epoch = ground.head(top, where).epoch
            names = asked.children(where.epoch(epoch))
            if names is None:
                continue  # It has moved on twice in between.
            last = max(names, default=None)
            (end,) = asked.read([where.epoch(epoch) if last is None else f"{where.epoch(epoch)}/{last}"])
            if end is not None:
                break
        held = replica.Replica(self._backlog)
        self._load_jobs(held, end.czxid)
        for body, version in self._bodies(where.documents):
            document = codec.decode_document(body)
            held.take_document(document.domain, document.path, version, document.version, document.body is not None)
        for name in asked.children(where.nodes) or ():
            (found,) = asked.read([f"{where.nodes}/{name}"])
            if found is not None:
                held.take_renewed(bytes.fromhex(name), found.version, codec.decode_time(found.body))
        self.held = held
        self.loads += 1
        self._loading = True
        self._enter(epoch, 0 if last is None else layout.number(last) + 1)

    def _load_jobs(self, held: replica.Replica, newest: int) -> None:
        """Take in the jobs; those that are newer than a transaction come with the log."""
        found: list[tuple[int, int, codec.Body, int]] = []
        for bucket in layout.BUCKETS:
            above = self._where.bucket(bucket)
            paths = [f"{above}/{name}" for name in self._client.children(above) or ()]
            for each in self._client.read(paths):
                if each is not None and each.czxid <= newest:
                    body = codec.decode_body(each.body)
                    found.append((each.czxid, body.fixed.index, body, each.version))
        found.sort(key=lambda each: each[:2])
        place, before = -len(found), 0
        for czxid, index, body, version in found:
            place += czxid != before
            before = czxid
            held.load(codec.slim(body), place << replica.LEFT_OUT | index, version, body.moving.fences)

    def _bodies(self, above: str) -> list[tuple[bytes, int]]:
        paths = [f"{above}/{name}" for name in self._client.children(above) or ()]
        return [(each.body, each.version) for each in self._client.read(paths) if each is not None]


def owners(held: replica.Replica) -> set[bytes]:
    """Return the nodes that run jobs, or have renewed."""
    return {*(node for (node,) in held.running), *held.renewed}
