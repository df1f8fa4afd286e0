"""The log of changes: how a replica is loaded, follows the commits of all processes, and how the log is kept short.

The log consists of epochs. The present one grows by an entry a commit, numbered by ZooKeeper without gaps. A process that
finds it long begins a new epoch; a few before it stay for those who are behind, or are just loading; what is older goes. Who is
further behind loads anew, and who finds that the store is not the one that was followed: made anew, or restored from a copy.
"""

from __future__ import annotations

from typing import Final

from callboard import errors
from callboard.ensembles import client, requests
from callboard.jobs.engines.memory.tables import Key
from callboard.jobs.engines.zookeeper import codec, ground, layout, replica

EPOCH_BYTES: Final = 8 << 20
EPOCH_ENTRIES: Final = 10_000
KEPT: Final = 3
"""Epochs before the present one that stay."""
_FIRST_LOOK: Final = 2
_MOST_AT_ONCE: Final = 256
_LOOK_BYTES: Final = 4 << 20
"""Of entries that are asked for at once, as far as they are like those before."""
_SWEPT_AT_ONCE: Final = 100
_LOOKS: Final = 20
"""How often the log's end is looked for while it moves on."""


class Log:
    """A replica and its place in the log. The engine's lock is held by whoever calls."""

    def __init__(self, asked: client.Client, where: layout.Layout, backlog: int, token: bytes) -> None:
        """`token` is what own entries bear."""
        self._client = asked
        self._where = where
        self._backlog = backlog
        self._token = token
        self.held = replica.Replica(backlog)
        self.epoch = 0
        """0: nothing is held, or what is held is wrong."""
        self.number = 0
        """Of the next entry to follow."""
        self.next = 0
        """Of the next entry that is not there, as far as is known."""
        self.head_stamp = 0
        self.met = 0
        """The number within its entry of the last own commit that was met in the log, unknown until then."""
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
        self._made = 0
        """The transaction that made the store."""
        self._last = 0
        """The transaction of the entry before `number`."""
        self._connection = 0
        """On which that was seen to be there."""

    def refresh(self, *, sync: bool) -> None:
        """Follow the log to its end; after `sync`, that is all that was committed before this was called.

        Raises Interrupted, StoreUnavailable, StoreForeign, StoreTooNew, StoreCorrupt.
        """
        if self.epoch and self._client.connections != self._connection:
            self._recognise()
        wanted, moved = _FIRST_LOOK, False
        while True:
            if not self.epoch:
                self._client.sync()
                self._load()
                sync = moved = False
            numbers = range(self.number, self.number + wanted)
            # The head is read last: if it names an epoch after which this one is kept, nothing was gone when entries were read.
            paths = [*(self._where.entry(self.epoch, each) for each in numbers), self._where.head]
            ask = self._client.synced if sync else self._client.read
            *entries, top = ask(paths, codec.SMALL)
            sync = False
            head = ground.head(top, self._where)
            assert top is not None, "it was looked at"
            if top.czxid != self._made:
                self.forget()
                continue
            size = 0
            for entry in entries:
                if entry is None or not self._follow(entry):
                    break
                size += len(entry.body)
            else:
                wanted = max(_FIRST_LOOK, min(4 * wanted, _MOST_AT_ONCE, _LOOK_BYTES * wanted // (size + 1)))
                continue
            if not self.epoch:
                continue
            if head.epoch == self.epoch:
                self.head_stamp = top.version
                self._loading = False
                return
            if not self.epoch < head.epoch <= self.epoch + KEPT:
                self.forget()
            elif moved:  # Seen twice: nothing can be added to the old epoch since.
                self._enter(self.epoch + 1)
            moved = not moved
            wanted = _FIRST_LOOK

    def committed(self, last: requests.Result, made: list[Key], size: int) -> None:
        """An own commit was applied, its entry was the `last` step, and the replica has it."""
        number = layout.number(last.path)
        self._bytes += size
        if number < self.number:  # This is not the log that was followed.
            return self.forget()
        self.next = number + 1
        if number == self.number:
            self.number, self._last = self.next, last.zxid
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
                self._sweep(self.epoch + 1 - KEPT)

    def _sweep(self, before: int) -> None:
        """Note what is older than an epoch for deletion."""
        epochs = [int(name) for name in self._client.children(self._where.log) or () if name.isdecimal()]
        for epoch in sorted(epochs):
            if epoch < before:
                path = self._where.epoch(epoch)
                self._old += [f"{path}/{name}" for name in self._client.children(path) or ()]
                self._old.append(path)

    def _recognise(self) -> None:
        """See on a new connection whether what was followed last is still there: behind it there may be a restored store."""
        connection = self._client.connections
        if self.number:
            self._client.sync()
            (last,) = self._client.read([self._where.entry(self.epoch, self.number - 1)])
            if last is None or last.czxid != self._last:
                self.forget()
        self._connection = connection

    def _follow(self, found: requests.Content) -> bool:
        """Take over one entry; False when it does not fit: then all is to be loaded anew."""
        number = self.number
        self.number += 1
        self._last = found.czxid
        self.next = max(self.next, self.number)
        if number in self._own:
            self.held.place(self._own.pop(number), self.epoch, number)
            return True
        entry = codec.decode_entry(found.body)
        own = {key for made in self._own.values() for key in made} if self._own else None
        if not self.held.follow(entry, self.epoch, number, loading=self._loading, own=own):
            self.forget()
            return False
        self.followed += 1
        self._bytes += len(found.body)
        if entry.token == self._token:
            self.met = entry.number
        elif entry.crowded:
            self.held.spread.begin(owners(self.held))
        return True

    def _enter(self, epoch: int, number: int = 0) -> None:
        self.epoch, self.number, self.next, self._bytes = epoch, number, number, 0
        self._own.clear()

    def _load(self) -> None:
        """Read all there is: first the log's end, then jobs, documents and nodes, which may be newer than that; from the end of
        the log on, following it makes them true."""
        where, asked = self._where, self._client
        connection = asked.connections
        for _ in range(_LOOKS):
            (top,) = asked.read([where.head])
            epoch = ground.head(top, where).epoch
            last = max(asked.children(where.epoch(epoch)) or (), default=None)
            (end,) = asked.read([where.epoch(epoch) if last is None else f"{where.epoch(epoch)}/{last}"])
            if end is not None:
                break  # Else it has moved on in between, further than epochs are kept.
        else:
            raise errors.StoreCorrupt(f"{where.epoch(epoch)} in ZooKeeper is gone: restore {where.root} from a copy")
        held = replica.Replica(self._backlog)
        self._load_jobs(held, end.czxid)
        for body, version in self._bodies(where.documents):
            document = codec.decode_document(body)
            held.take_document(document.domain, document.path, version, document.version, document.body is not None)
        names = asked.children(where.nodes) or ()
        for name, found in zip(names, asked.read([f"{where.nodes}/{name}" for name in names], codec.SMALL), strict=True):
            if found is not None:
                held.take_renewed(bytes.fromhex(name), found.version, codec.decode_time(found.body))
        assert top is not None, "it was looked at"
        self.held = held
        self.loads += 1
        self._loading = True
        self._enter(epoch, 0 if last is None else layout.number(last) + 1)
        self._made, self._last, self._connection = top.czxid, end.czxid, connection

    def _load_jobs(self, held: replica.Replica, newest: int) -> None:
        """Take in the jobs; those that are newer than a transaction come with the log."""
        found: list[tuple[int, int, codec.Body, int]] = []
        for bucket in layout.BUCKETS:
            above = self._where.bucket(bucket)
            paths = [f"{above}/{name}" for name in self._client.children(above) or ()]
            for each in self._client.read(paths, codec.SMALL):
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
