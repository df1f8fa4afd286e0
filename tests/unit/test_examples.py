"""The examples run: each with a worker, on a store in memory; services with a node of their own."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from callboard.coordination.engines import memory as memory_site
from callboard.jobs import queue as queues
from callboard.jobs.engines import memory
from callboard.kit import uuid7
from callboard.names import groups
from callboard.roles.gateway import Gateway, keys
from callboard.roles.worker import Worker
from tests.conftest import Eventually
from tests.unit import inhouse

EXAMPLES = Path(__file__).parents[2] / "examples"

Run = Callable[[str], Awaitable[ModuleType]]


@pytest.fixture
async def store() -> AsyncIterator[queues.Queue]:
    made = queues.Queue(memory.open("memory:"))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def serve(store: queues.Queue, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Import an example and start a worker for it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    workers = []

    async def start(name: str) -> ModuleType:
        module = importlib.import_module(name)
        worker = Worker(store, module.app, node=uuid7.make(store.clock.now()), slots=4)
        workers.append(worker)
        await worker.start()
        return module

    yield start
    for worker in workers:
        await worker.stop()


async def test_word_counts(serve: Run, store: queues.Queue, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rhyme.txt").write_text("row row row your boat")
    module = await serve("word_counts")
    await module.main([str(tmp_path / "rhyme.txt")], store)
    assert capsys.readouterr().out.split() == ["5", "rhyme.txt", "row,", "your,", "boat"]


async def test_steering(serve: Run, store: queues.Queue, capsys: pytest.CaptureFixture[str]) -> None:
    module = await serve("steering")
    await module.main(store)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "tidied up" not in line] == [
        "fetched 5 pages",
        f"job_failed: {said[1].partition(': ')[2]}",
        "cancel: cancel_requested → cancelled",
    ]
    assert said[1].endswith("is discarded: that is a whole library")


async def test_primes(serve: Run, store: queues.Queue, capsys: pytest.CaptureFixture[str]) -> None:
    module = await serve("primes")
    await module.main(store)
    assert capsys.readouterr().out == "2262 primes below 20,000\n"


async def test_stock(serve: Run, store: queues.Queue, capsys: pytest.CaptureFixture[str], eventually: Eventually) -> None:
    """With a node that stands for the office, and a gateway through which the program calls."""
    module = await serve("stock")
    holder = inhouse.Candidate(memory_site.Site(), inhouse.INCARNATION, groups.Groups())
    await holder.start(module.app.services)
    await eventually(lambda: holder.services[0].active)
    module.app.call_through(holder.node)

    async def nobody() -> list[Any]:
        return []

    gateway = Gateway(store, module.app.kinds, "127.0.0.1", 0, nobody, calls=holder.node)
    await gateway.start()
    await module.main(gateway.url, await keys.ensure_admin(store))
    assert capsys.readouterr().out.splitlines()[-3:] == ["lamps: 10", "3 lamp ordered, 7 left", "sold_out 4"]
    await gateway.stop()
    await holder.stop()


def test_every_example_is_tried() -> None:
    """Here, and `orders` in tests/engines: it needs a database."""
    tried = {"orders"} | {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tried
