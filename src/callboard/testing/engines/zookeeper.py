"""Private ZooKeeper ensembles: Debian's package, a JVM a server, ready in about a second and a half.

    with zookeeper.Ensemble() as ensemble:
        engine = engines.open(ensemble.url("/trial"))
        ensemble.kill(ensemble.leader())

All methods block; call them in a thread where an event loop must go on. Sessions may ask for 0.4 to 4 seconds times
`tick_milliseconds` / 200. Servers do not force their log to the disk: they outlive kills, not a power cut.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from callboard.testing.engines import ground, servers

PACKAGES = ("zookeeper",)
_JARS = (Path("/usr/share/java/zookeeper.jar"), Path("/usr/share/java/slf4j-jdk14.jar"))
"""The first one's manifest names all else that it needs."""
_JAVA = (
    *("-Xms32m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"),
    *("-Dzookeeper.forceSync=no", "-Dzookeeper.jmx.log4j.disable=true"),
)
_START_SECONDS = 30.0


def installed() -> str | None:
    """Return None when ensembles can be started here, else what is missing, in a line."""
    if shutil.which("java") is None:
        return "there is no java"
    absent = [path for path in _JARS if not path.exists()]
    return f"{absent[0]} is missing" if absent else None


class Member(servers.Server):
    """One server of an ensemble."""

    def __init__(self, directory: Path, number: int, port: int) -> None:
        self.port = port
        self.settings = directory / f"zookeeper-{number}.cfg"
        classpath = ":".join(map(str, _JARS))
        main = ("org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self.settings))
        super().__init__(directory, f"zookeeper-{number}", ["java", *_JAVA, "-cp", classpath, *main])

    def mode(self) -> str:
        """What it says of itself: `leader`, `follower`, `standalone`; empty when it does not serve."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return ""

    def ask(self, word: str) -> str:
        """Return the answer to one of ZooKeeper's four-letter words; empty when there is none."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as connection:
            connection.sendall(word.encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer.decode()
        return ""


class Ensemble:
    """Servers that elect a leader among them. `with` starts and stops it."""

    def __init__(self, size: int = 3, *, tick_milliseconds: int = 200) -> None:
        self._ground = ground.Ground()
        ports = servers.free_ports(3 * size)
        here = self._ground.directory
        self.members = [Member(here, number, port) for number, port in enumerate(ports[:size], 1)]
        peers = [f"server.{n}=127.0.0.1:{ports[size + n - 1]}:{ports[2 * size + n - 1]}" for n in range(1, size + 1)]
        for number, member in enumerate(self.members, 1):
            data = here / f"data-{number}"
            data.mkdir()
            (data / "myid").write_text(str(number))
            member.settings.write_text(_settings(data, member.port, tick_milliseconds, peers if size > 1 else []))

    def __enter__(self) -> Ensemble:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def hosts(self) -> str:
        """Where clients connect: `127.0.0.1:PORT,…`."""
        return ",".join(f"127.0.0.1:{member.port}" for member in self.members)

    def url(self, root: str = "") -> str:
        """Return the address for `coordination.engines.open`; `root`, like `/trial`, keeps uses apart."""
        return f"zookeeper://{self.hosts}{root}"

    def start(self) -> None:
        """Start every server that does not run, and wait until all serve."""
        for member in self.members:
            member.start()
        self.wait_ready()

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Wait until one leads and all others follow. Raises TimeoutError with what the servers said."""
        try:
            servers.wait_for(self._ready, "the ensemble serves", seconds)
        except TimeoutError as error:
            raise TimeoutError("\n".join([str(error), *(member.said() for member in self.members)])) from None

    def leader(self) -> Member:
        """Return the server that leads. Raises TimeoutError when none does within 10 s."""
        return servers.wait_for(lambda: next(iter(self._of_mode("leader", "standalone")), None), "a server leads", 10)

    def followers(self) -> list[Member]:
        """Return the servers that follow just now."""
        return self._of_mode("follower")

    def stop(self) -> None:
        """Kill all servers at once; their data stays: `start` brings them back."""
        for member in self.members:
            member.signal(signal.SIGKILL)
        for member in self.members:
            member.kill()

    def close(self) -> None:
        """Kill all servers and remove their data. Allowed twice."""
        self.stop()
        self._ground.clear()

    def _ready(self) -> bool:
        modes = sorted(member.mode() for member in self.members)
        return modes in (["standalone"], ["follower"] * (len(self.members) - 1) + ["leader"])

    def _of_mode(self, *modes: str) -> list[Member]:
        return [member for member in self.members if member.mode() in modes]


def _settings(data: Path, port: int, tick_milliseconds: int, peers: Iterable[str]) -> str:
    lines = [
        f"tickTime={tick_milliseconds}",
        "initLimit=50",
        "syncLimit=10",
        f"dataDir={data}",
        f"clientPort={port}",
        "clientPortAddress=127.0.0.1",
        "admin.enableServer=false",
        "4lw.commands.whitelist=srvr,ruok,cons",
        "maxClientCnxns=0",
        *peers,
    ]
    return "\n".join(lines) + "\n"
