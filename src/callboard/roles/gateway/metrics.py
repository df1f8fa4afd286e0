"""What a gateway counts, as Prometheus reads it. A request costs two dictionary writes, the rest is done at the scrape.

Each gateway has a registry of its own. Counts of jobs come from the store, at most once a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from callboard import errors
from callboard.jobs import model
from callboard.jobs import queue as queues
from callboard.roles.gateway import views

Nodes = Callable[[], Awaitable[list[dict[str, Any]]]]
BRIDGE: Final = {
    "messages": "Messages that a bridge was given, since its start.",
    "put": "Jobs that a bridge stored.",
    "claimed": "Jobs that a bridge stored claimed for its own node.",
    "duplicates": "Messages whose jobs were there already.",
    "dead_letters": "Messages that a bridge put aside.",
    "acks": "Messages that a bridge acknowledged.",
    "replies": "Replies that a bridge sent.",
}
"""What bridges count, by the names in their facts."""
MAX_AGE_NS: Final = 1_000_000_000
MEDIA_TYPE: Final = exposition.CONTENT_TYPE_PLAIN_0_0_4.partition("; charset=")[0]
"""Without the charset, which the framework adds to text."""


class Metrics:
    """The counters of one gateway; on one event loop."""

    def __init__(self, queue: queues.Queue, nodes: Nodes | None = None) -> None:
        """`nodes` returns the facts of live nodes: what bridges count is in them."""
        self._queue = queue
        self._nodes = nodes
        self._bridges: list[tuple[str, Mapping[str, Any]]] = []
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[tuple[str, str], tuple[int, float]] = {}
        self._counts: list[tuple[str, str, str, int]] = []
        self._counted_at: int | None = None
        self.open_requests = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(self))

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note an answered request; `route` is the template of the path, so that there are few."""
        requests, sums = self._requests, self._seconds
        key = method, route, status
        requests[key] = requests.get(key, 0) + 1
        number, total = sums.get(key[:2], (0, 0.0))
        sums[key[:2]] = number + 1, total + seconds

    async def text(self) -> bytes:
        """Return everything as Prometheus reads it. Jobs are left out while the store cannot be read."""
        await self._count_jobs()
        await self._ask_bridges()
        return exposition.generate_latest(self._registry)

    def families(self) -> Iterator[Metric]:
        """Yield what is known now; called by the registry."""
        yield from self._http_families()
        yield from self._store_families()
        jobs = GaugeMetricFamily(
            "callboard_jobs", "Jobs in the store; over 10000 the number may be low.", labels=["domain", "queue", "state"]
        )
        for domain, queue, state, number in self._counts:
            jobs.add_metric([domain, queue, state], number)
        yield jobs
        yield from self._bridge_families()

    def _bridge_families(self) -> Iterator[Metric]:
        for name, text in BRIDGE.items():
            family = CounterMetricFamily(f"callboard_bridge_{name}", text, labels=["node"])
            for node, facts in self._bridges:
                family.add_metric([node], facts.get(name, 0))
            if self._bridges:
                yield family

    def _http_families(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("callboard_http_requests", "Answered requests.", labels=["method", "route", "status"])
        for (method, route, status), number in self._requests.items():
            requests.add_metric([method, route, str(status)], number)
        seconds = SummaryMetricFamily(
            "callboard_http_request_seconds", "Seconds until the answer, asked-for waiting included.", labels=["method", "route"]
        )
        for (method, route), (number, total) in self._seconds.items():
            seconds.add_metric([method, route], number, total)
        yield requests
        yield seconds
        yield GaugeMetricFamily("callboard_http_open_requests", "Requests not answered yet.", value=self.open_requests)

    def _store_families(self) -> Iterator[Metric]:
        for name, value in self._queue.stats().items():
            if name == "waiting":
                yield GaugeMetricFamily("callboard_store_waiting", "Units that wait for a commit.", value=value)
            else:
                yield CounterMetricFamily(
                    f"callboard_store_{name}", f"Of this process's writer: {name} since its start.", value=value
                )

    async def _ask_bridges(self) -> None:
        if self._nodes is None:
            return
        with contextlib.suppress(errors.CoordinationError):  # What was known is said again.
            self._bridges = [
                (str(node.get("incarnation")), role)
                for node in await self._nodes()
                for role in node.get("roles", ())
                if role.get("role") == "bridge"
            ]

    async def _count_jobs(self) -> None:
        now = self._queue.clock.boot()
        if self._counted_at is not None and now - self._counted_at < MAX_AGE_NS:
            return
        self._counted_at = now
        try:
            found = [count for domain in await self._queue.domains() for count in await self._queue.counts(domain)]
        except errors.StoreError:
            found = []
        self._counts = list(_by_queue(found))


class _Collector:
    """Prometheus' way of asking."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.families()


def _by_queue(counts: Iterable[model.Count]) -> Iterator[tuple[str, str, str, int]]:
    sums: dict[tuple[str, str, str], int] = {}
    for count in counts:
        key = count.domain, count.queue, count.state.word
        sums[key] = sums.get(key, 0) + count.jobs
    for (domain, queue, state), number in sums.items():
        yield domain, queue, state, min(number, views.COUNTED + 1)
