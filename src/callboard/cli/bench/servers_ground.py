"""Servers of one cluster on this machine: each an agent on an address of its own, all from one file, as an operator starts them.

They share a private database and a private ensemble, or, when there is only one server, what lies in its data directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from callboard import errors
from callboard.cli.bench import deployment, private
from callboard.node import layout
from callboard.rpc import certs
from callboard.testing.engines import zookeeper

FILE: Final = "cluster.toml"
NAMES: Final = ("alpha", "beta")
START_SECONDS: Final = 60.0
QUIET: Final = "error"
"""Level of the logs of those who are killed all the time."""

Settings = Mapping[str, Any]
"""Of one server, by dotted name."""


class Shared(msgspec.Struct, frozen=True):
    """Where servers keep jobs and find each other; empty for one server that keeps all of it in its data directory."""

    store: str = ""
    coordination: str = ""


class Ground:
    """The database and the ensemble; `fresh` gives what nobody has used yet."""

    def __init__(self, database: private.Served, ensemble: zookeeper.Ensemble) -> None:
        self.ensemble = ensemble
        self._database = database
        self._numbers = itertools.count(1)

    def fresh(self) -> Shared:
        """Return an empty database and an empty folder in the ensemble. Blocks."""
        return Shared(self._database.database(), self.ensemble.url(f"/bench-{next(self._numbers)}"))


@contextlib.contextmanager
def opened() -> Iterator[Ground]:
    """Start MariaDB and ZooKeeper; both force every write to the disk. Raises Unsupported where they are not installed."""
    if missing := zookeeper.installed():
        raise errors.Unsupported(f"zookeeper cannot be started here: {missing}; 'make engines' installs it")
    with private.open("mariadb") as database, zookeeper.Ensemble(1, sync=True) as ensemble:
        yield Ground(database, ensemble)


class Node(msgspec.Struct, frozen=True):
    """A process of a server: which node it is, and its number among those of its kind."""

    pid: int
    incarnation: str
    index: int


class Cluster(msgspec.Struct, frozen=True):
    """What was started: each server as a deployment, by name; the URLs of all gateways, and an admin key."""

    directory: Path
    servers: dict[str, deployment.Deployment]
    urls: list[str]
    key: str

    def nodes(self, server: str, role: str) -> list[Node]:
        """Return the live nodes of a server whose place is of that kind, the oldest first."""
        place = layout.Layout(self.servers[server].data)
        records = {os.fsencode(place.record(each.incarnation)): each for each in place.records() if each.role == role}
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                for word in records.keys() & set(path.read_bytes().split(b"\0")):
                    found.append(Node(int(path.parent.name), records[word].incarnation, records[word].index))
        return sorted(found, key=lambda node: node.incarnation)


@contextlib.asynccontextmanager
async def stand(shared: Shared, servers: Mapping[str, Settings]) -> AsyncIterator[Cluster]:
    """Start an agent for each server, and give all of it when every node is ready."""
    directory = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    agents: list[asyncio.subprocess.Process] = []
    try:
        (directory / FILE).write_text(text(shared, servers))
        if len(servers) > 1:
            certs.init(directory / "certs")
        made: dict[str, deployment.Deployment] = {}
        urls: list[str] = []
        for name in servers:
            if len(servers) > 1:
                certs.issue(directory / "certs", name)
            agents.append(await _agent(directory, name))
            said = await _said(agents[-1], directory / f"{name}.log")
            urls += said["urls"]
            store = shared.store or f"sqlite://{directory / name}/callboard.db"
            made[name] = deployment.Deployment(directory / name, agents[-1].pid, said["urls"], said["new_key"] or "", store)
        yield Cluster(directory, made, urls, next((each.key for each in made.values() if each.key), ""))
    finally:
        for agent in agents:
            if agent.returncode is None:
                agent.send_signal(signal.SIGTERM)
        for agent in agents:
            await agent.wait()
        shutil.rmtree(directory, ignore_errors=True)


def text(shared: Shared, servers: Mapping[str, Settings]) -> str:
    """Return the cluster's file: the names of the settings are those of every Callboard, the values TOML writes as JSON does."""
    top = {"version": 1, "cluster": "bench", "app": "callboard.cli.bench.apps:app", "log.level": QUIET}
    if shared.store:
        top |= {"store.url": shared.store, "coordination.url": shared.coordination, "wire.certificates": "certs"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    for place, (name, given) in enumerate(servers.items()):
        own = {"data": name, **given}
        if len(servers) > 1:
            own |= {"address": f"127.0.0.{place + 2}", "gateway.host": f"127.0.0.{place + 2}"}
        lines += ["", f"[servers.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in own.items())]
    return "\n".join([*lines, ""])


async def _agent(directory: Path, server: str) -> asyncio.subprocess.Process:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
    command = (sys.executable, "-m", "callboard.cli", "agent", "--server", server, "--json")
    with (directory / f"{server}.log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=log, cwd=directory, env=surroundings
        )


async def _said(agent: asyncio.subprocess.Process, log: Path) -> dict[str, Any]:
    """Return what an agent says once all its nodes are ready."""
    assert agent.stdout is not None
    async with asyncio.timeout(START_SECONDS):
        line = await agent.stdout.readline()
    if not line:
        raise _ended(log)
    found: dict[str, Any] = json.loads(line)
    return found


def _ended(log: Path) -> errors.StartupError:
    return errors.StartupError(f"an agent ended: {log.read_text()[-500:]}")
