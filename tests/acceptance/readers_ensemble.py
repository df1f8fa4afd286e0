"""Three machines on which ZooKeeper was just installed, for the page about a store there: see `readers`.

What its page writes is what the servers are started with, the unit of systemd among it; names and ports of the page are ports of
this machine, and all certificates bear the name `localhost`.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from callboard.kit import ports
from callboard.testing.engines import ground, servers, zookeeper

ACCOUNT = "zookeeper"
START_SECONDS = 55
_PORTS = ("2181", "2281", "2888", "3888")


class FreshZooKeeper:
    """One of them, as Debian's package leaves it."""

    def __init__(self, here: Path, number: int, ports: Sequence[int]) -> None:
        self._here = here
        (here / "data").mkdir(parents=True, mode=0o750)
        (here / "conf").mkdir()
        (here / "data/myid").symlink_to(here / "conf/myid")
        self._account = ground.account(ACCOUNT)
        if self._account:
            shutil.chown(here / "data", self._account)
        self.number = number
        self.ports = dict(zip(_PORTS, ports, strict=True))
        self.names = {
            "/etc/zookeeper/conf": str(here / "conf"),
            "-Xms2g": "-Xms64m",
            "/etc/default": str(here),
            "/etc/systemd/system": str(here),
            "/var/lib/zookeeper": str(here / "data"),
            "clientPort=2181": f"clientPort={self.ports['2181']}",
            "secureClientPort=2281": f"secureClientPort={self.ports['2281']}",
        }
        self._server: servers.Server | None = None
        self.others: Sequence[FreshZooKeeper] = ()

    def do(self, verb: str) -> None:
        if verb in ("stop", "restart") and self._server:
            self._server.stop()
        if verb == "kill --signal=KILL" and self._server:
            self._server.kill()
        if verb in ("start", "restart", "enable --now"):
            self._server = servers.Server(self._here, f"zookeeper-{self.number}", self._command(), account=self._account)
            self._server.start()
            running = [each for each in self.others if each._running]
            if 2 * len(running) > len(self.others):
                servers.wait_for(lambda: all(each.mode for each in running), "a majority serves", START_SECONDS)

    def programs(self) -> Mapping[str, str]:
        return {}

    def close(self) -> None:
        if self._server:
            self._server.kill()

    @property
    def mode(self) -> str:
        """What it says of itself; empty when it does not serve."""
        assert self._running, self._server.said() if self._server else "it was not started"
        return zookeeper.Member(self._here, self.number, self.ports["2181"]).mode()

    @property
    def _running(self) -> bool:
        return self._server is not None and self._server.running

    def _command(self) -> list[str]:
        """What systemd would run."""
        unit = (self._here / "zookeeper.service").read_text()
        (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
        given = dict(line.split("=", 1) for line in (self._here / "zookeeper").read_text().splitlines())
        for name, value in given.items():
            line = line.replace(f"${name}", value)
        return shlex.split(line.removeprefix("ExecStart="))


class Machines:
    """Three of them, and what their names are here."""

    def __init__(self) -> None:
        self._ground = ground.Ground()
        free = ports.free(3 * len(_PORTS))
        size = len(_PORTS)
        self.servers = [FreshZooKeeper(self._ground.directory / f"zk{n}", n, free[size * (n - 1) : size * n]) for n in (1, 2, 3)]
        self.names: dict[str, str] = {}
        for each in self.servers:
            each.others = self.servers
            named, at = f"zk{each.number}", each.ports
            self.names |= {
                f"{named}:2888:3888": f"localhost:{at['2888']}:{at['3888']}",
                **{f"{named}{mark}{port}": f"localhost{mark}{at[port]}" for mark in ":/" for port in ("2181", "2281")},
                f"certs issue {named} ": "certs issue localhost ",
                f"certs/{named}": "certs/localhost",
            }

    def close(self) -> None:
        for each in self.servers:
            each.close()
        self._ground.clear()
