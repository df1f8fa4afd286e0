"""Pages of many domains put together, cursors, counts: whatever the jobs are kept in."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.jobs.engines import mapping, pages
from callboard.testing.conformance.jobs import bench

DOMAINS = {"acme": 1, "main": 2, "team.acme": 3}


def route(number: int, domain: int, name: str, queue: str = "default", kind: str = "a") -> mapping.Route:
    return mapping.Route(number, domain, name, queue, model.Lane.LONG, kind, 1)


class Shelf:
    """Jobs by domain, looked at `bound` at a time."""

    def __init__(self, limit: int, bound: int) -> None:
        self.jobs: dict[int, list[model.Job]] = {}
        self._limit, self._bound = limit, bound

    def put(self, name: str, id: bytes) -> None:
        self.jobs.setdefault(DOMAINS[name], []).append(bench.job(id=id, domain=name))

    def look(self, domain: int, below: bytes) -> tuple[list[model.Job], bytes | None]:
        there = sorted((job for job in self.jobs.get(domain, ()) if job.id < below), key=lambda job: job.id, reverse=True)
        seen = there[: min(self._bound, self._limit)]
        return seen, seen[-1].id if len(there) > len(seen) else None


@pytest.mark.parametrize("bound", [2, 3, 100])
@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_pages_that_follow_each_other_have_every_job_once_in_one_order(limit: int, bound: int) -> None:
    shelf = Shelf(limit, bound)
    ids = [bench.new_id() for _ in range(12)]
    for number, id in enumerate(ids):
        for name in list(DOMAINS)[: number % 3 + 1]:
            shelf.put(name, id)
    asked = seam.Filter(domain="acme", subtree=True)
    found: list[model.Job] = []
    cursor = None
    for _ in range(100):
        page = pages.page(DOMAINS, asked, limit, cursor, shelf.look)
        assert len(page.jobs) <= limit
        found += page.jobs
        cursor = page.cursor
        if cursor is None:
            break
    wanted = [job for domain in (1, 3) for job in shelf.jobs[domain]]
    assert [(job.id, job.domain) for job in found] == sorted([(job.id, job.domain) for job in wanted], reverse=True)


@pytest.mark.parametrize("cursor", [b"", b"x" * 16, b"x" * 16 + b"\xff", b"x" * 16 + b"No Name"])
def test_a_cursor_that_no_page_gave_is_refused(cursor: bytes) -> None:
    with pytest.raises(errors.InvalidInput, match="begin again without it"):
        pages.read_cursor(cursor)


def test_conditions_of_states_and_routes() -> None:
    some = seam.Filter(domain="main", states=frozenset({model.State.RUNNING, model.State.AVAILABLE}))
    assert pages.condition(some, [4, 5]) == "state IN (2,3) AND route IN (4,5)"
    assert pages.condition(seam.Filter(domain="main", states=frozenset()), []) == "state IN (NULL) AND route IN (NULL)"
    assert pages.condition(seam.Filter(domain="main"), None) == "1 = 1"


def test_routes_of_a_filter_and_of_a_domain() -> None:
    known = [route(1, 1, "acme"), route(2, 2, "main", kind="b"), route(3, 2, "main", queue="slow")]
    assert pages.numbers(seam.Filter(domain="main"), known) is None
    assert pages.numbers(seam.Filter(domain="main", kind="a"), known) == [1, 3]
    assert pages.numbers(seam.Filter(domain="main", kind="a", queue="slow"), known) == [3]
    assert pages.of_domain(2, known, None) == [2, 3] and pages.of_domain(2, known, [1, 3]) == [3]


def test_counts_of_versions_are_one_sum() -> None:
    known = {1: route(1, 1, "acme"), 2: route(2, 1, "acme"), 3: route(3, 3, "team.acme"), 4: route(4, 2, "main")}
    found = [(1, 2, 5), (2, 2, 6), (1, 3, 1), (3, 2, 7), (4, 2, 9)]
    lane, available = model.Lane.LONG, model.State.AVAILABLE
    acme = [
        model.Count("acme", "default", "a", lane, available, 11),
        model.Count("acme", "default", "a", lane, model.State.RUNNING, 1),
    ]
    assert pages.counted(found, known.__getitem__, "acme", False) == acme
    below = model.Count("team.acme", "default", "a", lane, available, 7)
    assert pages.counted(found, known.__getitem__, "acme", True) == [*acme, below]
