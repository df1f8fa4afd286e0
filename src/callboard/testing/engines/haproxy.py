"""A private HAProxy that passes connections on to the first of several servers that lives: ready in a tenth of a second.

    with galera.Cluster() as cluster, haproxy.HaProxy([member.port for member in cluster.members]) as proxy:
        engine = engines.open(proxy.url(cluster.database()))

For MySQL's protocol: a server lives when it greets. That is less than a Galera member's readiness, which only a login tells. One
server is active, the others stand by in their order. Or for ZooKeeper's: a server lives when it says that it leads or follows;
connections are spread over all of them. When a server goes down, its connections are cut.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from callboard.kit import ports
from callboard.testing.engines import ground, servers

PACKAGES = ("haproxy",)
START_SECONDS = 10.0
_UP = "UP"
_CHECKS = {
    "mysql": ["tcp-check connect", "tcp-check expect rbinary ^.{6}000A"],  # Packet 0, version 10 of the protocol.
    "zookeeper": ["tcp-check connect", "tcp-check send srvr", "tcp-check expect string Mode"],
}
Protocol = Literal["mysql", "zookeeper"]


def installed() -> str | None:
    """Return None when it can be started here, else what is missing, in a line."""
    return None if servers.program("haproxy") else "there is no haproxy"


class HaProxy(servers.Server, servers.Stood):
    """One proxy in front of ports of loopback. `with` starts it and takes it away."""

    def __init__(self, backends: Sequence[int], protocol: Protocol = "mysql") -> None:
        self._ground = ground.Ground()
        here = self._ground.directory
        (self.port,) = ports.free()
        self._socket = here / "haproxy.sock"
        settings = here / "haproxy.cfg"
        settings.write_text(_settings(self._socket, self.port, backends, protocol))
        super().__init__(here, "haproxy", [servers.found("haproxy"), "-f", str(settings), "-db"])

    def url(self, of: str) -> str:
        """Return the address of a store by way of the proxy, given its own."""
        return re.sub(r"(//(?:[^/@]*@)?)[^/?]+", rf"\g<1>127.0.0.1:{self.port}", of, count=1)

    def start(self) -> None:
        """Start it, if it does not run, and wait until it passes on. TimeoutError with what it said."""
        super().start()
        try:
            servers.wait_for(lambda: _UP in self.states().values(), "haproxy finds a server", START_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.said()}") from None

    def states(self) -> dict[str, str]:
        """What it thinks of each server: `UP`, `DOWN`, or on the way, like `UP 1/2`; nothing when it does not answer."""
        rows = [line.split(",") for line in self.ask("show stat").splitlines() if line and not line.startswith("#")]
        return {row[1]: row[17] for row in rows if row[1] not in ("FRONTEND", "BACKEND")}

    def ask(self, command: str) -> str:
        """Return the answer to one of its commands; empty when there is none."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(0.5)
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\n".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer.decode()
        return ""

    def close(self) -> None:
        """Kill it and remove its data. Allowed twice."""
        self.kill()
        self._ground.clear()


def _settings(control: Path, port: int, backends: Sequence[int], protocol: Protocol) -> str:
    spare = " backup" if protocol == "mysql" else ""
    lines = [
        "global",
        "  maxconn 1000",
        f"  stats socket {control} mode 600 level admin",
        "defaults",
        "  mode tcp",
        "  timeout connect 500ms",
        "  timeout check 500ms",
        "  timeout client 1h",
        "  timeout server 1h",
        "  retries 2",
        "  option redispatch 1",
        f"listen {protocol}",
        f"  bind 127.0.0.1:{port}",
        "  option tcp-check",
        *(f"  {check}" for check in _CHECKS[protocol]),
        "  default-server check inter 300ms fastinter 100ms rise 2 fall 2 on-marked-down shutdown-sessions",
        *(f"  server server-{n} 127.0.0.1:{each}{spare if n > 1 else ''}" for n, each in enumerate(backends, 1)),
    ]
    return "\n".join(lines) + "\n"
