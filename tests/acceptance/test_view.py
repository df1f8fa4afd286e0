"""The cluster view among real processes: who holds the site's office is killed, workers leave and come, and watchers see it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from callboard import errors
from callboard.client import Client
from callboard.cluster import view as views
from callboard.names import model
from callboard.node import layout
from tests.acceptance.agents import Machine

pytestmark = pytest.mark.xdist_group("view")

APP = """
import asyncio, os
from callboard import Callboard
app = Callboard("eyes")

@app.job
async def others() -> list[str]:
    async for change in app.watch():
        if not change.view.stale and len(change.view.available("worker")) == 2:
            return [node.incarnation for node in app.view.available("worker")]

@app.job
async def wait_for(path: str) -> None:
    while not os.path.exists(path):
        await asyncio.sleep(0.05)

@app.job
def in_a_thread() -> str:
    return app.view.ring("worker").pick("some key").incarnation
"""
SECONDS = 40.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("view"))
    (made.home / "eyes.py").write_text(APP)
    try:
        made.up(app="eyes:app", gateway__count=2, worker__count=2)
        yield made
    finally:
        made.sweep()


@contextlib.asynccontextmanager
async def gateways(machine: Machine) -> AsyncIterator[Client]:
    local = layout.read_local(machine.place.local)
    assert local is not None
    async with Client(local.urls, local.key) as made:
        yield made


class Watch:
    """One watcher: `until` returns the changes that come until a fresh view is as wanted; the first is what there was."""

    def __init__(self, machine: Machine, client: Client) -> None:
        self._machine = machine
        self._changes = client.watch_view()

    async def until(self, wanted: Callable[[views.View], object]) -> list[views.Change]:
        found: list[views.Change] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                while not found or found[-1].view.stale or not wanted(found[-1].view):
                    found.append(await anext(self._changes))
                return found
        pytest.fail(f"seen: {found}\n\nnow: {await present(self._machine)}\n\n{self._machine.log()}")


async def present(machine: Machine) -> list[str]:
    """Return what each gateway says that there is."""
    local = layout.read_local(machine.place.local)
    assert local is not None
    said = []
    for url in local.urls:
        async with Client([url], local.key, timeout=2) as asked:
            try:
                said.append(f"{url}: {await asked.view()}")
            except errors.CallboardError as error:
                said.append(f"{url}: {error}")
    return said


def whole(view: views.View) -> bool:
    return len(view.available("worker")) == 2 and len(view.available("gateway")) == 2


async def test_handlers_see_the_cluster(machine: Machine) -> None:
    async with gateways(machine) as client:
        now = (await Watch(machine, client).until(whole))[-1].view
        workers = [node.incarnation for node in now.available("worker")]
        receipt = await client.submit("eyes.others")
        assert await client.result(receipt.id, SECONDS) == workers
        receipt = await client.submit("eyes.in_a_thread")
        assert await client.result(receipt.id, SECONDS) == now.ring("worker").pick("some key").incarnation
        (server,) = now.servers.values()
        assert (server.state, server.site) == ("serving", "main")


async def test_a_worker_leaves_and_another_comes(machine: Machine) -> None:
    async with gateways(machine) as client:
        watch = Watch(machine, client)
        before = (await watch.until(whole))[-1].view
        gone = {node.incarnation for node in before.available("worker")}
        os.kill(machine.pid("worker"), signal.SIGKILL)
        changes = await watch.until(lambda now: whole(now) and len(gone - now.nodes.keys()) == 1)
    left = [node.incarnation for change in changes for node in change.gone_nodes]
    came = [node.incarnation for change in changes for node in change.nodes if "worker" in node.roles]
    assert len(left) == 1 and left[0] in gone
    assert len(came) == 1 and came[0] not in gone


async def test_a_worker_that_is_to_end_takes_no_work_and_is_still_there(machine: Machine) -> None:
    async with gateways(machine) as client:
        watch = Watch(machine, client)
        await watch.until(whole)
        go = machine.home / "go"
        waits = await client.submit_many(client.job("eyes.wait_for", {"path": str(go)}) for _ in range(32))
        async with asyncio.timeout(SECONDS):
            while sum([1 async for _ in client.jobs(state="running")]) < len(waits):
                await asyncio.sleep(0.05)
        os.kill(machine.pid("worker"), signal.SIGTERM)
        now = (await watch.until(lambda now: any(not node.available for node in now.nodes.values())))[-1].view
        (leaving,) = (node for node in now.nodes.values() if not node.available)
        assert "worker" in leaving.roles and len(now.available("worker")) < 2
        go.touch()
        await watch.until(lambda now: whole(now) and leaving.incarnation not in now.nodes)
        assert [(await client.wait(each.id, SECONDS)).state for each in waits] == ["completed"] * len(waits)


async def test_the_holder_is_killed_and_the_next_one_tells_under_a_higher_epoch(machine: Machine) -> None:
    async with gateways(machine) as client:
        watch = Watch(machine, client)
        before = (await watch.until(whole))[-1].view
        held = before.holder(model.SITE_CONTROLLER)
        assert held is not None and held.epoch == before.version.epoch
        pids = {node["incarnation"]: node["pid"] for node in await client.nodes()}
        os.kill(pids[held.incarnation], signal.SIGKILL)
        changes = await watch.until(lambda now: whole(now) and held.incarnation not in now.nodes)
    now = changes[-1].view
    next_one = now.holder(model.SITE_CONTROLLER)
    assert next_one is not None and next_one.incarnation != held.incarnation
    assert now.version.epoch == next_one.epoch > held.epoch
    assert [each.view.version for each in changes] == sorted(each.view.version for each in changes)
    assert {node.incarnation for node in now.available("worker")} == {node.incarnation for node in before.available("worker")}
