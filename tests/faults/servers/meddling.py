"""What is done to the network between servers, short of cutting it: what is dropped on its way in, and what comes late.

Packets are dropped by iptables in a host's namespace. What comes late goes by way of a proxy in this process, to which the host's
new connections are turned; those that it had are broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

from callboard.testing.engines import places, servers

Target = tuple[str, int]
"""Address and port."""
_BYTES: Final = 1 << 16
_OTHERS: Final = ("!", "-i", "lo")


@contextlib.contextmanager
def deaf(host: places.Host) -> Iterator[None]:
    """Let a host hear nobody else meanwhile; they hear it."""
    with _rule(host, "filter", "INPUT", *_OTHERS, "-j", "DROP"):
        yield


@contextlib.contextmanager
def mute(host: places.Host, hosts: Sequence[places.Host]) -> Iterator[None]:
    """Let no other host hear this one meanwhile; it hears them."""
    with contextlib.ExitStack() as open_:
        for other in hosts:
            if other is not host:
                open_.enter_context(_rule(other, "filter", "INPUT", "-s", host.address, "-j", "DROP"))
        yield


@contextlib.contextmanager
def lossy(hosts: Sequence[places.Host], share: float) -> Iterator[Callable[[], int]]:
    """Let a share of all packets that come to these hosts be lost meanwhile. Gives what tells how many were."""
    chance = ("-m", "statistic", "--mode", "random", "--probability", f"{share:g}")
    with contextlib.ExitStack() as open_:
        for host in hosts:
            open_.enter_context(_rule(host, "filter", "INPUT", *_OTHERS, *chance, "-j", "DROP"))
        yield lambda: sum(map(_dropped, hosts))


@contextlib.asynccontextmanager
async def slow(host: places.Host, here: str, targets: Sequence[Target], seconds: float) -> AsyncIterator[list[str]]:
    """Let what a host says to some servers, and what these answer, come so much later meanwhile. `here` is this machine's address
    beside the bridge. Gives a list that grows with each connection that came this way: from which address."""
    came: list[str] = []
    async with contextlib.AsyncExitStack() as open_:
        for address, port in targets:
            proxy = await open_.enter_async_context(_late((address, port), here, seconds, came))
            to = ("-p", "tcp", "-d", address, "--dport", str(port), "-j", "DNAT", "--to-destination", f"{here}:{proxy}")
            open_.callback(_break, host, address, port)  # At the end, when what is made anew goes straight there again.
            open_.enter_context(_rule(host, "nat", "OUTPUT", *to))
            _break(host, address, port)
        yield came


@contextlib.asynccontextmanager
async def _late(target: Target, here: str, seconds: float, came: list[str]) -> AsyncIterator[int]:
    """Listen on a port, and hand on what comes, both ways, so many seconds later. Gives the port."""
    loop = asyncio.get_running_loop()
    serving: dict[socket.socket, asyncio.Task[None]] = {}

    def accept() -> None:  # Not by `start_server`: that one may be half-way with a connection when all ends.
        with contextlib.suppress(OSError):
            client, (address, _) = listener.accept()
            came.append(address)
            client.setblocking(False)
            serving[client] = asyncio.create_task(serve(client))

    async def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as ends:
            reader, writer = await asyncio.open_connection(sock=client)
            ends.callback(writer.transport.abort)
            theirs, there = await asyncio.open_connection(*target)
            ends.callback(there.transport.abort)
            await asyncio.gather(_handed_on(reader, there, seconds), _handed_on(theirs, writer, seconds))
            for each in (there, writer):
                each.close()
                await each.wait_closed()

    with socket.create_server((here, 0)) as listener:
        listener.setblocking(False)
        loop.add_reader(listener, accept)
        try:
            yield listener.getsockname()[1]
        finally:
            loop.remove_reader(listener)
            for task in serving.values():
                task.cancel()
            await asyncio.gather(*serving.values(), return_exceptions=True)
            for client in serving:
                client.close()


async def _handed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Everything in its order; the end of what was said is told, too."""
    loop = asyncio.get_running_loop()
    while part := await reader.read(_BYTES):
        loop.call_later(seconds, writer.write, part)
    await asyncio.sleep(seconds)
    if writer.can_write_eof():
        writer.write_eof()


@contextlib.contextmanager
def _rule(host: places.Host, table: str, chain: str, *rule: str) -> Iterator[None]:
    command = [*host.prefix, servers.found("iptables"), "-w", "-t", table]
    subprocess.run([*command, "-A", chain, *rule], check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "-D", chain, *rule], check=True)


def _dropped(host: places.Host) -> int:
    """Return how many packets a host's filter has dropped."""
    command = [*host.prefix, servers.found("iptables"), "-w", "-nvxL", "INPUT"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sum(int(line.split()[0]) for line in said.splitlines() if "DROP" in line)


def _break(host: places.Host, address: str, port: int) -> None:
    """Break the connections that a host has to there."""
    subprocess.run(
        [*host.prefix, servers.found("ss"), "-4", "-t", "-K", "dst", address, "dport", "=", f":{port}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
