"""Private ZooKeeper ensembles: Debian's package, a JVM a server, ready in about a second and a half.

    with zookeeper.Ensemble() as ensemble:
        engine = engines.open(ensemble.url("/trial"))
        ensemble.kill(ensemble.leader())

All methods block; call them in a thread where an event loop must go on. Sessions may ask for 0.4 to 4 seconds times
`tick_milliseconds` / 200. Servers do not force their log to the disk unless asked to: they outlive kills, not a power cut.

Another release than Debian's runs where CALLBOARD_TEST_ZOOKEEPER_JARS names the folder that holds it with all it needs: `lib`
in Apache's archives.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from callboard.kit import ports
from callboard.rpc import certs
from callboard.testing.engines import ground, places, servers

PACKAGES = ("zookeeper",)
_JARS = (Path("/usr/share/java/zookeeper.jar"), Path("/usr/share/java/slf4j-jdk14.jar"))
"""The first one's manifest names all else that it needs, but for TLS."""
_TLS_JARS = tuple(Path(f"/usr/share/java/netty-{part}.jar") for part in ("codec", "resolver", "transport-native-unix-common"))
_RELEASE = "CALLBOARD_TEST_ZOOKEEPER_JARS"
_JAVA = (
    *("-Xms32m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"),
    "-Dzookeeper.jmx.log4j.disable=true",
)
_START_SECONDS = 30.0
_TLS_HOST = "localhost"
"""The name that the servers' certificate bears."""


def installed() -> str | None:
    """Return None when ensembles can be started here, else what is missing, in a line."""
    if shutil.which("java") is None:
        return "there is no java"
    absent = [path for path in _jars() if not path.exists()]
    return f"{absent[0]} is missing" if absent else None


def _jars() -> Sequence[Path]:
    if (folder := os.environ.get(_RELEASE)) is None:
        return (*_JARS, *_TLS_JARS)
    return sorted(Path(folder).glob("*.jar")) or [Path(folder, "*.jar")]


class Member(servers.Server):
    """One server of an ensemble."""

    def __init__(
        self, directory: Path, number: int, port: int, host: places.Host | None = None, options: Sequence[str] = ()
    ) -> None:
        """`host` is where it runs: this machine, if none is given; `options` are for its JVM."""
        self.port = port
        self.tls_port = 0
        """Where it speaks TLS; 0 where it does not."""
        self.address = host.address if host else "127.0.0.1"
        self.settings = directory / f"zookeeper-{number}.cfg"
        classpath = ":".join(map(str, _jars()))
        main = ("org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self.settings))
        super().__init__(
            directory, f"zookeeper-{number}", [*(host.prefix if host else ()), "java", *_JAVA, *options, "-cp", classpath, *main]
        )

    def mode(self) -> str:
        """What it says of itself: `leader`, `follower`, `standalone`; empty when it does not serve."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return ""

    def ask(self, word: str) -> str:
        """Return the answer to one of ZooKeeper's four-letter words; empty when there is none."""
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=0.5) as connection:
            connection.sendall(word.encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer.decode()
        return ""


class Ensemble:
    """Servers that elect a leader among them. `with` starts and stops it."""

    def __init__(
        self,
        size: int = 3,
        *,
        tick_milliseconds: int = 200,
        sync: bool = False,
        login: Mapping[str, str] | None = None,
        tls: bool = False,
        mutual: bool = False,
        hosts: Sequence[places.Host] = (),
    ) -> None:
        """`sync`: every write is forced to the disk, as in earnest. `login`: users with their passwords, who log in by SASL;
        without one of them nobody does anything. `tls`: each server has a second port, `tls_port`, for TLS; `mutual`: there it
        asks for a certificate, too. `hosts` are where its servers run, one each, instead of this machine."""
        self._ground = ground.Ground()
        free = ports.free(4 * size)
        here = self._ground.directory
        self.certificates = here / "certificates"
        """The authority of the cluster and what it signed: see `rpc.certs.files`."""
        options = [] if sync else ["-Dzookeeper.forceSync=no"]
        lines: list[str] = []
        if login:
            lines += _SASL
            options.append(f"-Djava.security.auth.login.config={_users(here / 'users.conf', login)}")
        if tls:
            lines += _tls(self.certificates, mutual)
        self.members = [
            Member(here, n, port, host, options) for n, (port, host) in enumerate(itertools.zip_longest(free[:size], hosts), 1)
        ]
        ways = zip(self.members, free[size : 2 * size], free[2 * size : 3 * size], strict=True)
        peers = [f"server.{n}={member.address}:{one}:{other}" for n, (member, one, other) in enumerate(ways, 1)]
        for number, (member, port) in enumerate(zip(self.members, free[3 * size :], strict=True), 1):
            member.tls_port = port if tls else 0
            data = here / f"data-{number}"
            data.mkdir()
            (data / "myid").write_text(str(number))
            member.settings.write_text(_settings(data, member, tick_milliseconds, [*lines, *(peers if size > 1 else [])]))

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
        return ",".join(f"{member.address}:{member.port}" for member in self.members)

    @property
    def tls_hosts(self) -> str:
        """Where clients connect that speak TLS."""
        return ",".join(f"{_TLS_HOST}:{member.tls_port}" for member in self.members)

    def url(self, root: str = "", login: str = "") -> str:
        """Return the address for `engines.open`; `root`, like `/trial`, keeps uses apart; `login` is USER:PASSWORD."""
        return f"zookeeper://{login}{'@' if login else ''}{self.hosts}{root}"

    def tls_url(self, root: str = "", login: str = "", server: str = "") -> str:
        """As `url`, by TLS; `server` names a certificate of this ensemble's authority to show, which is made if need be."""
        ca, _ = certs.files(self.certificates, certs.AUTHORITY)
        shown = ""
        if server:
            certificate, key = certs.files(self.certificates, server)
            if not certificate.exists():
                certs.issue(self.certificates, server)
            shown = f"&cert={certificate}&key={key}"
        return f"zookeeper://{login}{'@' if login else ''}{self.tls_hosts}{root}?tls=true&ca={ca}{shown}"

    def start(self) -> None:
        """Start every server that does not run, and wait until all serve."""
        for member in self.members:
            member.start()
        self.wait_ready()

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Wait until one leads and all others follow. Raises TimeoutError with what the servers said."""
        try:
            servers.wait_for(lambda: self._ready(self.members), "the ensemble serves", seconds)
        except TimeoutError as error:
            raise TimeoutError("\n".join([str(error), *(member.said() for member in self.members)])) from None

    def leader(self) -> Member:
        """Return the server that leads. Raises TimeoutError when none does within 10 s."""
        return servers.wait_for(lambda: next(iter(self._of_mode("leader", "standalone")), None), "a server leads", 10)

    def followers(self) -> list[Member]:
        """Return the servers that follow just now."""
        return self._of_mode("follower")

    @contextlib.contextmanager
    def maintain(self, member: Member) -> Iterator[None]:
        """Take a server down as for maintenance: it is asked to end, the others go on; at the end it is back and serves."""
        member.stop()
        servers.wait_for(lambda: self._ready(self._running()), "the others serve", _START_SECONDS)
        yield
        self.start()

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

    def _running(self) -> list[Member]:
        return [member for member in self.members if member.running]

    def _ready(self, members: Sequence[Member]) -> bool:
        modes = sorted(member.mode() for member in members)
        return modes in (["standalone"], ["follower"] * (len(members) - 1) + ["leader"])

    def _of_mode(self, *modes: str) -> list[Member]:
        return [member for member in self.members if member.mode() in modes]


def _settings(data: Path, member: Member, tick_milliseconds: int, peers: Iterable[str]) -> str:
    lines = [
        f"tickTime={tick_milliseconds}",
        "initLimit=50",
        "syncLimit=10",
        f"dataDir={data}",
        f"clientPort={member.port}",
        f"clientPortAddress={member.address}",
        "admin.enableServer=false",
        "4lw.commands.whitelist=srvr,ruok,cons",
        "maxClientCnxns=0",
        *([f"secureClientPort={member.tls_port}", f"secureClientPortAddress={member.address}"] if member.tls_port else []),
        *peers,
    ]
    return "\n".join(lines) + "\n"


_SASL = (
    "authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
    "sessionRequireClientSASLAuth=true",
)


def _users(path: Path, login: Mapping[str, str]) -> Path:
    """Write who may log in, as Java reads it."""
    known = " ".join(f'user_{name}="{password}"' for name, password in login.items())
    path.write_text(f"Server {{ org.apache.zookeeper.server.auth.DigestLoginModule required {known}; }};\n")
    return path


def _tls(directory: Path, mutual: bool) -> list[str]:
    """Make an authority and the servers' certificate; return the settings for it."""
    authority = certs.init(directory)
    made = certs.issue(directory, _TLS_HOST)
    both = directory / "server-with-key.pem"
    both.touch(mode=0o600)
    both.write_bytes(made.key.read_bytes() + made.certificate.read_bytes())
    return [
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={both}",
        f"ssl.trustStore.location={authority.certificate}",
        f"ssl.clientAuth={'need' if mutual else 'none'}",
    ]
