"""Private PostgreSQL servers: Debian's package, ready in a tenth of a second.

    with postgresql.PostgreSql() as server:
        engine = engines.open(server.database())
        server.kill()

All methods block; call them in a thread where an event loop must go on. What is committed is on the disk, as by default.
`sql` needs no driver: it asks by the product's own client, as the superuser, over the server's socket. Killing and freezing
are for the server and all processes that serve its connections: a crash as the machine's.
"""

from __future__ import annotations

import functools
import itertools
import re
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

from callboard.kit import ports
from callboard.testing.engines import ground, servers

PACKAGES = ("postgresql",)

ACCOUNT = "postgres"
USER = "callboard"
PASSWORD = "open-sesame"
"""Of the user that URLs name; it owns its databases. The superuser `postgres` has no password, over the socket."""
START_SECONDS = 30.0
_HOME = Path("/usr/lib/postgresql")
_INSTALL = (
    "--username=postgres",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
)
_USERS = (f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'", f"CREATE DATABASE {USER} OWNER {USER} TEMPLATE template0")
_SETTINGS = (
    *("listen_addresses=127.0.0.1", "shared_buffers=64MB", "max_connections=300", "log_checkpoints=off"),
    # Else a crash leaves its shared memory in /dev/shm, where nobody looks.
    "dynamic_shared_memory_type=mmap",
)
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


def installed() -> str | None:
    """Return None when servers can be started here, else what is missing, in a line."""
    for name in ("postgres", "initdb", "psql"):
        if _program(name) is None:
            return f"there is no {name}"
    return None if ground.known(ACCOUNT) else f"there is no user {ACCOUNT}"


class PostgreSql(servers.Server, servers.Stood):
    """A single server. `with` starts it and takes it away. `settings` come after ours, like `fsync=off`."""

    farewell = signal.SIGINT

    def __init__(self, *settings: str) -> None:
        self._ground = ground.Ground()
        self._names = (f"{USER}_{number}" for number in itertools.count(1))
        self.data = self._ground.copied(_template(self._ground), "postgresql")
        (self.port,) = ports.free()
        where = (f"port={self.port}", f"unix_socket_directories={self.data}")
        given = [part for setting in (*where, *_SETTINGS, *_quick_recovery(), *settings) for part in ("-c", setting)]
        command = [_found("postgres"), "-D", str(self.data), *given]
        super().__init__(self._ground.directory, "postgresql", command, account=ground.account(ACCOUNT))

    def url(self, database: str = USER) -> str:
        """Return the address of a database."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Make a new empty database, return its address."""
        name = next(self._names)
        self.sql(f"CREATE DATABASE {name} OWNER {USER} TEMPLATE template0")
        return self.url(name)

    def sql(self, text: str, database: str = "postgres", seconds: float = 10) -> list[tuple[str, ...]]:
        """Run statements as the superuser; return the rows as text. RuntimeError with what the server said; TimeoutError when it
        says nothing."""
        quiet = ("--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--field-separator=\t", "--set=ON_ERROR_STOP=1")
        where = (f"--host={self.data}", f"--port={self.port}", "--username=postgres", f"--dbname={database}")
        return self.asked([_found("psql"), *quiet, *where], text, seconds)

    def greets(self, seconds: float = 0.5) -> bool:
        """Whether it takes connections: it answers a question that every client may ask first."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
                connection.sendall(_SSL_REQUEST)
                return bool(connection.recv(1))
        except OSError:
            return False

    def start(self) -> None:
        """Start it, if it does not run, and wait until it serves. TimeoutError with what it said."""
        if not self.running:
            (self.data / "postmaster.pid").unlink(missing_ok=True)  # Whoever has that pid now, it is not the server.
            super().start()
        try:
            servers.wait_for(self._serves, "postgresql serves", START_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.said()}") from None

    def mend(self) -> None:
        """Let it serve again, whatever was done to it: frozen, killed, or set for all (ALTER SYSTEM) or for our user."""
        self.cont()
        self.start()
        settings = self.data / "postgresql.auto.conf"
        if any(not line.startswith("#") for line in settings.read_text().splitlines()):
            settings.write_text("")
            self.restart()
        self.sql(f"ALTER ROLE {USER} RESET ALL")

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it and remove its data. Allowed twice."""
        self.kill()
        self._ground.clear()

    def _serves(self) -> bool:
        """It answers while it still recovers; only its own file tells when it lets somebody in."""
        if not self.running:
            raise TimeoutError("postgresql ended")
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready" and self.greets()


def _template(here: ground.Ground) -> Path:
    """Return the data that every server starts from: empty, with our user."""
    return here.template(f"postgresql-{_version()}-{ground.recipe(*_INSTALL, *_USERS)}", lambda data: _fill(here, data))


def _fill(here: ground.Ground, data: Path) -> None:
    account = ground.account(ACCOUNT)
    if account is not None:
        shutil.chown(data, account)
    surroundings = servers.surroundings(here.directory, account)
    made = subprocess.run([_found("initdb"), f"--pgdata={data}", *_INSTALL], capture_output=True, text=True, **surroundings)
    if made.returncode != 0:
        raise RuntimeError(f"{made.stdout}{made.stderr}".strip())
    # Without a server: a single process takes one statement a line.
    subprocess.run(
        [_found("postgres"), "--single", "-D", str(data), "postgres"],
        input="".join(f"{statement};\n" for statement in _USERS),
        text=True,
        check=True,
        capture_output=True,
        **surroundings,
    )


def _quick_recovery() -> tuple[str, ...]:
    """After a crash the file system is synced at once, not file by file: half a second."""
    return ("recovery_init_sync_method=syncfs",) if int(_version().split(".")[0]) >= 14 else ()


@functools.cache
def _version() -> str:
    said = subprocess.run([_found("postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\d+(\.\d+)*", said)
    return match[0] if match else "0"


def _program(name: str) -> str | None:
    """Debian keeps each version's programs together, out of PATH: the newest's."""
    kept = [path for path in _HOME.glob(f"*/bin/{name}") if path.parents[1].name.isdigit()]
    newest = max(kept, key=lambda path: int(path.parents[1].name), default=None)
    return str(newest) if newest else servers.program(name)


def _found(name: str) -> str:
    path = _program(name)
    if path is None:
        raise FileNotFoundError(f"there is no {name}")
    return path
