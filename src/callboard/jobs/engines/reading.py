"""How engines answer reads that look at their tables: each is one question to whoever holds the connection for it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import TypeVar

from callboard.jobs import engine as seam
from callboard.jobs import model

T = TypeVar("T")


class Reading(abc.ABC):
    """The reads of an engine."""

    @abc.abstractmethod
    def _read(self, question: Callable[[seam.Reads], T]) -> T:
        """Ask it, in one transaction; questions of other threads wait meanwhile."""

    def get(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        return self._read(lambda on: on.get(keys))

    def states(self, keys: Sequence[tuple[str, bytes]]) -> list[tuple[model.State, int] | None]:
        return self._read(lambda on: on.states(keys))

    def attempt_errors(self, domain: str, id: bytes) -> list[model.AttemptError]:
        return self._read(lambda on: on.attempt_errors(domain, id))

    def find(self, filter: seam.Filter, limit: int, cursor: bytes | None = None) -> seam.Page:
        return self._read(lambda on: on.find(filter, limit, cursor))

    def counts(self, domain: str, subtree: bool = False) -> list[model.Count]:
        return self._read(lambda on: on.counts(domain, subtree))

    def ready(self, takes: Sequence[seam.Take], now: int) -> bool:
        return self._read(lambda on: on.ready(takes, now))

    def claimants(self) -> list[tuple[bytes, int]]:
        return self._read(lambda on: on.claimants())

    def documents(self, domain: str, prefix: str) -> list[model.Document]:
        return self._read(lambda on: on.documents(domain, prefix))

    def document(self, domain: str, path: str) -> model.Document:
        return self._read(lambda on: on.document(domain, path))

    def domains(self) -> list[str]:
        return self._read(lambda on: on.domains())
