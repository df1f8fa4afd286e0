"""One deployment of real processes, through the command line: brought up, broken, looked at, and swept away.

Used by the fault tests alone. Processes are found by their ids: the agents that were started here, and the nodes whose
command line names this very data directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from callboard.client import Client
from callboard.http import shapes
from callboard.jobs import model
from callboard.kit import ports
from callboard.node import layout, processes
from tests.faults import history
from tests.faults.book import Book

CALLBOARD = Path(sys.executable).with_name("callboard")
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
START_SECONDS = 60.0
END_SECONDS = 20.0
AT_ONCE = 200
POLL_SECONDS = 0.05
UNFINISHED = [state.word for state in model.State if state not in model.TERMINAL]


class Eventually(Protocol):
    async def __call__(self, condition: Callable[[], object], seconds: float = 10) -> None: ...


class Node(msgspec.Struct, frozen=True):
    """A node that lives."""

    role: str
    index: int
    pid: int
    incarnation: str


class Ran(msgspec.Struct, frozen=True):
    """A command that ended."""

    code: int
    out: str
    err: str


class Deployment:
    """A data directory, the agents started for it, and what was acknowledged by its gateways."""

    APP = "ledger"
    RUN_SECONDS = START_SECONDS
    """What a command may take."""

    def __init__(self, data: Path, notes: Path, eventually: Eventually, store: str | None = None) -> None:
        """`notes` is a directory of the tests' own, on another disk than `data` if that one gets full. `store` is a URL; None
        means a file in `data`."""
        self.data = data
        self.store = store
        self.eventually = eventually
        self.port = ports.free(2)[0]
        self.gate = notes / "gate"
        """Handlers named `hold…` run until this file exists."""
        self.book = Book(notes / "ledger")
        self.agent: subprocess.Popen[bytes] | None = None
        self.acknowledged: list[str] = []
        self.killed: set[int] = set()
        self._notes = notes
        self._agents: list[subprocess.Popen[bytes]] = []
        self._scripts: dict[int, tuple[subprocess.Popen[bytes], str]] = {}
        self._client: Client | None = None
        self.prefix: Sequence[str] = ()
        """What stands before its commands: where they run, see `places.Host`. Its gateways are reached from there alone."""
        settings = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
        self._environment = settings | {"CALLBOARD_TEST_LEDGER": str(self.book.file)}

    def beside(self, data: Path, notes: Path) -> Deployment:
        """Return another one on the same store, as on another machine: jobs, marks and dead are told as one's own."""
        other = type(self)(data, notes, self.eventually, self.store)
        other.gate, other.book = self.gate, self.book
        other.acknowledged, other.killed = self.acknowledged, self.killed
        other._environment = self._environment
        return other

    @property
    def url(self) -> str:
        """The store's."""
        return self.store or f"sqlite:///{self.data}/callboard.db"

    # Commands

    async def up(self, *options: str, workers: int = 2, slots: int = 8, gateways: int = 1) -> Any:
        """Start an agent; return what it printed, once everything is ready."""
        await self.close()
        shape = f"--workers {workers} --slots {slots} --gateways {gateways} --port {self.port}".split()
        shape += ["--store", self.store] if self.store is not None else []
        return await self._started([CALLBOARD, "up", f"{self.APP}:app", "--data", self.data, "--json", *shape, *options], HERE)

    async def _started(self, command: Sequence[str | Path], directory: Path, seconds: float = START_SECONDS) -> Any:
        name = f"up-{len(self._agents)}"
        agent = self._spawn(command, directory, name)
        self._agents.append(agent)
        self.agent = agent
        printed = self._notes / f"{name}.out"
        try:
            await self.eventually(lambda: printed.read_bytes().endswith(b"\n") or agent.poll() is not None, seconds)
        except BaseException:
            print(self.log(), *(path.read_text() for path in (self.data / "nodes").glob("*.log")), sep="\n")
            raise
        assert agent.poll() is None, f"up ended with {agent.returncode}: {self.log()}"
        self.connect()
        return json.loads(printed.read_text())

    def connect(self) -> None:
        """Make its client, on this loop."""
        urls, key = self.access()
        self._client = Client(urls, key, timeout=END_SECONDS)

    async def run(self, *arguments: str) -> Ran:
        """Run a command to its end."""
        return await asyncio.to_thread(self._run, arguments)

    def access(self) -> tuple[list[str], str | None]:
        """Return the gateways' addresses and the admin key."""
        local = layout.read_local(layout.Layout(self.data).local)
        assert local is not None
        return local.urls, local.key

    def log(self) -> str:
        """What the agents said."""
        return "".join(path.read_text() for path in sorted(self._notes.glob("up-*.err")))

    def script(self, module: str, node: str) -> subprocess.Popen[bytes]:
        """Start a user's own process that works on the store as the node `node`."""
        command = [sys.executable, "-m", f"tests.faults.{module}", self.data, node, self.url]
        made = self._spawn(command, ROOT, node)
        self._scripts[made.pid] = made, node
        return made

    async def ended(self, script: subprocess.Popen[bytes]) -> Any:
        """End a script; return what it printed last."""
        script.terminate()
        await asyncio.to_thread(script.wait, END_SECONDS)
        name = self._scripts[script.pid][1]
        assert script.returncode == 0, (self._notes / f"{name}.err").read_text()
        return json.loads((self._notes / f"{name}.out").read_bytes().splitlines()[-1])

    def _spawn(self, command: Sequence[str | Path], directory: Path, name: str) -> subprocess.Popen[bytes]:
        with (self._notes / f"{name}.out").open("wb") as out, (self._notes / f"{name}.err").open("wb") as err:
            return subprocess.Popen(
                [*self.prefix, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=directory, env=self._environment
            )

    def _run(self, arguments: Sequence[str]) -> Ran:
        done = subprocess.run(
            [*self.prefix, CALLBOARD, *arguments, "--data", self.data],
            capture_output=True,
            text=True,
            cwd=HERE,
            env=self._environment,
            timeout=self.RUN_SECONDS,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    # Processes

    def nodes(self, role: str | None = None) -> list[Node]:
        """Return the nodes that have started and live, by role and place."""
        place = layout.Layout(self.data)
        records = {record.incarnation: record for record in place.records()}
        found = []
        for each in place.sessions().entries(layout.NODES):
            entry = layout.entry(each)
            record = records.get(entry.incarnation or "") if entry else None
            if entry and record and entry.roles and role in (None, record.role) and alive(entry.process):
                found.append(Node(record.role, record.index, entry.pid, record.incarnation))
        return sorted(found, key=lambda node: (node.role, node.index))

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal; return CLOCK_BOOTTIME just before."""
        own = {agent.pid for agent in self._agents} | self._scripts.keys() | self._pids()
        assert pid in own, "not a process of this deployment"
        if number is signal.SIGKILL:
            self.killed.add(pid)
        at = boot()
        os.kill(pid, number)
        return at

    def dead(self, pid: int) -> bool:
        """Whether a process writes nothing more."""
        found = processes.status(pid)
        return found is None or found.state == "Z"

    def kill_all(self) -> int:
        """Kill the agent and all nodes, as when a machine loses its power; return CLOCK_BOOTTIME just before."""
        assert self.agent
        at = self.kill(self.agent.pid)
        for pid in self._pids():
            self.kill(pid)
        self.sweep()
        return at

    def freeze_all(self) -> int:
        """Stop the agent, all nodes and what they started, as when a machine is suspended; they will be taken for dead. Returns
        CLOCK_BOOTTIME just before."""
        at = boot()
        for pid in self._everybody():
            os.kill(pid, signal.SIGSTOP)
            self.killed.add(pid)
        return at

    def thaw_all(self) -> None:
        """Let them go on, the agent last: it shall not find its nodes stopped."""
        for pid in reversed(self._everybody()):
            os.kill(pid, signal.SIGCONT)

    def _everybody(self) -> list[int]:
        assert self.agent
        return [self.agent.pid, *sorted(self._pids())]

    def freeze_in_commit(self, pid: int) -> Path:
        """Have a node stop itself inside its next commit; return the file that exists from then on."""
        (self._notes / f"{self.book.file.name}.freeze-{pid}").touch()
        return self._notes / f"{self.book.file.name}.frozen-{pid}"

    def clench_in_commit(self, pid: int, seconds: float) -> Path:
        """Have a node hold its interpreter's lock inside its next commit; return the file that exists from its end on."""
        flag = self._notes / f"{self.book.file.name}.clench-{pid}"
        flag.with_suffix(".new").write_text(str(seconds))
        flag.with_suffix(".new").rename(flag)
        return self._notes / f"{self.book.file.name}.opened-{pid}"

    def sweep(self) -> None:
        """Kill all that was started here and still lives."""
        for process in (*self._agents, *(script for script, _ in self._scripts.values())):
            process.kill()
            process.wait()
        deadline = time.monotonic() + END_SECONDS
        while pids := self._pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline, f"cannot be killed: {pids}"

    def _pids(self) -> set[int]:
        """The nodes of this data directory, by their command lines."""
        records = os.fsencode(self.data / "nodes") + b"/"
        found = set()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if any(word.startswith(records) for word in path.read_bytes().split(b"\0")):
                    found.add(int(path.parent.name))
        return found

    # Jobs

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    async def submit(self, kind: str, jobs: int = 1, **args: Any) -> list[str]:
        """Submit jobs one by one; each is noted when it is acknowledged."""
        ids = []
        for _ in range(jobs):
            receipt = await self.client.submit(f"{self.APP}.{kind}", args)
            self.acknowledged.append(receipt.id)
            ids.append(receipt.id)
        return ids

    async def hold(self, jobs: int, kind: str = "hold", **args: Any) -> list[str]:
        """Submit jobs that run until `release`; return when all of them run."""
        ids = await self.submit(kind, jobs, gate=str(self.gate), **args)
        await self.eventually(lambda: self.book.ids("began").issuperset(ids), START_SECONDS)
        return ids

    def release(self) -> None:
        self.gate.touch()

    @contextlib.asynccontextmanager
    async def traffic(self, pause_seconds: float = 0.01) -> AsyncIterator[list[int]]:
        """Submit one small job after another meanwhile; gives the times (CLOCK_BOOTTIME) of their acknowledgements."""
        acknowledged: list[int] = []

        async def flow() -> None:
            while True:
                await self.submit("nap")
                acknowledged.append(boot())
                await asyncio.sleep(pause_seconds)

        task = asyncio.create_task(flow())
        try:
            yield acknowledged
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def finished(self, seconds: float = END_SECONDS) -> list[shapes.JobDetail]:
        """Wait until every acknowledged job is finished; return them. To read thousands may take longer than they may."""
        deadline = time.monotonic() + seconds
        while left := await self._open_jobs():
            assert time.monotonic() < deadline, f"not finished after {seconds:g} s: {left}; the agents said: {self.log()}"
            await asyncio.sleep(POLL_SECONDS)
        return await _each(lambda id: self.client.wait(id, END_SECONDS), self.acknowledged)

    async def _open_jobs(self) -> list[str]:
        asked = set(self.acknowledged)
        jobs = [job async for job in self.client.jobs(state=UNFINISHED) if job.id in asked]
        return [f"{job.id} {job.kind} {job.state} run {job.run} fence {job.fence} of {job.node}" for job in jobs]

    async def verdict(self) -> history.Verdict:
        """Judge what happened so far."""
        jobs = [job async for job in self.client.jobs() if job.kind.startswith(f"{self.APP}.")]
        return self.judged(await _each(self.client.get, [job.id for job in jobs]))

    def judged(self, jobs: Iterable[shapes.JobDetail]) -> history.Verdict:
        """Judge what happened so far, these jobs being all that is there."""
        finals = [
            history.Final(
                id=job.id,
                state=job.state,
                run=job.run,
                fence=job.fence,
                result_fence=job.result,
                errors=[(error.run, error.fence) for error in job.errors if error.code != "worker_lost"],
            )
            for job in jobs
        ]
        return history.judge(self.acknowledged, self.book.marks(), finals, self.killed)

    def note(self, id: str, asked: int, created: bool) -> None:
        """Called when one of a load's jobs is acknowledged: first asked for then, and made by the try that was answered?"""

    def busiest(self) -> tuple[Node, set[str]]:
        """Return the worker that runs the most jobs, one at least, and these jobs."""
        victim = max(self.nodes("worker"), key=lambda node: len(self.book.held_by(node.pid)))
        held = self.book.held_by(victim.pid)
        assert held, "nothing runs"
        return victim, held

    async def close(self) -> None:
        """Close the client. Allowed twice."""
        if self._client is not None:
            await self._client.close()


def alive(process: processes.Process) -> bool:
    found = processes.status(process.pid)
    return found is not None and found.started == process.started and found.state != "Z"


def boot() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def longest_gap(times: Iterable[int]) -> float:
    """Return the seconds of the longest pause between times in nanoseconds."""
    return max(after - before for before, after in itertools.pairwise(times)) / 1e9


async def _each(read: Callable[[str], Awaitable[shapes.JobDetail]], ids: Iterable[str]) -> list[shapes.JobDetail]:
    """Read all, some at a time: there may be ten thousand, and each has a deadline."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(id: str) -> shapes.JobDetail:
        async with turns:
            return await read(id)

    return list(await asyncio.gather(*map(one, ids)))
