"""Looking around and moving things among real processes: names, pings, moves under load, drains, on the command line and from
programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from callboard import errors
from callboard.client import Client, SyncClient
from callboard.node import layout
from tests.acceptance.agents import Machine
from tests.acceptance.test_names import Shop
from tests.conftest import Eventually

pytestmark = pytest.mark.xdist_group("names")


class Ran:
    """A command that was run to its end: its exit code, and what it printed."""

    def __init__(self, made: subprocess.CompletedProcess[str]) -> None:
        self.code = made.returncode
        self.rows = [line.split("\t") for line in made.stdout.splitlines()]
        self.text = made.stdout
        self.said = made.stderr


class Place(Shop):
    """The shop of the tests of names, with three who stand for `billing`."""

    def run(self, *words: str) -> Ran:
        command = [sys.executable, "-m", "callboard.cli", *words, "--data", str(self.machine.data)]
        return Ran(subprocess.run(command, capture_output=True, text=True, timeout=60, check=False))

    @contextlib.contextmanager
    def coordination_away(self) -> Iterator[None]:
        """Damage what all read of coordination, and mend it."""
        book = self.machine.data / "coordination" / "book.json"
        whole = book.read_bytes()
        book.write_bytes(b"{")
        try:
            yield
        finally:
            book.write_bytes(whole)

    async def ran(self, *words: str) -> Ran:
        return await asyncio.to_thread(self.run, *words)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(Machine(tmp_path_factory.mktemp("operating")))
    try:
        made.up(service__count=3, agent__silent_seconds=300)  # Frozen ones are not to be replaced here.
        yield made
    finally:
        made.machine.sweep()


@pytest.fixture
async def caller(place: Place, eventually: Eventually) -> AsyncIterator[Client]:
    """A client, once one instance serves and two stand by."""
    async with place.caller() as made:
        names: dict[str, Any] = {}

        async def settled() -> bool:
            with contextlib.suppress(errors.CallboardError, KeyError):
                names.update({each.name: each for each in (await made.names()).names})
                return len(names["billing"].instances) == 1 and len(names["billing"].standbys) == 2
            return False

        await eventually(settled, 40)
        yield made


async def test_a_move_under_steady_calls_loses_none_and_raises_the_epoch(
    place: Place, caller: Client, record_property: Callable[[str, object], None]
):
    over, seen = asyncio.Event(), list[tuple[float, int]]()

    async def go_on() -> None:
        while not over.is_set():
            began = time.monotonic()
            epoch = (await caller.call("billing@acme", "balance", timeout=10))["epoch"]
            seen.append((time.monotonic() - began, epoch))
            await asyncio.sleep(0.002)

    before = (await caller.names("billing")).names[0]
    going = [asyncio.create_task(go_on()) for _ in range(4)]
    ran = await place.ran("move", "billing@acme", "--json")
    assert ran.code == 0, ran.said
    first = json.loads(ran.text)
    assert first["before"] == before.epoch < first["epoch"]
    assert (first["left"]["node"], first["holder"]["node"]) == (before.instances[0].node, before.standbys[0].node)
    named = await caller.move("billing", first["left"]["node"][-8:])
    assert (named.before, named.holder.node) == (first["epoch"], first["left"]["node"])
    over.set()
    await asyncio.gather(*going)  # Raises what any call did.
    assert {epoch for _, epoch in seen} <= {before.epoch, first["epoch"], named.epoch} and len(seen) > 20
    record_property("figure", f"two moves, {len(seen)} calls, none refused, the longest: {max(seen)[0] * 1000:.0f} ms")
    after = (await caller.names("billing")).names[0]
    assert (after.epoch, after.instances[0].node) == (named.epoch, named.holder.node), "it stays where it was moved"


async def test_names_and_pings_tell_who_answers(place: Place, caller: Client):
    listed = {row[0]: row for row in (await place.ran("names")).rows}
    assert {"billing", "cache", "gateway", "registry", "worker"} <= set(listed) and "node" not in listed
    billing = await caller.call("billing", "balance")
    pids = {node["incarnation"]: node["pid"] for node in await caller.nodes()}
    name, kind, group, epoch, node, server, standbys, stale = listed["billing"]
    assert (name, kind, group, int(epoch), pids[node], server, stale) == (
        "billing",
        "service",
        "main",
        billing["epoch"],
        billing["pid"],
        "",
        "",
    )
    assert len(standbys.split()) == 2 and node not in standbys
    assert len(listed["cache"][4].split()) == 3
    assert [row[0] for row in (await place.ran("names", "bil")).rows] == ["billing"]
    told = dict((await place.ran("ping", "billing@acme")).rows)
    assert (told["node"], told["active"], int(told["epoch"])) == (node, "yes", billing["epoch"])
    assert 0 < float(told["milliseconds"]) < 5000
    standby = json.loads((await place.ran("ping", f"billing/{standbys.split()[0]}", "--json")).text)
    assert (standby["active"], standby["epoch"], standby["node"]) == (False, 0, standbys.split()[0])
    local = layout.read_local(place.machine.place.local)
    assert local is not None

    def from_a_program() -> None:
        with SyncClient(local.urls, local.key) as client:
            assert client.ping("cache").active and client.names("cache").names[0].active == "all"
            assert [each.server for each in client.servers()] == [""]
            with pytest.raises(errors.StateRefused):
                client.drain_server("", force=True)
            assert client.undrain_server("").stood is False
            with pytest.raises(errors.NotFound):
                client.renew_server("s1")
            with pytest.raises(errors.NotFound):
                client.drain_node("zzzzzzzz")
            with pytest.raises(errors.StateRefused):
                client.move("cache")

    await asyncio.to_thread(from_a_program)


BAD: list[tuple[list[str], int, str]] = [
    (["ping", "biling"], 3, "nobody alive has a service or role named biling: did you mean billing? (unknown_name)"),
    (["ping", "Bill!"], 2, "(invalid_name)"),
    (["ping", "a/b/c"], 2, "(invalid_name)"),
    (["ping", f"billing/{'0' * 32}"], 3, "(unknown_name)"),
    (["ping", "billing", "--timeout", "0"], 2, "--timeout 0 is out of range"),
    (["move", "biling"], 3, "did you mean billing? (unknown_name)"),
    (["move", "cache"], 4, "cache has no office that could move: all its instances serve (state_refused)"),
    (["move", "registry"], 4, "(state_refused)"),
    (
        ["move", "domain-controller"],
        4,
        "nobody stands by for domain-controller: start another instance of it first (state_refused)",
    ),
    (["move", "billing", "--to", "zzzzzzzz"], 3, "no node 'zzzzzzzz' stands by for billing"),
    (["move", "billing", "--timeout", "61"], 2, "--timeout 61 is out of range"),
    (["drain"], 2, "drain takes nodes, or --server and its name: give one of the two (invalid_input)"),
    (["drain", "abcd", "--server", "s1"], 2, "(invalid_input)"),
    (["drain", "abcd", "--force"], 2, "--force is for --server"),
    (["drain", "zzzzzzzz"], 3, "no node 'zzzzzzzz' is alive: 'callboard nodes' lists those that live (not_found)"),
    (["drain", "--server", "s1"], 3, "no server 's1' is alive: those that are: local (not_found)"),
    (["drain", "--server", "loca"], 3, "did you mean local? (not_found)"),
    (["drain", "--server", "local"], 4, "server local is the last one with"),
    (["drain", "--server", "local", "--force"], 4, "without a gateway nobody could take this back"),
    (["undrain", "--server", "s1"], 3, "(not_found)"),
    (["renew"], 2, "renew takes --server and a name, or --all: give one of the two (invalid_input)"),
    (["renew", "--all", "--server", "local"], 2, "(invalid_input)"),
    (["renew", "--server", "s1"], 3, "(not_found)"),
    (["renew", "--all", "--timeout", "0"], 2, "--timeout 0 is out of range"),
]
"""Words of a command, its exit code, and what it says."""
ALL = """
import contextlib, io, json, sys
from callboard.cli import program
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = program.run(words)
    print(json.dumps([int(code), out.getvalue(), err.getvalue()]))
"""


async def test_bad_input_gives_one_line_and_its_exit_code(place: Place, caller: Client):
    lines = json.dumps([[*words, "--data", str(place.machine.data)] for words, _, _ in BAD])
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", ALL], input=lines, capture_output=True, text=True, timeout=200, check=True
    )
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(found) == len(BAD)
    for (words, code, said), (was, out, told) in zip(BAD, found, strict=True):
        assert (was, out) == (code, ""), (words, told)
        assert said in told and told.count("\n") == 1 and told.startswith("callboard: "), (words, told)


async def test_a_drained_node_ends_and_another_one_takes_its_place(place: Place, caller: Client, eventually: Eventually):
    """What it ran comes to its end first."""
    receipt = await caller.submit("shop.keep_asking", {"seconds": 2.0})

    async def running() -> bool:
        return (await caller.get(receipt.id)).state == "running"

    await eventually(running)
    worker = next(node for node in await caller.nodes() if node["roles"][0]["role"] == "worker")
    ran = await place.ran("drain", worker["incarnation"][-8:], "--wait")
    assert (ran.code, ran.rows) == (0, [[worker["incarnation"], "drained"]]), ran.said
    done = await caller.wait(receipt.id, 10)
    assert (done.state, done.attempts) == ("completed", 1)

    async def replaced() -> bool:
        workers = [node["incarnation"] for node in await caller.nodes() if node["roles"] and node["roles"][0]["role"] == "worker"]
        return bool(workers) and worker["incarnation"] not in workers

    await eventually(replaced)


async def test_names_are_told_from_what_was_known_last_while_coordination_is_away(
    place: Place, caller: Client, eventually: Eventually
):
    before = (await place.ran("names", "billing")).rows
    with place.coordination_away():

        async def stale() -> bool:
            return (await caller.names()).stale

        await eventually(stale)
        ran = await place.ran("names", "billing")
        assert (ran.code, ran.rows) == (0, [[*before[0][:-1], "stale"]])
        assert ran.said == "callboard: coordination is out of reach: this is what was known last\n"
        moved, drained = await asyncio.gather(place.ran("move", "billing"), place.ran("drain", "--server", "local"))
        assert moved.code == 5 and "no office changes hands (coordination_unavailable)" in moved.said
        assert drained.code == 5 and "(coordination_unavailable)" in drained.said
    await eventually(lambda: fresh(caller))


async def fresh(caller: Client) -> bool:
    return not (await caller.names()).stale


async def test_the_ping_of_a_dead_name_says_so(place: Place, caller: Client, eventually: Eventually):
    """All its nodes are frozen: nobody answers, whatever a registry still remembers."""
    listed = (await caller.names("cache")).names[0]
    pids = set(place.machine.pids("service").values())
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        ran = await place.ran("ping", "billing")
        assert ran.code == 5 and "no instance of billing answers a ping: none is alive, or in reach (not_active)" in ran.said
        frozen = await place.ran("ping", f"cache/{listed.instances[0].node}", "--timeout", "1")
        assert frozen.code in (5, 7) and frozen.said.count("\n") == 1, frozen.said
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
