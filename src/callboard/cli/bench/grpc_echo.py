"""The other side of a comparison: gRPC's Python asyncio, a unary method that returns the bytes that it was given.

Run as a process of its own: `python -m callboard.cli.bench.grpc_echo` prints its port and serves until its input ends. Payloads
are bytes on both sides, so that no other encoding is measured. Needs `pip install callboard[bench]`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from callboard.cli.bench import rounds

MODULE = "callboard.cli.bench.grpc_echo"
METHOD = "/bench.Echo/echo"


async def serve() -> None:
    """Serve on a free loopback port until standard input ends."""

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    handlers = grpc.method_handlers_generic_handler("bench.Echo", {"echo": grpc.unary_unary_rpc_method_handler(echo)})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


async def measure(payload: bytes) -> dict[str, float]:
    """Return latency one by one, and calls/s with many in flight, against a server in another process."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdin is not None and server.stdout is not None
    try:
        port = int(await server.stdout.readline())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(METHOD)

            async def once() -> None:
                await call(payload)

            return await rounds.measure(once)
    finally:
        server.stdin.close()
        await server.wait()


if __name__ == "__main__":
    uvloop.run(serve())
