"""What becomes of messages when the store refuses, fails or says nothing: no slot is lost, and no message keeps others back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from callboard import errors
from callboard.app import Callboard
from callboard.brokers import link
from callboard.jobs import engine as seam
from callboard.jobs import lanes, model
from callboard.kit import clock
from callboard.roles.bridge import destinations, intake
from callboard.roles.bridge.feed import Delivery
from callboard.roles.bridge.window import Windows
from callboard.roles.worker import door, runs

NODE = b"n" * 16
SLOTS = 8
MEANT = destinations.named("main", "default")
app = Callboard("a")


@app.job(lane="short")
async def work(n: int = 0, text: str = "") -> None: ...


class Store:
    def __init__(self) -> None:
        self.clock = clock.SystemClock()
        self.jobs: dict[tuple[str, bytes], model.Job] = {}
        self.batches: list[int] = []
        self.fails: Callable[[Sequence[model.Job]], Exception | None] = lambda jobs: None
        self.finds: list[Exception] = []

    async def submit_claimed(self, puts: Sequence[tuple[model.Job, int]]) -> list[seam.Result]:
        jobs = [job for job, _ in puts]
        self.batches.append(len(jobs))
        await asyncio.sleep(0)
        error = self.fails(jobs)
        if error is None or (isinstance(error, errors.StoreError) and error.data.get("unknown")):
            self.jobs |= {job.key: job for job in jobs}
        if error is not None:
            raise error
        return [seam.Created() for _ in jobs]

    async def renew(self, node: bytes, claims: object) -> None:
        if self.finds:
            raise self.finds.pop()

    async def get_many(self, keys: Sequence[tuple[str, bytes]]) -> list[model.Job | None]:
        return [self.jobs.get(key) for key in keys]


class Claims:
    def __init__(self) -> None:
        self.asked = lanes.Limits(0, 0)
        self.turn = 0
        self.begun: list[model.Job] = []

    def wants(self, limits: lanes.Limits) -> bool:
        return False

    def ring(self) -> None: ...

    def begin(self, jobs: list[model.Job]) -> None:
        self.begun += jobs


class Feed:
    def __init__(self) -> None:
        self.name = "b:1"
        self.acked: list[Delivery] = []
        self.aside: list[tuple[str, str]] = []
        self.opened = 0
        self.window: Any = None
        self.windows: Any = None
        self.letters = asyncio.Event()
        """Letters to the dead wait for it."""
        self.letters.set()

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += deliveries

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        await self.letters.wait()
        self.aside.append((delivery.message.id, reason))
        delivery.window.gone()

    def shut(self) -> None:
        self.windows.closed(self.window)

    def open(self) -> None:
        self.opened += 1
        self.window = self.windows.opened(SLOTS)


class Yard:
    def __init__(self) -> None:
        self.store, self.claims, self.feed = Store(), Claims(), Feed()
        self.runs = runs.Runs(app.handlers, SLOTS, 0, self.store.clock, None, 1)
        self.door = door.Door(self.runs, self.claims, NODE, {"a.work": (1,)}, {("main", "default")})
        self.windows: Windows[Delivery] = Windows(SLOTS)
        self.intake = intake.Intake(self.store, self.door, app.kinds, self.windows, None)  # type: ignore[arg-type]
        self.intake.feeds = [self.feed]  # type: ignore[list-item]
        self.feed.windows = self.windows
        self.feed.open()

    def arrive(self, *args: dict[str, Any]) -> None:
        found = []
        for number, given in enumerate(args):
            body = msgspec.json.encode({"kind": "a.work", "args": given})
            headers = {"message-id": f"{number}", "timestamp": "1700000000000"}
            message = link.Message("1", f"{number}", f"{number}", headers, body, False)
            self.feed.window.arrived(1)
            found.append(Delivery(self.feed, self.feed.window, MEANT, message))  # type: ignore[arg-type]
        self.intake.arrived(found)

    @property
    def free(self) -> int:
        return self.runs.limits.short


@pytest.fixture
async def yard(monkeypatch: Any) -> AsyncIterator[Yard]:
    monkeypatch.setattr(intake, "AWAY_FIRST_SECONDS", 0.01)
    made = Yard()
    serving = asyncio.ensure_future(made.intake.serve())
    yield made
    assert not serving.done()
    made.intake.close()
    await serving
    made.intake.end()


async def test_what_is_too_large_together_is_stored_in_parts_and_what_is_alone_goes_aside(yard: Yard, eventually: Any) -> None:
    def fails(jobs: Sequence[model.Job]) -> Exception | None:
        if len(jobs) > 3 or any(b"big" in job.args for job in jobs):
            return errors.TooLarge("over what this store takes")
        return None

    yard.store.fails = fails
    yard.arrive(*({"n": n, "text": "big" if n == 4 else ""} for n in range(7)))
    await eventually(lambda: len(yard.claims.begun) == 6 and yard.feed.aside)
    assert yard.feed.aside == [("4", "too_large: over what this store takes")]
    assert not yard.door.expected
    assert yard.free == SLOTS
    assert yard.feed.window.open


async def test_a_failure_between_parts_frees_the_slots_of_the_others(yard: Yard, eventually: Any) -> None:
    left = [errors.StoreUnavailable("away"), errors.TooLarge("together")]
    yard.store.fails = lambda jobs: left.pop() if left else None
    yard.arrive(*({"n": n} for n in range(6)))
    await eventually(lambda: yard.feed.opened == 2)
    assert not yard.door.expected
    assert yard.free == SLOTS
    assert not yard.feed.aside


async def test_jobs_of_which_nothing_is_known_keep_their_slots_until_it_is(yard: Yard, eventually: Any) -> None:
    yard.store.fails = lambda jobs: errors.StoreUnavailable("lost", unknown=True)
    yard.store.finds = [RuntimeError("a fault"), errors.StoreUnavailable("away")]
    yard.arrive({"n": 1}, {"n": 2})
    await eventually(lambda: yard.feed.opened == 2)
    assert len(yard.claims.begun) == 2
    assert not yard.door.expected
    assert yard.free == SLOTS


async def test_the_slot_of_a_job_that_is_too_large_is_another_message_s_at_once(yard: Yard, eventually: Any) -> None:
    for _ in range(SLOTS - 1):
        yard.runs.hold(model.Lane.SHORT)
    yard.arrive(*({"n": n} for n in range(SLOTS - 1)))
    await eventually(lambda: len(yard.feed.window.stored) == SLOTS - 1)
    assert not yard.feed.acked
    letters = asyncio.Event()
    yard.feed.letters = letters
    yard.store.fails = lambda jobs: errors.TooLarge("over what this store takes")
    yard.arrive({"n": SLOTS, "text": "big"})
    await eventually(lambda: len(yard.feed.acked) == 1)
    assert not yard.feed.aside
    letters.set()


async def test_messages_are_stored_in_commits_of_a_bounded_size(yard: Yard, eventually: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(intake, "MOST_BYTES", 1_000)
    yard.arrive(*({"n": n, "text": "x" * size} for n, size in enumerate((300, 300, 300, 900, 2_000, 10))))
    await eventually(lambda: len(yard.claims.begun) == 6)
    assert yard.store.batches == [2, 1, 1, 1, 1]
