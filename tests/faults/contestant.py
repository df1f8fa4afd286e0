"""One of several processes that do all that can be done to the same few jobs: `python -m tests.faults.contestant URL NODE SECONDS
SEED OTHER,… ID…`.

Prints a line when it is ready, begins when it is told to by a line, and writes at its end what it did (`contest.Deed`s) in JSON.
The URL names a store; of a cluster each contestant has the nodes in another order. It expires the others, who live, and find out.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence

import msgspec
import structlog

from callboard import errors
from callboard.jobs import engine as seam
from callboard.jobs import engines, model, states
from callboard.kit import clock
from callboard.testing.conformance.jobs import bench
from tests.faults import contest

MOST_HELD = 4


class Contestant:
    """Its deeds, and the claims that it holds, or has held."""

    def __init__(self, url: str, node: str, others: Sequence[str], ids: Sequence[bytes], seed: int) -> None:
        self.deeds: list[contest.Deed] = []
        self.errors: dict[str, int] = {}
        self._engine = engines.open(url)
        self._node = node
        self._others = others
        self._ids = ids
        self._by_chance = random.Random(seed)
        self._held: list[model.Job] = []
        self._runs = dict.fromkeys(ids, 1)

    def act(self) -> None:
        """Do something."""
        chance = self._by_chance
        (verb,) = chance.choices(
            ("claim", "end", "exchange", "expire", "cancel", "retry", "look"), weights=(20, 20, 10, 3, 6, 25, 16)
        )
        job = chance.choice(self._ids)
        match verb:
            case "claim":
                self._apply([self._claim()])
            case "end" if self._held:
                self._apply([self._end()])
            case "exchange" if self._held:
                self._apply([self._end(), self._claim()])
            case "expire":
                self._apply([seam.Expire((chance.choice(self._others).encode(),), 1000, _now())])
            case "cancel":
                self._apply([seam.Cancel("main", job, _now())])
            case "retry":
                self._apply([seam.Retry("main", job, _now(), chance.choice((None, self._runs[job])))])
            case "look":
                self._look(job)

    def close(self) -> None:
        self._engine.close()

    def _claim(self) -> seam.Op:
        return seam.Claim(self._node.encode(), (bench.take(),), self._by_chance.choice((1, 2)), _now())

    def _end(self) -> seam.Op:
        """End one of the claims; now and then one that was ended before, or is long another's."""
        held = self._held
        index = self._by_chance.randrange(len(held))
        job = held[index] if len(held) <= MOST_HELD and self._by_chance.random() < 0.1 else held.pop(index)
        if self._by_chance.random() < 0.2:
            return seam.Release("main", job.id, self._node.encode(), job.fence, _now())
        good = self._by_chance.random() < 0.6
        ended = states.succeeded(job, b"\x01", _now()) if good else states.discarded(job, _now())
        return bench.settle(job, ended, node=self._node.encode())

    def _apply(self, ops: Sequence[seam.Op]) -> None:
        begin = _boot()
        results: Sequence[seam.Result | None]
        try:
            results = [bench_only(result) for result in self._engine.apply([(op,) for op in ops])]
        except errors.StoreError as error:
            unknown = bool(error.data.get("unknown"))
            self.errors[f"{error.code}{' unknown' if unknown else ''}"] = self.errors.get(error.code, 0) + 1
            if not unknown:
                return
            results = [None] * len(ops)
        end = _boot()
        for op, result in zip(ops, results, strict=True):
            self._note(op, result, begin, end)

    def _note(self, op: seam.Op, result: seam.Result | None, begin: int, end: int) -> None:
        match op:
            case seam.Claim():
                jobs = result.jobs if isinstance(result, seam.Claimed) else []
                self._held += jobs
                for job in jobs:
                    self._write("claim", job.id, begin, end, ("running", job.run, job.fence, self._node), node=self._node)
                if result is None:  # Of each that was free, nobody knows whether it was taken.
                    for id in self._ids:
                        self._write("claim", id, begin, end, None, node=self._node)
            case seam.Settle(id=id, fence=fence, outcome=outcome):
                verb: contest.Verb = "succeed" if outcome.state is model.State.COMPLETED else "fail"
                self._write(verb, id, begin, end, _ended(result), node=self._node, fence=fence)
            case seam.Release(id=id, fence=fence):
                self._write("release", id, begin, end, _ended(result), node=self._node, fence=fence)
            case seam.Expire(nodes=(other,)):
                ended = {job.id: job.state.word for job in result.jobs} if isinstance(result, seam.Expired) else {}
                for id in self._ids:
                    answer = None if result is None else (ended.get(id, "none"), 0, 0, "")
                    self._write("expire", id, begin, end, answer, node=other.decode())
            case seam.Cancel(id=id):
                self._write("cancel", id, begin, end, _moved(result))
            case seam.Retry(id=id, run=run):
                self._write("retry", id, begin, end, _moved(result), run=run)

    def _look(self, id: bytes) -> None:
        begin = _boot()
        try:
            (job,) = self._engine.get([("main", id)])
        except errors.StoreError as error:
            self.errors[error.code] = self.errors.get(error.code, 0) + 1
            return
        assert job is not None, f"{id.hex()} is gone"
        self._runs[id] = job.run
        node = job.node.decode() if job.node else ""
        self._write("look", id, begin, _boot(), (job.state.word, job.run, job.fence, node))

    def _write(
        self,
        verb: contest.Verb,
        id: bytes,
        begin: int,
        end: int,
        answer: tuple[str, int, int, str] | None,
        *,
        node: str = "",
        fence: int = 0,
        run: int | None = None,
    ) -> None:
        deed = contest.Deed(verb=verb, job=id.hex(), node=node, fence=fence, run=run, begin=begin, end=end, answer=answer)
        self.deeds.append(deed)


def bench_only(result: seam.UnitResult) -> seam.Result:
    """The result of a unit of one operation, applied or refused."""
    return result.result if isinstance(result, seam.Refused) else result[0]


def _ended(result: seam.Result | None) -> tuple[str, int, int, str] | None:
    match result:
        case seam.Settled(state):
            return state.word, 0, 0, ""
        case seam.Lost(state, fence, node):
            return f"lost:{state.word if state else 'gone'}", 0, fence, node.decode() if node else ""
    return None


def _moved(result: seam.Result | None) -> tuple[str, int, int, str] | None:
    match result:
        case seam.Became(state, node):
            return state.word, 0, 0, node.decode() if node else ""
        case seam.NotAllowed(state):
            return f"refused:{state.word if state else 'gone'}", 0, 0, ""
    return None


def _now() -> int:
    return clock.SystemClock().now()


def _boot() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def main(url: str, node: str, seconds: float, seed: int, others: Sequence[str], ids: Sequence[bytes]) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    made = Contestant(url, node, others, ids, seed)
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        made.act()
    made.close()
    sys.stdout.buffer.write(msgspec.json.encode({"deeds": made.deeds, "errors": made.errors}))


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        float(sys.argv[3]),
        int(sys.argv[4]),
        sys.argv[5].split(","),
        [bytes.fromhex(id) for id in sys.argv[6:]],
    )
