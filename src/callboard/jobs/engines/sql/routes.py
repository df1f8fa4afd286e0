"""The dictionaries of domains and routes, cached: numbers to names and back. Both tables only grow.

Numbers are given in transactions of their own, before the one that needs them: what was rolled back takes none along.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy

from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines import mapping
from callboard.jobs.engines.sql import dialect as dialects
from callboard.jobs.engines.sql import texts

COUNTED: Final = "count(*) FROM callboard_routes"


class Routes:
    """What one engine knows of the dictionaries. Its two threads may use it at once: entries are added, never changed."""

    def __init__(self, dialect: dialects.Dialect) -> None:
        self.domains: dict[str, int] = {}
        self._by_number: dict[int, mapping.Route] = {}
        self._by_key: dict[mapping.RouteKey, int] = {}
        self._dialect = dialect

    def refresh(self, on: sqlalchemy.Connection) -> None:
        """Learn what others added. The domains last: others may add both between the two questions."""
        found = texts.run(on, "SELECT route, domain, queue, lane, kind, version FROM callboard_routes")
        for number, name in texts.run(on, "SELECT domain, name FROM callboard_domains"):
            self.domains[name] = number
        names = {number: name for name, number in list(self.domains.items())}
        for number, domain, queue, lane, kind, version in found:
            if number not in self._by_number:
                route = mapping.Route(number, domain, names[domain], queue, model.Lane(lane), kind, version)
                self._by_number[number] = route
                self._by_key[route.name, queue, route.lane, kind, version] = number

    def refresh_if_grown(self, on: sqlalchemy.Connection, routes: int | None = None) -> None:
        """Learn what others added, if they added routes; `routes`: how many there are, if that was just read."""
        if routes is None:
            routes = texts.run(on, f"SELECT {COUNTED}")[0][0]
        if routes != len(self._by_number):
            self.refresh(on)

    def lacking(self, units: Sequence[seam.Unit]) -> tuple[set[str], set[mapping.RouteKey]]:
        """Return the domains and routes that units need and that have no number as far as is known here."""
        domains: set[str] = set()
        keys: set[mapping.RouteKey] = set()
        for unit in units:
            for op in unit:
                if isinstance(op, seam.Put):
                    if mapping.key(op.job) not in self._by_key:
                        keys.add(mapping.key(op.job))
                        domains.add(op.job.domain)
                elif isinstance(op, seam.PutDocument | seam.Require) and op.domain not in self.domains:
                    domains.add(op.domain)
        return domains - self.domains.keys(), keys

    def make(self, on: sqlalchemy.Connection, domains: Iterable[str], keys: Iterable[mapping.RouteKey]) -> None:
        """Give numbers to domains and routes that have none. In a transaction; the numbers are known after `refresh`."""
        text = self._dialect.upsert("callboard_domains", ("name",), ("name",), {})
        for name in sorted(domains):
            texts.run(on, text, (name,))
        numbers = dict(texts.run(on, "SELECT name, domain FROM callboard_domains"))
        columns = ("domain", "queue", "lane", "kind", "version")
        text = self._dialect.upsert("callboard_routes", columns, columns, {})
        for domain, queue, lane, kind, version in sorted(keys):
            texts.run(on, text, (numbers[domain], queue, int(lane), kind, version))

    def domain(self, name: str, on: sqlalchemy.Connection) -> int:
        """Return a domain's number, 0 when it has none (numbers begin at 1)."""
        if name not in self.domains:
            self.refresh(on)
        return self.domains.get(name, 0)

    def number(self, job: model.Job) -> int:
        """Return the number of a job's route, which `make` gave."""
        return self._by_key[mapping.key(job)]

    def route(self, number: int, on: sqlalchemy.Connection) -> mapping.Route:
        """Return what a number that was read stands for."""
        found = self._by_number.get(number)
        if found is None:
            self.refresh(on)
            found = self._by_number[number]
        return found

    def unknown(self, takes: Iterable[seam.Take]) -> bool:
        """Tell whether a take names a route that is not known here: others may have made it."""
        return any(each not in self._by_key for take in takes for each in mapping.named(take))

    def of_take(self, take: seam.Take) -> list[int]:
        """Return the routes known that a take names, each once."""
        found = map(self._by_key.get, mapping.named(take))
        return list(dict.fromkeys(number for number in found if number is not None))

    def of_queues(self, queues: Iterable[tuple[str, str]]) -> list[int]:
        """Return the routes known of (domain, queue) pairs."""
        wanted = set(queues)
        return [route.route for route in self.all() if (route.name, route.queue) in wanted]

    def all(self) -> list[mapping.Route]:
        """Return the routes known."""
        return list(self._by_number.values())
