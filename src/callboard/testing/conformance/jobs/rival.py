"""One of several processes that claim from a store at once: `python -m …rival URL JOBS NUMBER`.

Claims and completes, a few at a time, until JOBS jobs of the store are completed; then writes what it claimed to standard
output, as JSON: [[id in base64, fence], …].
"""

from __future__ import annotations

import sys

import msgspec

from callboard.jobs import engine as seam
from callboard.jobs import engines, states
from callboard.testing.conformance.jobs import bench


def main(url: str, jobs: int, number: int) -> None:
    node = bytes([number]) * 16
    mine: list[tuple[bytes, int]] = []
    engine = engines.open(url)
    done: dict[str, int] = {}
    ends: tuple[seam.Settle, ...] = ()
    while done.get("completed") != jobs:
        # The ends and the next claim share a commit, as those of workers do.
        *_, claimed = bench.unit(engine, *ends, seam.Claim(node, (bench.take(),), 7, bench.NOW))
        mine += [(one.id, one.fence) for one in claimed.jobs]
        ends = tuple(bench.settle(one, states.succeeded(one, b"\x01", bench.NOW)) for one in claimed.jobs)
        done = {row.state.word: row.jobs for row in engine.counts("main")}
    engine.close()
    sys.stdout.buffer.write(msgspec.json.encode(mine))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
