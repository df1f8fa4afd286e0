"""The dictionaries of domains and routes, cached: numbers to names and back. Both tables only grow."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines import mapping


class Routes:
    """One connection's view of the dictionaries. Not shared between threads."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.domains: dict[str, int] = {}
        self.by_number: dict[int, mapping.Route] = {}
        self._by_key: dict[mapping.RouteKey, int] = {}
        self._names: dict[int, str] = {}

    def refresh(self) -> None:
        """Learn what other processes added."""
        for number, name in self._connection.execute("SELECT domain, name FROM domains"):
            self.domains[name] = number
            self._names[number] = name
        query = "SELECT route, domain, queue, lane, kind, version FROM routes WHERE route > ?"
        for route, domain, queue, lane, kind, version in self._connection.execute(query, (len(self.by_number),)):
            self._add(mapping.Route(route, domain, self._names[domain], queue, model.Lane(lane), kind, version))

    def refresh_if_grown(self) -> None:
        """Learn what other processes added, if they added routes: one step of an index."""
        if self._connection.execute("SELECT max(route) FROM routes").get != (len(self.by_number) or None):
            self.refresh()

    def forget(self) -> None:
        """Drop everything, after a rollback."""
        self.domains.clear()
        self.by_number.clear()
        self._by_key.clear()
        self._names.clear()

    def domain(self, name: str) -> int:
        """Return a domain's number, 0 when it has none (numbers begin at 1)."""
        if name not in self.domains:
            self.refresh()
        return self.domains.get(name, 0)

    def make_domain(self, name: str) -> int:
        """Return a domain's number, giving it one if need be. Inside a write transaction."""
        number = self.domains.get(name) or self.domain(name)
        if not number:
            number = len(self._names) + 1
            self._connection.execute("INSERT INTO domains VALUES(?, ?)", (number, name))
            self.domains[name] = number
            self._names[number] = name
        return number

    def known(self, job: model.Job) -> int | None:
        """Return the number of a job's route, None when it is not known to have one."""
        return self._by_key.get(mapping.key(job))

    def make(self, job: model.Job) -> int:
        """Return the number of a job's route, giving it one if need be. Inside a write transaction."""
        key = mapping.key(job)
        found = self._by_key.get(key)
        return self._create(key) if found is None else found

    def _create(self, key: mapping.RouteKey) -> int:
        self.refresh()
        if key in self._by_key:
            return self._by_key[key]
        domain, queue, lane, kind, version = key
        route = mapping.Route(len(self.by_number) + 1, self.make_domain(domain), domain, queue, model.Lane(lane), kind, version)
        values = (route.route, route.domain, queue, int(lane), kind, version)
        self._connection.execute("INSERT INTO routes VALUES(?, ?, ?, ?, ?, ?)", values)
        self._add(route)
        return route.route

    def of_take(self, take: seam.Take) -> list[int]:
        """Return the routes that a take names and that exist, each once."""
        found = map(self._by_key.get, mapping.named(take))
        return list(dict.fromkeys(number for number in found if number is not None))

    def of_queues(self, queues: Iterable[tuple[str, str]]) -> list[int]:
        """Return the routes of (domain, queue) pairs."""
        wanted = set(queues)
        return [route.route for route in self.by_number.values() if (route.name, route.queue) in wanted]

    def _add(self, route: mapping.Route) -> None:
        self.by_number[route.route] = route
        self._by_key[route.name, route.queue, route.lane, route.kind, route.version] = route.route
