"""Drains, renewals and reloads: what is wished is brought about, nothing is lost by it, and nobody who calls notices."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

import callboard
from callboard.cli import exits
from callboard.cluster import wishes
from callboard.coordination import engine, engines
from callboard.names import model
from callboard.node import rebirth
from tests.faults import deployment as deployments
from tests.faults.deployment import Eventually

pytestmark = pytest.mark.xdist_group("orders")

T = TypeVar("T")
SETTLE_SECONDS = 240.0
"""Every node is started anew, one after another, on a machine that may be busy."""
GRACE = ("--set", "worker.grace_seconds=60")


class Deployment(deployments.Deployment):
    """One server, and this process as the gateway that writes wishes."""

    APP = "renewed"
    RUN_SECONDS = SETTLE_SECONDS

    async def ask(self, what: Callable[[engine.Session], Awaitable[T]]) -> T:
        opened = engines.open(f"local://{self.data}/coordination")
        try:
            session = await opened.session("test")
            try:
                return await what(session)
            finally:
                await session.close()
        finally:
            await opened.close()

    async def wish(self, path: str, what: Any = "drain") -> None:
        await self.ask(lambda session: wishes.wish(session, path, what, "the test"))

    async def wishes(self) -> list[str]:
        return list(await self.ask(wishes.read))

    async def facts(self) -> model.ServerFacts:
        async def read(session: engine.Session) -> model.ServerFacts:
            (entry,) = await session.entries(model.SERVERS)
            return msgspec.json.decode(entry.body, type=model.ServerFacts)

        return await self.ask(read)

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        """Wait for a condition that is asked of coordination, where the agent may not have said anything yet."""
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                with contextlib.suppress(ValueError):
                    if await condition():
                        return
                await asyncio.sleep(0.05)

    def incarnations(self) -> set[str]:
        return {node.incarnation for node in self.nodes()}


@pytest.fixture
async def server(data: Path, tmp_path: Path, eventually: Eventually) -> AsyncIterator[Deployment]:
    made = Deployment(data, tmp_path, eventually)
    try:
        yield made
    finally:
        await made.close()
        print(made.log(), *(path.read_text() for path in (data / "nodes").glob("*.log")), sep="\n")
        made.sweep()


async def test_a_node_that_is_drained_ends_its_jobs_and_another_takes_its_place(server: Deployment, eventually: Eventually):
    await server.up(*GRACE, workers=1)
    held = await server.hold(3)
    (victim,) = server.nodes("worker")
    await server.wish(wishes.of_node(victim.incarnation))
    await eventually(lambda: len(server.nodes("worker")) == 2, SETTLE_SECONDS)
    assert server.book.held_by(victim.pid) == set(held), "its jobs have their grace, while the new one works already"
    later = await server.submit("nap", 3)
    for id in later:
        assert (await server.client.wait(id, SETTLE_SECONDS)).state == "completed"
    server.release()
    await eventually(lambda: victim not in server.nodes(), SETTLE_SECONDS)
    await server.until(lambda: _is(server.wishes, []))
    jobs = await server.finished()
    assert {(job.state, job.attempts, job.deaths, job.fence) for job in jobs} == {("completed", 1, 0, 1)}
    (heir,) = server.nodes("worker")
    assert heir.index == victim.index and not (await server.verdict()).faults


async def test_a_gateway_that_is_drained_comes_back_at_its_port(server: Deployment, eventually: Eventually):
    await server.up(workers=1)
    (victim,) = server.nodes("gateway")
    await server.wish(wishes.of_node(victim.incarnation))
    await server.until(lambda: _is(server.wishes, []))
    await eventually(lambda: [node.pid != victim.pid for node in server.nodes("gateway")] == [True], SETTLE_SECONDS)
    await server.submit("nap")
    await server.finished()


async def test_a_server_that_is_drained_stays_empty_until_that_is_taken_back(server: Deployment, eventually: Eventually):
    await server.up("--set", "worker.grace_seconds=0.5", workers=2)
    held = await server.hold(4)
    await server.wish(wishes.of_server(""))
    await server.until(lambda: _holds(server.facts, lambda facts: facts.state == "drained"))
    assert server.nodes() == [] and server.agent is not None and server.agent.poll() is None
    lines = [line for line in server.log().splitlines() if '"node ended"' in line or "node ended" in line]
    assert "role=gateway" in lines[-1] and all("role=gateway" not in line for line in lines[:-1]), "gateways are the last"

    server.kill(server.agent.pid, signal.SIGTERM)
    server.agent.wait()
    started = await server.up(workers=2)
    assert started["drained"] and server.nodes() == []
    await server.until(lambda: _holds(server.facts, lambda facts: facts.state == "drained"))
    assert server.nodes() == []

    await server.ask(lambda session: wishes.take_back(session, wishes.of_server("")))
    await eventually(lambda: len(server.nodes("worker")) == 2 and server.nodes("gateway"), SETTLE_SECONDS)
    await server.until(lambda: _holds(server.facts, lambda facts: facts.state == "serving"))
    server.release()
    jobs = await server.finished()
    assert {job.id for job in jobs} == set(held)
    assert {(job.state, job.deaths) for job in jobs} == {("completed", 0)}, "they were handed back, not lost"
    assert not (await server.verdict()).faults


async def test_every_node_is_replaced_under_load_and_nobody_notices(server: Deployment):
    await server.up(*GRACE, workers=2, gateways=2)
    await server.submit("nap")
    agent, before = server.agent, server.incarnations()
    assert agent is not None
    async with server.traffic(), _calls(server) as answers:
        await server.wish(wishes.of_server(""), "renew")
        await server.until(lambda: _is(server.wishes, []))
        count = len(answers)
        await server.eventually(lambda: len(answers) > count, SETTLE_SECONDS)
    assert agent.poll() is None and (await server.facts()).trouble == ""
    after = server.incarnations()
    assert len(after) == len(before) == 6 and not after & before
    assert len({answer["pid"] for answer in answers}) > 1, "the service was served by several, one after the other"
    assert sorted(answer["epoch"] for answer in answers) == [answer["epoch"] for answer in answers]
    jobs = await server.finished()
    assert {(job.state, job.attempts, job.deaths) for job in jobs} == {("completed", 1, 0)}
    verdict = await server.verdict()
    assert not verdict.faults and not verdict.repeated
    assert server.log().count("event=reloading") == 1
    assert "exit_code=0" in server.log() and "exit_code=None" not in server.log(), "they are its children still"


async def test_a_new_node_that_cannot_start_stops_the_renewal_and_the_rest_goes_on(server: Deployment):
    await server.up(workers=2)
    before = server.incarnations()
    broken = Path(f"{server.book.file}.broken")
    broken.touch()
    await server.wish(wishes.of_server(""), "renew")
    await server.until(lambda: _is(server.wishes, []))
    said = (await server.facts()).trouble
    assert said.startswith("service 0 cannot be replaced: ") and "broken on purpose" in said
    assert server.incarnations() == before, "nobody left before another one was ready"
    assert "renewal stopped: the rest goes on" in server.log()
    await server.submit("nap", 5)
    await server.finished()

    broken.unlink()
    await server.wish(wishes.of_server(""), "renew")
    await server.until(lambda: _is(server.wishes, []))
    assert not server.incarnations() & before and (await server.facts()).trouble == ""


async def test_a_file_that_is_wrong_changes_nothing(server: Deployment, tmp_path: Path):
    file = tmp_path / "callboard.toml"
    file.write_text("[worker]\nslots = 3\n")
    await server.up("--config", str(file), workers=1)
    before = server.nodes()
    file.write_text("[worker]\nslotz = 4\n")
    ran = await server.run("reload", "--wait")
    assert ran.code == exits.Exit.INVALID and "did you mean" in ran.err and len(ran.err.splitlines()) == 1
    assert server.nodes() == before and "it goes on as it was" in server.log()


async def test_new_settings_are_taken_up_node_by_node_while_jobs_run_to_their_end(server: Deployment, tmp_path: Path):
    file = tmp_path / "callboard.toml"
    file.write_text("")
    await server.up("--config", str(file), *GRACE, workers=1)
    agent, before = server.agent, {node.pid for node in server.nodes()}
    assert agent is not None
    (held,) = await server.hold(1)
    file.write_text("[log]\nlevel = 'debug'\n")
    running = asyncio.create_task(server.run("reload", "--wait", "--json"))
    await server.eventually(lambda: not before & {node.pid for node in server.nodes("service")}, SETTLE_SECONDS)
    server.release()
    ran = await running
    assert (ran.code, ran.err) == (exits.Exit.OK, "")
    assert agent.poll() is None and not before & {node.pid for node in server.nodes()}
    (job,) = await server.finished()
    assert job.id == held and (job.state, job.attempts, job.deaths) == ("completed", 1, 0)


async def test_an_agent_that_is_to_stop_while_it_starts_anew_stops_its_nodes_too(server: Deployment):
    """In the moment in which the process has become the next agent, and has heard of no signal yet."""
    await server.up(workers=1)
    agent = server.agent
    assert agent is not None
    server.kill(agent.pid, signal.SIGUSR2)
    environment = Path(f"/proc/{agent.pid}/environ")
    await server.eventually(lambda: rebirth.VARIABLE.encode() in environment.read_bytes(), SETTLE_SECONDS)
    server.kill(agent.pid, signal.SIGTERM)
    await server.eventually(lambda: agent.poll() is not None, SETTLE_SECONDS)
    assert agent.returncode == 0 and server.nodes() == []
    assert "killing node" not in server.log()


async def test_two_versions_work_side_by_side_and_the_new_one_comes_in_by_a_reload(server: Deployment, tmp_path: Path):
    """The version on disk is another one while the agent runs: a node that dies comes back as the new one, beside the old."""
    disk = tmp_path / "disk"
    shutil.copytree(Path(callboard.__file__).parent, disk / "callboard", ignore=shutil.ignore_patterns("__pycache__"))
    _number(disk, "7.0.1")
    server._environment |= {"PYTHONPATH": str(disk)}
    await server.up(*GRACE, workers=2)
    before = server.nodes()
    assert await _versions(server) == {"7.0.1"}

    _number(disk, "7.0.2")
    server.kill(server.nodes("worker")[0].pid)
    await server.eventually(lambda: len(server.nodes("worker")) == 2, SETTLE_SECONDS)
    async with asyncio.timeout(SETTLE_SECONDS):
        while await _versions(server) != {"7.0.1", "7.0.2"}:
            pass
    assert (await server.facts()).software == "7.0.1"

    async with server.traffic(), _calls(server):
        ran = await server.run("reload", "--wait")
    assert ran.code == exits.Exit.OK, ran.err
    assert (await server.facts()).software == "7.0.2" and await _versions(server) == {"7.0.2"}
    assert not {node.pid for node in server.nodes()} & {node.pid for node in before}
    jobs = await server.finished()
    assert {job.state for job in jobs} == {"completed"}, "of the load: those that tell the version write down nothing"


def _number(disk: Path, version: str) -> None:
    """Give the software on disk a version."""
    for old in disk.glob("callboard-*.dist-info"):
        shutil.rmtree(old)
    made = disk / f"callboard-{version}.dist-info"
    made.mkdir()
    (made / "entry_points.txt").write_text(metadata.distribution("callboard").read_text("entry_points.txt") or "")
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: callboard\nVersion: {version}\n")


async def _versions(server: Deployment) -> set[str]:
    """Return which versions run jobs."""
    receipts = [await server.client.submit("renewed.version") for _ in range(20)]
    return {(await server.client.wait(receipt.id, SETTLE_SECONDS)).result for receipt in receipts}


@contextlib.asynccontextmanager
async def _calls(server: Deployment) -> AsyncIterator[list[dict[str, int]]]:
    """Call the service all the while; a call that fails ends the test."""
    answers: list[dict[str, int]] = []

    async def flow() -> None:
        while True:
            answers.append(await server.client.call("billing", "who", timeout=20, repeatable=True))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(flow())
    try:
        yield answers
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _is(read: Callable[[], Awaitable[T]], value: T) -> bool:
    return await read() == value


async def _holds(read: Callable[[], Awaitable[T]], condition: Callable[[T], bool]) -> bool:
    return condition(await read())
