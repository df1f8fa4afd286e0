"""What a site controller tells whom: it numbers what changed, and makes the delta that leads from any version to the present one.

Pure; one for each time that the office is held. A version of another epoch, or one that is too old, is led to by the whole.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callboard.cluster import view

KEPT_GONE: Final = 10_000
"""How many that are gone are remembered: who missed more is told the whole."""
_pack = msgspec.msgpack.Encoder().encode

Key = tuple[str, str]
"""The part of the facts, and the key there."""


class Deltas:
    """The present facts, and since which serial each is as it is."""

    def __init__(self, epoch: int, *, kept_gone: int = KEPT_GONE) -> None:
        self.version = view.Version(epoch)
        """Serial 0: there is nothing to tell yet."""
        self._kept_gone = kept_gone
        self._facts = view.Facts()
        self._stale = False
        self._since: dict[Key, int] = {}
        self._gone: dict[Key, int] = {}
        """In the order of their going."""
        self._forgotten = 0
        """The serial up to which what is gone may be forgotten."""
        self._packed: dict[view.Version | None, bytes] = {}

    @property
    def facts(self) -> view.Facts:
        return self._facts

    def take(self, facts: view.Facts, *, stale: bool = False) -> bool:
        """Take what there is now; tell whether that is another version."""
        serial = self.version.serial + 1
        changed = stale != self._stale or serial == 1
        for part in view.PARTS:
            changed |= self._compare(part, getattr(self._facts, part), getattr(facts, part), serial)
        self._facts, self._stale = facts, stale
        if changed:
            self.version = view.Version(self.version.epoch, serial)
            self._packed.clear()
        return changed

    def outdo(self, heard: view.Version) -> None:
        """Go on after a version that somebody has heard of under this very epoch: the office was left, and came back."""
        if heard.epoch == self.version.epoch and heard.serial > self.version.serial:
            self.version = view.Version(heard.epoch, heard.serial + 1)
            self._forgotten = self.version.serial  # What others know by lower serials is not what was told here.
            self._packed.clear()

    def packed(self, since: view.Version | None) -> bytes:
        """Return `delta(since)` as it goes over the wire: made once, however many it is for."""
        found = self._packed.get(since)
        if found is None:
            found = self._packed[since] = _pack(self.delta(since))
        return found

    def delta(self, since: view.Version | None) -> view.Delta:
        """Return what leads somebody who has a version (None: nothing) to the present one."""
        if since is None or not self._knows(since):
            return view.Delta(since=None, version=self.version, stale=self._stale, **self._all())
        told: dict[str, Any] = {part: {} for part in view.PARTS}
        for (part, key), serial in self._since.items():
            if serial > since.serial:
                told[part][key] = getattr(self._facts, part)[key]
        gone: dict[str, list[str]] = {part: [] for part in view.PARTS}
        for (part, key), serial in self._gone.items():
            if serial > since.serial:
                gone[part].append(key)
        told |= {f"gone_{part}": tuple(keys) for part, keys in gone.items()}
        return view.Delta(since=since, version=self.version, stale=self._stale, **told)

    def _knows(self, since: view.Version) -> bool:
        mine = since.epoch == self.version.epoch and 0 < since.serial <= self.version.serial
        return mine and since.serial >= self._forgotten

    def _all(self) -> dict[str, Any]:
        return {part: getattr(self._facts, part) for part in view.PARTS}

    def _compare(self, part: str, before: Any, now: Any, serial: int) -> bool:
        if before is now:
            return False
        changed = [key for key, fact in now.items() if before.get(key) != fact]
        gone = [key for key in before if key not in now]
        for key in changed:
            self._since[part, key] = serial
            self._gone.pop((part, key), None)
        for key in gone:
            del self._since[part, key]
            self._gone[part, key] = serial
        while len(self._gone) > self._kept_gone:
            self._forgotten = self._gone.pop(next(iter(self._gone)))
        return bool(changed or gone)
