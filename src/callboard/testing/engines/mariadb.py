"""Private MariaDB servers: Debian's package, ready in a quarter of a second.

    with mariadb.MariaDb() as server:
        engine = engines.open(server.database())
        server.kill()

All methods block; call them in a thread where an event loop must go on. What is committed is on the disk, as by default.
`sql` needs no driver: it asks by the product's own client, as root, over the server's socket.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import re
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path

from callboard.kit import ports
from callboard.testing.engines import ground, places, servers

PACKAGES = ("mariadb-server",)
DRIVER_PACKAGES = ("libmariadb-dev", "pkg-config", "gcc")
HEADERS_PACKAGES = ("python3-dev",)

ACCOUNT = "mysql"
USER = "callboard"
PASSWORD = "open-sesame"
"""Of the user that URLs name, who may do anything with databases that begin with that name. Root has none, over the socket."""
START_SECONDS = 30.0
_SETTINGS = (
    *("--skip-name-resolve", "--performance-schema=OFF", "--max-connections=300"),
    *("--innodb-buffer-pool-size=128M", "--innodb-log-file-size=32M", "--key-buffer-size=1M", "--aria-pagecache-buffer-size=1M"),
    *("--innodb-flush-log-at-trx-commit=1", "--character-set-server=utf8mb4"),
)
_INSTALL = ("--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=32M")
OWN_USER = f"""
CREATE OR REPLACE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';
GRANT ALL PRIVILEGES ON `{USER}%`.* TO '{USER}'@'%';
CREATE DATABASE IF NOT EXISTS {USER};
"""
"""Makes the user that URLs name, with the rights that it begins with."""
_USERS = f"""
DELETE FROM mysql.global_priv WHERE NOT (User = 'root' AND Host = 'localhost') AND User <> 'mariadb.sys';
FLUSH PRIVILEGES;
{OWN_USER}
"""


def installed() -> str | None:
    """Return None when servers can be started here, else what is missing, in a line."""
    for program in ("mariadbd", "mariadb-install-db", "mariadb"):
        if servers.program(program) is None:
            return f"there is no {program}"
    return None if ground.known(ACCOUNT) else f"there is no user {ACCOUNT}"


def driver() -> str | None:
    """Return None when Python can connect, else what is missing, in a line."""
    return None if importlib.util.find_spec("MySQLdb") else "the Python package mysqlclient is missing"


def driver_installable() -> str | None:
    """Return None when the driver is there, or can be built by pip."""
    if driver() is None:
        return None
    for needed in ("gcc", "pkg-config"):
        if shutil.which(needed) is None:
            return f"there is no {needed}"
    found = subprocess.run(["pkg-config", "--exists", "libmariadb"]).returncode == 0
    return None if found else "MariaDB's client library is missing"


def headers() -> str | None:
    """Return None when the driver is there, or Python's headers are."""
    there = driver() is None or Path(sysconfig.get_paths()["include"], "Python.h").exists()
    return None if there else "Python.h is missing"


class Mysqld(servers.Server):
    """One server process on data that exists; `settings` are flags that come after ours, like `--read-only`.

    `host` is where it runs: this machine, if none is given. There root must enter it first, and the server leaves root itself.
    """

    def __init__(
        self, directory: Path, name: str, data: Path, port: int, *settings: str, host: places.Host | None = None
    ) -> None:
        self.data = data
        self.port = port
        self.address = host.address if host else "127.0.0.1"
        self._socket = data / "mariadb.sock"
        # A temporary directory of its own: a server that starts removes the temporary tables of all that share one.
        where = (f"--datadir={data}", f"--tmpdir={data}", f"--socket={self._socket}", f"--pid-file={data}/mariadb.pid")
        listens = (f"--bind-address={self.address}", f"--port={port}")
        enters = host.prefix if host else []
        becomes = [f"--user={ACCOUNT}"] if host else []
        ours = [servers.found("mariadbd"), "--no-defaults", *where, *listens, *becomes, *_SETTINGS]
        command = [*enters, *ours, *settings]
        super().__init__(directory, name, command, account=None if host else ground.account(ACCOUNT))

    def sql(self, text: str, database: str = "", seconds: float = 10) -> list[tuple[str, ...]]:
        """Run statements as root; return the rows as text. RuntimeError with what the server said; TimeoutError when it says
        nothing."""
        client = [
            servers.found("mariadb"),
            "--no-defaults",
            f"--socket={self._socket}",
            "--user=root",
            "--batch",
            "--skip-column-names",
            database,
        ]
        return self.asked(client, text, seconds)

    def greets(self, seconds: float = 0.5) -> bool:
        """Whether it takes connections: it speaks first."""
        try:
            with socket.create_connection((self.address, self.port), timeout=seconds) as connection:
                return bool(connection.recv(5))
        except OSError:
            return False


class MariaDb(Mysqld, servers.Stood):
    """A single server. `with` starts it and takes it away."""

    def __init__(self, *settings: str) -> None:
        self._ground = ground.Ground()
        data = self._ground.copied(template(self._ground), "mariadb")
        super().__init__(self._ground.directory, "mariadb", data, ports.free()[0], *settings)
        self._names = (f"{USER}_{number}" for number in itertools.count(1))
        self._variables: list[tuple[str, ...]] = []

    def url(self, database: str = USER) -> str:
        """Return the address of a database."""
        return f"mysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Make a new empty database, return its address."""
        name = next(self._names)
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Start it, if it does not run, and wait until it serves. TimeoutError with what it said."""
        super().start()
        wait_greeting(self)
        self._variables = self._variables or self._set()

    def mend(self) -> None:
        """Let it serve again, whatever was done to it: frozen, killed, or set globally to something else."""
        self.cont()
        self.start()
        if self._set() != self._variables:
            self.restart()

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it and remove its data. Allowed twice."""
        self.kill()
        self._ground.clear()

    def _set(self) -> list[tuple[str, ...]]:
        return self.sql("SHOW GLOBAL VARIABLES")


def wait_greeting(server: Mysqld, seconds: float = START_SECONDS) -> None:
    """Wait until a server takes connections. TimeoutError with what it said, at once when it ended."""

    def look() -> bool:
        if not server.running:
            raise TimeoutError(f"{server.name} ended:\n{server.said()}")
        return server.greets()

    try:
        servers.wait_for(look, f"{server.name} takes connections", seconds)
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{server.said()}") from None


def template(here: ground.Ground) -> Path:
    """Return the data that every server starts from: empty, with our user."""
    return here.template(f"mariadb-{version()}-{ground.recipe(*_INSTALL, _USERS)}", lambda data: _fill(here, data))


@functools.cache
def version() -> str:
    """Return the product's version, like `10.11.19`."""
    said = subprocess.run(
        [servers.found("mariadbd"), "--no-defaults", "--version"], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"\d+\.\d+\.\d+", said)
    return match[0] if match else "unknown"


def _fill(here: ground.Ground, data: Path) -> None:
    account = ground.account(ACCOUNT)
    if account is not None:
        shutil.chown(data, account)
    command = [servers.found("mariadb-install-db"), "--no-defaults", f"--datadir={data}", *_INSTALL]
    made = subprocess.run(command, capture_output=True, text=True, **servers.surroundings(here.directory, account))
    if made.returncode != 0:
        raise RuntimeError(f"{made.stdout}{made.stderr}".strip())
    server = Mysqld(here.directory, "template", data, ports.free()[0])
    server.start()
    try:
        wait_greeting(server)
        server.sql(_USERS)
    finally:
        server.stop(seconds=START_SECONDS)
